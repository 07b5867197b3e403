"""The timer of the upper layer; what the layer does to a peer: tests/integration/dimse/test_faults.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.dimse.server import upper_layer


@given(st.floats(min_value=0.1, max_value=100), st.floats(min_value=0, max_value=200))
def test_a_timer_runs_on_the_monotonic_clock(timeout: float, elapsed: float) -> None:
    timer = upper_layer._MonotonicTimer(timeout)
    assert (timer.remaining, timer.expired) == (timeout, False)
    with pytest.MonkeyPatch.context() as patch:
        now = 1000.0
        patch.setattr(upper_layer.time, "monotonic", lambda: now)
        patch.setattr(upper_layer.time, "time", lambda: now * 1e6)
        timer.start()
        now += elapsed
        assert timer.remaining == pytest.approx(timeout - elapsed)
        assert timer.expired == (timer.remaining < 0)
        timer.stop()
        now += 1000
        assert timer.remaining == pytest.approx(timeout - elapsed)
