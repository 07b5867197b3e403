"""Codes are those of the standard, and every reason that is given has one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts

import dicom_node
from dicom_node.results import codes
from dicom_node.results.report import Code, Presence
from dicom_node.results.validation import has_check_digit

PACKAGE = Path(dicom_node.__file__).parent


def all_codes() -> Iterator[tuple[str, Code]]:
    for name, value in vars(codes).items():
        found = value.values() if isinstance(value, dict) else [value]
        for item in found:
            code = item.code if isinstance(item, codes.Reason) else item
            if isinstance(code, Code):
                yield name, code


CODES = dict.fromkeys(all_codes())

# Not in pydicom's dictionary, or there under another of its names: checked in PS3.16 and by check digit.
ELSEWHERE = {
    Code("C0034375", "UMLS", "Qualitative Evaluations"),
    Code("705057003", "SCT", "Presence"),
    Code("260753009", "SCT", "Source"),
    Code("en", "RFC5646", "English"),
    Code("276214006", "SCT", "Finding category"),
}


@pytest.mark.parametrize(("name", "code"), CODES, ids=lambda value: getattr(value, "value", value))
def test_value_and_meaning_belong_together(name: str, code: Code) -> None:
    if code.scheme == codes.PRIVATE_SCHEME or code in ELSEWHERE:
        return
    meanings = {entry[code.value][0] for entry in concepts[code.scheme].values() if code.value in entry}
    assert code.meaning in meanings, name


@pytest.mark.parametrize(("name", "code"), CODES, ids=lambda value: getattr(value, "value", value))
def test_snomed_codes_carry_their_check_digit(name: str, code: Code) -> None:
    assert code.scheme != "SCT" or has_check_digit(code.value), name


def test_no_private_code_means_two_things() -> None:
    meanings: dict[str, set[str]] = {}
    for _, code in CODES:
        if code.scheme == codes.PRIVATE_SCHEME:
            meanings.setdefault(code.value, set()).add(code.meaning)
    assert {value for value, found in meanings.items() if len(found) > 1} == set()


def test_every_reason_that_the_package_gives_has_a_code() -> None:
    refusing = {"NotAnalysable", "Eligibility", "Refusal"}
    given = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in refusing:
                first = next(iter(node.args), None)
                if isinstance(first, ast.Constant) and isinstance(first.value, str):
                    given.add(first.value)
    assert {"blank", "undecodable", "duplicate"} <= given
    assert given <= set(codes.REFUSALS)


def test_every_answer_has_its_code() -> None:
    assert set(codes.PRESENCES) == set(codes.NORMALITIES) == set(Presence)


def test_reasons_are_sentences() -> None:
    for key, reason in codes.REFUSALS.items():
        assert reason.sentence.endswith("."), key
        assert reason.code.scheme == codes.PRIVATE_SCHEME, key


@pytest.mark.parametrize(
    ("value", "scheme", "meaning"),
    [("", "SCT", "x"), ("1" * 17, "SCT", "x"), ("1", "", "x"), ("1", "SCT", "x" * 65)],
)
def test_a_code_that_dicom_cannot_hold_cannot_be_made(value: str, scheme: str, meaning: str) -> None:
    with pytest.raises(ValueError, match="not a valid code"):
        Code(value, scheme, meaning)


@pytest.mark.parametrize("finding", [codes.NORMALITIES[Presence.PRESENT], codes.FINDING])
def test_a_finding_has_a_category_of_the_group_of_segmented_properties(finding: Code) -> None:
    category = codes.finding_category(finding)
    _, groups = next(entry[category.value] for entry in concepts["SCT"].values() if category.value in entry)
    assert 7150 in groups


def test_a_normal_film_has_no_abnormal_structure() -> None:
    assert codes.finding_category(Code("17621005", "SCT", "Normal")) == codes.ANATOMICAL_STRUCTURE
    assert codes.finding_category(Code("8186001", "SCT", "Cardiomegaly")) == codes.ABNORMAL_STRUCTURE
