from __future__ import annotations

import logging

import pytest

from dicom_node.errors import StorageFailed
from dicom_node.store.audit import Audit
from dicom_node.web.background.periodic_task import PeriodicTask
from tests.support.peers import until

WHOLE = Audit(received=0, fates={}, violations=())


def test_it_is_repeated_and_the_latest_is_kept() -> None:
    answers = iter([Audit(number, {}, ()) for number in range(1000)])
    audits = PeriodicTask("audit", lambda: next(answers), seconds=0.001)
    assert audits.latest is None
    audits.start()
    until(lambda: audits.latest and audits.latest.value.received >= 3, 10, "a third audit")
    audits.stop()


def test_a_database_that_is_away_leaves_the_last_answer_and_is_asked_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    asked = []

    def run() -> Audit:
        asked.append(None)
        if len(asked) == 2:
            raise StorageFailed("database: gone")
        return Audit(len(asked), {}, ())

    audits = PeriodicTask("audit", run, seconds=0.001)
    with caplog.at_level(logging.WARNING):
        audits.start()
        until(
            lambda: audits.latest and audits.latest.value.received >= 3, 10, "the audit after the failed one"
        )
    audits.stop()
    assert "audit: database: gone" in caplog.text


def test_after_its_end_none_begins() -> None:
    begun = []
    audits = PeriodicTask("audit", lambda: begun.append(None) or WHOLE, seconds=60)
    audits.start()
    until(lambda: audits.latest, 10, "the first audit")
    audits.stop()
    audits._thread.join(5)
    assert not audits._thread.is_alive()
    assert len(begun) == 1
