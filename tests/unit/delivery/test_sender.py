from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dicom_node.config.sections import SenderSettings
from dicom_node.delivery.sender import backoff

SETTINGS = SenderSettings(backoff_seconds=5, backoff_cap_seconds=600)


@given(st.integers(0, 10**9))
def test_the_pause_never_passes_the_cap_and_is_never_nothing(attempts: int) -> None:
    assert 2.5 <= backoff(attempts, SETTINGS) <= 600


def test_the_pause_doubles_up_to_the_cap() -> None:
    longest = [backoff(n, SETTINGS, spread=lambda _low, high: high) for n in range(9)]
    assert longest == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    assert backoff(3, SETTINGS, spread=lambda low, _high: low) == 20
