"""Feedback of a reader as a Structured Report."""

from __future__ import annotations

import io

import pytest
from highdicom.sr import Comprehensive3DSR, srread
from pydicom import Dataset, dcmread

from dicom_node.errors import EncodingFailed
from dicom_node.results import codes, content_rules
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.report import Report
from dicom_node.results.sr.feedback import Judgement, write_feedback
from dicom_node.results.sr.findings import write_sr
from dicom_node.results.validation import find_mistakes
from tests.support import factories
from tests.support.reports import EQUIPMENT, report_of


def written(report: Report, said: dict[str, Judgement], reader: str = "rita") -> Dataset:
    judged = write_sr(report, equipment=EQUIPMENT)
    ds = write_feedback(report, said, reader=reader, judged=judged, equipment=EQUIPMENT)
    return dcmread(io.BytesIO(encoded(ds)))


def values(ds: Dataset, name: str) -> list[str]:
    found = []
    for item in content_rules.descendants(ds):
        if content_rules.name_of(item) == name:
            code = item.get("ConceptCodeSequence")
            found.append(str(code[0].CodeValue if code else item.get("TextValue") or item.get("PersonName")))
    return found


def test_each_judgement_stands_in_a_group_of_the_finding_it_is_of() -> None:
    report = report_of(factories.film())
    first, second = report.findings[0], report.findings[-1]
    said = {first.key: Judgement("agree"), second.key: Judgement("disagree", "Überlagerung, 肺")}
    ds = written(report, said)
    assert list(find_mistakes(ds, ours=True)) == []
    assert values(ds, codes.OBSERVER_TYPE.value) == [codes.PERSON.value]
    assert values(ds, codes.PERSON_NAME.value) == ["rita"]
    assert values(ds, codes.READER_VERDICT.value) == ["AGREE", "DISAGREE"]
    assert values(ds, codes.COMMENT.value) == ["Überlagerung, 肺"]
    model = report.algorithm.name if report.algorithm else ""
    assert values(ds, codes.TRACKING_IDENTIFIER.value) == [f"{model}/{first.key}", f"{model}/{second.key}"]
    assert "RESEARCH USE ONLY" in ds.SeriesDescription
    assert codes.FEEDBACK_USE in values(ds, codes.INTENDED_USE_STATEMENT.value)
    judged = write_sr(report, equipment=EQUIPMENT)
    assert judged.SOPInstanceUID in str(ds.CurrentRequestedProcedureEvidenceSequence)
    assert isinstance(srread(io.BytesIO(encoded(ds))), Comprehensive3DSR)


def test_two_readers_write_two_reports_and_one_the_same_again() -> None:
    report = report_of(factories.film())
    said = {report.findings[0].key: Judgement("unsure")}
    one, same, other = written(report, said), written(report, said), written(report, said, "ada")
    assert encoded(one) == encoded(same)
    assert one.SeriesInstanceUID != other.SeriesInstanceUID
    assert one.SOPInstanceUID != other.SOPInstanceUID


def test_a_comment_alone_is_no_verdict() -> None:
    report = report_of(factories.film())
    ds = written(report, {report.findings[0].key: Judgement("none", "a rib")})
    assert values(ds, codes.READER_VERDICT.value) == []
    assert values(ds, codes.COMMENT.value) == ["a rib"]


def test_nothing_said_is_no_report() -> None:
    with pytest.raises(EncodingFailed, match="no finding"):
        written(report_of(factories.film()), {"nowhere": Judgement("agree")})
