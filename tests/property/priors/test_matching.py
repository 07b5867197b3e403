"""Which earlier study counts as a prior, whatever headers and archives say."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from dicom_node.priors.matching import PatientIdentity, PatientStudy, prior_candidates
from tests.support.factories import put

IDENTIFIERS = st.sampled_from(["", "1", "2", "1*", "?"])
WORDS = st.sampled_from(["", "A", "B"])
PATIENTS = st.builds(PatientIdentity, IDENTIFIERS, WORDS, st.sampled_from(["", "19700101", "19800101"]))
TAKEN = st.sampled_from(
    ["", "20240101", "202401011015", "20240101101500", "20240101101501", "20231231", "20200101"]
)
EXAMINATIONS = st.builds(PatientStudy, st.sampled_from(["", "1.1", "1.2", "1.3", "1.4"]), PATIENTS, TAKEN)


@given(PATIENTS, PATIENTS)
def test_one_patient_is_the_other_in_both_directions_and_never_without_an_id(
    one: PatientIdentity, other: PatientIdentity
) -> None:
    assert one.is_same(other) == other.is_same(one)
    assert one.is_same(one) == bool(one.identifier)
    if one.is_same(other):
        assert one.identifier == other.identifier != ""
        assert "" in (one.issuer, other.issuer) or one.issuer == other.issuer
        assert "" in (one.birth_date, other.birth_date) or one.birth_date == other.birth_date
        assert one.key == other.key


@given(EXAMINATIONS, st.lists(EXAMINATIONS, max_size=8), st.integers(1, 2000))
def test_a_candidate_is_an_earlier_study_of_the_same_patient(
    examination: PatientStudy, others: list[PatientStudy], days: int
) -> None:
    found = prior_candidates(examination, others, days)
    assert len({each.study_instance_uid for each in found}) == len(found)
    assert [each.taken for each in found] == sorted((each.taken for each in found), reverse=True)
    first, last = examination.span(days)
    for each in found:
        assert each.study_instance_uid not in ("", examination.study_instance_uid)
        assert examination.patient.is_same(each.patient)
        assert first <= each.taken[:8] <= last
        assert not examination.is_before(each, days)


@given(EXAMINATIONS, st.integers(1, 10**9))
def test_no_study_is_before_itself(examination: PatientStudy, days: int) -> None:
    assert not examination.is_before(examination, days)
    assert prior_candidates(examination, [examination], days) == []


@given(st.text(max_size=20), st.text(max_size=20), st.text(max_size=20))
def test_any_header_can_be_read(day: str, moment: str, identifier: str) -> None:
    ds = put(Dataset(), {"StudyDate": day, "StudyTime": moment, "PatientID": identifier})
    taken = PatientStudy.of(ds).taken
    assert taken == "" or (taken.isascii() and taken.isdecimal() and 8 <= len(taken) <= 14)
