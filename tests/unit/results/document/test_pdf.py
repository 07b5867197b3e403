"""The summary says what the report says, on every page for research only, and nothing of the patient."""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import replace

from dicom_node.results.document.pdf import write_pdf
from dicom_node.results.report import Refusal, Report
from tests.support.factories import chest, film
from tests.support.reports import EQUIPMENT, SIMILAR, finding, report_of


def pages(report: Report) -> list[str]:
    """Drawing operators of each page."""
    pixels = {source.sop_instance_uid: chest(96, 80) for source in report.sources}
    content = write_pdf(report, pixels, equipment=EQUIPMENT).EncapsulatedDocument
    streams = re.findall(
        rb"/ASCII85Decode /FlateDecode ?\] /Length \d+\s*>>\s*stream\s(.*?)endstream", content, re.S
    )
    drawn = [zlib.decompress(base64.a85decode(b"<~" + item.strip(), adobe=True)) for item in streams]
    return [page.decode("latin-1") for page in drawn if b"BT" in page]


def test_every_page_says_what_it_is_for_and_nobody_is_named() -> None:
    many = [finding(f"label{number}", f"Label {number}") for number in range(60)]
    found = pages(report_of(film(rows=96, columns=80), findings=many, similar=SIMILAR))
    assert len(found) >= 2
    for page in found:
        assert "RESEARCH USE ONLY - not for diagnosis" in page
        for identity in ("Doe", "Jane", "PAT-1", "ACC-1", "1970"):
            assert identity not in page
    assert all(f"Label {number}" in "".join(found) for number in range(60))


def test_findings_similar_cases_and_identities_are_there() -> None:
    text = "".join(pages(report_of(film(rows=96, columns=80), similar=SIMILAR)))
    for words in (
        "Cardiomegaly",
        "81.2 %",
        "0.310",
        "openi:CXR1234",
        "weights_sha256",
        "calibration=77aa",
        "Limits",
    ):
        assert words in text


def test_a_refusal_says_why_and_letters_beyond_the_fonts_do_no_harm() -> None:
    text = "".join(
        pages(
            report_of(
                excluded=[
                    (film(rows=96, columns=80), "the header names <another> body part: Кисть 手 & foot")
                ],
                refusal=Refusal("body_part", "no chest film"),
            )
        )
    )
    assert "Not a chest examination" in text
    assert "another" in text
    assert "foot" in text
    assert "&lt;" not in text


def test_what_was_set_aside_to_read_a_film_is_said() -> None:
    report = report_of(film(rows=96, columns=80))
    assert "How images were read" not in "".join(pages(report))
    remarked = replace(report.sources[0], remarks=("window 1 was set aside",))
    text = "".join(pages(replace(report, sources=(remarked,))))
    assert "How images were read" in text
    assert "window 1 was set aside" in text
