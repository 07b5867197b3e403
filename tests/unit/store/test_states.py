from __future__ import annotations

from dicom_node.store.states import OUTCOMES, STUDY_TRANSITIONS, StudyState, sources


def test_every_state_has_its_transitions_and_every_state_is_reached() -> None:
    assert set(STUDY_TRANSITIONS) == set(StudyState)
    assert {target for targets in STUDY_TRANSITIONS.values() for target in targets} == set(StudyState)


def test_an_outcome_comes_only_out_of_an_analysis() -> None:
    for outcome in OUTCOMES:
        assert sources(outcome) == (StudyState.ANALYSING,)


def test_a_late_image_is_taken_in_every_state() -> None:
    assert set(sources(StudyState.RECEIVING)) == set(StudyState)
