"""A findings SR is read back as it was meant."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace

import pytest
from pydicom import Dataset, dcmread

from dicom_node.results import codes
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.report import Refusal
from dicom_node.results.sr import parser
from dicom_node.results.sr.document import Predecessor
from dicom_node.results.sr.findings import write_sr
from tests.support import factories
from tests.support.reports import EQUIPMENT, report_of


def read_back(report: object) -> Dataset:
    return dcmread(io.BytesIO(encoded(write_sr(report, equipment=EQUIPMENT))))  # type: ignore[arg-type]


def test_every_answer_comes_back_with_its_scale_and_threshold() -> None:
    report = report_of(factories.film())
    said = parser.parse_findings(read_back(report))
    assert [answer.key for answer in said] == [finding.key for finding in report.findings]
    for answer, finding in zip(said, report.findings, strict=True):
        assert answer.presence is finding.presence
        assert answer.threshold == pytest.approx(finding.threshold, rel=1e-5)
        if finding.certainty is None:
            assert (answer.certainty, answer.score) == (None, pytest.approx(finding.score, rel=1e-5))
        else:
            assert (answer.certainty, answer.score) == (pytest.approx(finding.certainty, rel=1e-5), None)
    assert {answer.certainty is None for answer in said} == {True, False}


@pytest.mark.parametrize("reason", ["not_chest", "no_text"])
def test_a_refusal_comes_back_as_its_reason_and_without_answers(reason: str) -> None:
    sr = read_back(report_of(factories.film(), refusal=Refusal(reason, "why")))
    assert parser.parse_findings(sr) == ()
    assert parser.parse_refusal(sr) == reason
    assert codes.REFUSALS[reason].code.value in str(sr)
    assert parser.parse_refusal(read_back(report_of(factories.film()))) is None


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_the_report_in_force_is_the_one_that_none_replaces(order: tuple[int, ...]) -> None:
    written: list[Dataset] = []
    for revision in (1, 2, 3):
        before = None
        if written:
            last = written[-1]
            before = Predecessor(last.SeriesInstanceUID, last.SOPClassUID, last.SOPInstanceUID)
        report = replace(report_of(factories.film()), revision=revision)
        written.append(write_sr(report, equipment=EQUIPMENT, predecessor=before))
    assert parser.current_report([written[place] for place in order]) is written[-1]
    assert parser.current_report([]) is None


def test_images_that_no_model_read_are_counted() -> None:
    blank = factories.film(instance=2)
    assert parser.excluded_images(read_back(report_of(factories.film()))) == 0
    assert parser.excluded_images(read_back(report_of(factories.film(), excluded=[(blank, "blank")]))) == 1


def test_what_is_no_report_says_nothing() -> None:
    assert parser.parse_findings(Dataset()) == ()
    assert parser.parse_refusal(Dataset()) is None
