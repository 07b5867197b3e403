"""The summary says what the report says, on every page for research only, and nothing of the patient."""

from __future__ import annotations

import base64
import re
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from dicom_node.results.document.pdf import write_pdf
from dicom_node.results.document.summary import draw_pages
from dicom_node.results.report import Refusal, Report
from tests.support.factories import chest, film
from tests.support.reports import EQUIPMENT, SIMILAR, finding, report_of


def pages(report: Report) -> list[str]:
    """Drawing operators of each page."""
    pixels = {source.sop_instance_uid: chest(96, 80) for source in report.sources}
    content = write_pdf(report, pixels, equipment=EQUIPMENT).EncapsulatedDocument
    return [page.decode("latin-1") for page in streams(content) if b"BT" in page]


def streams(content: bytes) -> list[bytes]:
    """Streams of a PDF: drawing operators and pictures."""
    found = re.findall(rb"/ASCII85Decode /FlateDecode ?\][^>]*>>\s*stream\s(.*?)endstream", content, re.S)
    return [zlib.decompress(base64.a85decode(b"<~" + item.strip(), adobe=True)) for item in found]


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


@pytest.mark.parametrize("mapped", [True, False], ids=["under a map", "alone"])
@pytest.mark.parametrize(
    ("ratio", "elements"), [(2, {"PixelAspectRatio": ["2", "1"]}), (0.5, {"PixelSpacing": ["0.2", "0.4"]})]
)
def test_a_circle_is_round_whatever_the_shape_of_the_film_s_pixels(
    ratio: float, elements: dict[str, Any], mapped: bool
) -> None:
    source = film(rows=300, columns=400, **elements)
    y, x = np.mgrid[:300, :400]
    circle = (((y - 150) * ratio) ** 2 + (x - 200) ** 2 <= 50**2).astype(np.float32)
    report = report_of(source) if mapped else report_of(source, findings=[finding()])
    content = draw_pages(report, {str(source.SOPInstanceUID): circle})
    rows, columns = (int(re.search(rb"/%s (\d+)" % side, content)[1]) for side in (b"Height", b"Width"))  # type: ignore[index]
    shown = next(
        np.frombuffer(found, np.uint8).reshape(rows, columns, 3)
        for found in streams(content)
        if len(found) == 3 * rows * columns
    )
    first = shown[rows // 8 : rows - rows // 8, : columns * 2 // 5 if mapped else columns]
    bright = first.min(axis=2) > 127
    down, across = np.count_nonzero(bright.any(axis=1)), np.count_nonzero(bright.any(axis=0))
    assert across > 80
    assert down / across == pytest.approx(1, abs=0.02)
    (width, height), *_ = (
        (float(found[1]), float(found[2]))
        for page in streams(content)
        if (found := re.search(rb"([\d.]+) 0 0 ([\d.]+) [\d.]+ [\d.]+ cm\s+/FormXob", page))
    )
    assert width / height == pytest.approx(columns / rows, rel=0.002)
