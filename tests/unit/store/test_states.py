from __future__ import annotations

import pytest

from dicom_node.store.states import (
    DELIVERY_TRANSITIONS,
    OUTCOMES,
    STUDY_TRANSITIONS,
    DeliveryEvent,
    ResultState,
    StudyState,
    next_delivery_state,
    study_sources,
)


def test_every_state_has_its_transitions_and_every_state_is_reached() -> None:
    assert set(STUDY_TRANSITIONS) == set(StudyState)
    assert {target for targets in STUDY_TRANSITIONS.values() for target in targets} == set(StudyState)


def test_an_outcome_comes_only_out_of_an_analysis() -> None:
    for outcome in OUTCOMES:
        assert study_sources(outcome) == (StudyState.ANALYSING,)


def test_a_late_image_is_taken_in_every_state() -> None:
    assert set(study_sources(StudyState.RECEIVING)) == set(StudyState)


def test_every_event_of_a_delivery_has_its_transitions() -> None:
    assert set(DELIVERY_TRANSITIONS) == set(DeliveryEvent)
    reached = {target for targets in DELIVERY_TRANSITIONS.values() for target in targets.values()}
    assert reached == set(ResultState)


def test_nothing_follows_a_confirmation() -> None:
    assert not [event for event, targets in DELIVERY_TRANSITIONS.items() if ResultState.CONFIRMED in targets]


@pytest.mark.parametrize("event", DeliveryEvent)
def test_no_event_makes_a_withdrawn_result_wait_to_be_sent(event: DeliveryEvent) -> None:
    for state, target in DELIVERY_TRANSITIONS[event].items():
        assert next_delivery_state(event, state, withdrawn=False) is target
        withdrawn = next_delivery_state(event, state, withdrawn=True)
        assert withdrawn not in (ResultState.ENCODED, ResultState.REJECTED)


def test_an_event_that_cannot_happen_is_refused() -> None:
    with pytest.raises(ValueError, match="a delivery that is REJECTED cannot be confirmed"):
        next_delivery_state(DeliveryEvent.CONFIRMED, ResultState.REJECTED, withdrawn=False)
