"""DIMSE statuses."""

from __future__ import annotations

import pytest
from pynetdicom.status import STORAGE_SERVICE_CLASS_STATUS

from dicom_node.dimse.status import RESPONSE_STATUSES, Outcome, Status, meaning_of


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (0x0000, Outcome.SUCCESS),
        (0x0111, Outcome.WARNING),
        (0xB000, Outcome.WARNING),
        (0xB006, Outcome.WARNING),
        (0xB007, Outcome.WARNING),
        (0xB123, Outcome.WARNING),
        (0xA700, Outcome.TRANSIENT),
        (0xA7FF, Outcome.TRANSIENT),
        (0x0110, Outcome.TRANSIENT),
        (0x0213, Outcome.TRANSIENT),
        (0xFE00, Outcome.TRANSIENT),
        (0x1234, Outcome.TRANSIENT),
        (0xFFFF, Outcome.TRANSIENT),
        (0xA900, Outcome.PERMANENT),
        (0xA9FF, Outcome.PERMANENT),
        (0xC000, Outcome.PERMANENT),
        (0xCFFF, Outcome.PERMANENT),
        (0x0122, Outcome.PERMANENT),
        (0x0124, Outcome.PERMANENT),
    ],
)
def test_an_answer_means_what_the_standard_says(status: int, outcome: Outcome) -> None:
    meaning = meaning_of(status)
    assert meaning.outcome is outcome
    assert meaning.text
    assert meaning.first <= status <= meaning.last


def test_only_success_and_warnings_are_delivered() -> None:
    assert {outcome for outcome in Outcome if outcome.delivered} == {Outcome.SUCCESS, Outcome.WARNING}


def test_every_status_of_the_storage_service_has_a_meaning_of_its_own() -> None:
    for status, (category, _) in STORAGE_SERVICE_CLASS_STATUS.items():
        meaning = meaning_of(status)
        assert meaning in RESPONSE_STATUSES, f"{status:04X}"
        assert (meaning.outcome is Outcome.SUCCESS) == (category == "Success"), f"{status:04X}"
        if category == "Warning":
            assert meaning.outcome is Outcome.WARNING


def test_our_own_answers_lie_in_the_ranges_that_the_standard_gives() -> None:
    ranges = {0xA7: Outcome.TRANSIENT, 0xA9: Outcome.PERMANENT, 0xC0: Outcome.PERMANENT}
    for status in Status:
        if status >= 0xA000:  # below are those of all services
            assert meaning_of(status).outcome is ranges[status >> 8], status.name
