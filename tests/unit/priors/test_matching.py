from __future__ import annotations

import pytest
from pydicom.dataset import Dataset

from dicom_node.priors.matching import (
    PatientIdentity,
    PatientStudy,
    holds_frontal_film,
    may_hold_films,
    prior_candidates,
)
from tests.support.factories import film, header, put

JANE = PatientIdentity("PAT-1", birth_date="19700101")


def at(taken: str, uid: str = "1.1") -> PatientStudy:
    return PatientStudy(uid, JANE, taken)


@pytest.mark.parametrize(
    ("earlier", "later", "before"),
    [
        ("20240101", "20240102", True),
        ("20240101", "20240101", False),
        ("20240101", "20240101101500", False),  # at some time of the same day
        ("20240101101459", "20240101101500", True),
        ("202401011014", "20240101101500", True),
        ("20240102", "20240101", False),
        ("20221231", "20240101", False),  # 366 days
        ("20230101", "20240101", True),
        ("", "20240101", False),
        ("20240101", "", False),
    ],
)
def test_only_what_was_surely_earlier_and_not_too_long_ago_counts(
    earlier: str, later: str, before: bool
) -> None:
    assert at(earlier).is_before(at(later), 365) is before


@pytest.mark.parametrize(
    ("taken", "days", "span"),
    [
        ("20240101101500", 365, ("20230101", "20240101")),
        ("20240301", 1, ("20240229", "20240301")),
        ("00010105", 10**9, ("00010101", "00010105")),
        ("", 365, ("", "")),
        ("2024", 365, ("", "")),
    ],
)
def test_the_days_of_a_possible_prior_end_with_that_of_the_study(
    taken: str, days: int, span: tuple[str, str]
) -> None:
    assert at(taken).span(days) == span


def test_an_answer_without_a_study_instance_uid_is_no_prior() -> None:
    assert prior_candidates(at("20240101", "1.9"), [at("20230101", "")], 1000) == []


def test_the_newest_comes_first() -> None:
    others = [at("20230101", "1.1"), at("20230301", "1.3"), at("20230201", "1.2")]
    found = prior_candidates(at("20240101", "1.9"), others, 1000)
    assert [each.study_instance_uid for each in found] == ["1.3", "1.2", "1.1"]


def test_a_film_says_whose_it_is_and_when_it_was_taken() -> None:
    found = PatientStudy.of(film(IssuerOfPatientID="CLINIC"))
    assert found.patient == PatientIdentity("PAT-1", "CLINIC", "19700101")
    assert found.taken == "20240229101530"


@pytest.mark.parametrize(
    ("values", "may"),
    [
        ({}, True),
        ({"ModalitiesInStudy": ["SR", "CR"]}, True),
        ({"ModalitiesInStudy": "CT"}, False),
        ({"ModalitiesInStudy": "DX", "StudyDescription": "Hand left"}, False),
        ({"Modality": "DX", "BodyPartExamined": "CHEST"}, True),
        ({"Modality": "SR"}, False),
    ],
)
def test_what_a_query_says_of_a_study_decides_whether_it_is_fetched(
    values: dict[str, object], may: bool
) -> None:
    assert may_hold_films(put(Dataset(), values)) is may


def test_a_prior_needs_a_frontal_chest_film() -> None:
    lateral, hand = header(film(view="LL")), header(film(body_part="HAND", instance=2))
    assert not holds_frontal_film([])
    assert not holds_frontal_film([lateral, hand])
    assert holds_frontal_film([lateral, header(film(view=None, instance=3))])


@pytest.mark.parametrize(
    ("elements", "taken"),
    [
        ({"StudyDate": "2026.01.02"}, "20260102101530"),
        ({"StudyDate": "2026-01-02", "StudyTime": "10:15"}, "202601021015"),
        ({"StudyDate": "20260102101530.5+0100", "StudyTime": "99:99"}, "20260102"),
        ({"StudyDate": "20261345"}, ""),
        ({"StudyTime": "000000"}, "20240229000000"),
    ],
)
def test_dates_of_every_form_order_studies(elements: dict[str, str], taken: str) -> None:
    assert PatientStudy.of(film(**elements)).taken == taken


def test_a_backslash_does_not_cut_an_identifier() -> None:
    one, other = (PatientIdentity.of(film(patient_id=f"CLINIC\\{number}")) for number in (1, 2))
    assert one.is_same(one)
    assert not one.is_same(other)


@pytest.mark.parametrize(
    ("birth_date", "same"),
    [("1970.01.01", True), ("1970-01-01", True), ("", True), ("1970.01.02", False), ("unknown", False)],
)
def test_a_birth_date_counts_in_whatever_form(birth_date: str, same: bool) -> None:
    assert PatientIdentity.of(film(PatientBirthDate=birth_date)).is_same(JANE) is same


def test_a_study_is_read_with_its_uid_and_the_whole_seconds_of_its_time() -> None:
    ds = film(StudyInstanceUID="1.2.77", StudyDate="20260102", StudyTime="101530.250")
    found = PatientStudy.of(ds)
    assert (found.study_instance_uid, found.taken) == ("1.2.77", "20260102101530")
    assert found.patient == PatientIdentity.of(ds)
