"""Studies that came because they were asked for, and pairs of studies."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from dicom_node.store import database
from dicom_node.store.audit import IndexQueries
from dicom_node.store.files import Spool
from dicom_node.store.index import TRIAL_HOST, Index
from dicom_node.store.prior_pairs import PriorPairing, PriorPairs
from dicom_node.store.prior_requests import PriorRequests
from dicom_node.store.received_instances import Admission
from dicom_node.store.states import StudyState
from dicom_node.store.tables import instance
from tests.support.clock import Clock
from tests.support.index_records import received_instance

OTHER = {"study": "1.2.7", "sop": "1.2.7.1", "digest": "b" * 64}


@pytest.fixture
def priors(index: Index, clock: Clock) -> PriorPairs:
    return PriorPairs(index.engine, clock)


def state(index: Index, uid: str) -> tuple[StudyState, int]:
    (row,) = [row for row in IndexQueries(index.engine).studies() if row.study_instance_uid == uid]
    return row.state, row.revision


def aside(index: Index) -> list[str]:
    with database.reading(index.engine) as connection:
        return list(connection.execute(select(instance.c.set_aside).order_by(instance.c.id)).scalars())


def asked(priors: PriorPairs) -> None:
    requests = PriorRequests(priors._engine, priors._clock)
    requests.record("1.2.7", source_ae="PACS", move_destination="DICOM_NODE")


@pytest.mark.parametrize("digest", ["b" * 64, "d" * 64])
def test_a_prior_that_somebody_sends_later_is_analysed_as_any_study(
    index: Index, priors: PriorPairs, digest: str
) -> None:
    asked(priors)
    prior = received_instance(**OTHER, moved_for="DICOM_NODE")
    assert index.add_instance(prior) is Admission.PRIOR
    assert index.add_instance(prior) is Admission.REPEATED
    assert priors.film_files("1.2.7") == (prior.file,)
    sent = received_instance(**{**OTHER, "digest": digest})  # as it came, or encoded in another way
    assert index.add_instance(sent) is Admission.NEW
    assert state(index, "1.2.7") == (StudyState.RECEIVING, 1)
    assert priors.film_files("1.2.7") == (sent.file,)
    assert index.complete_due(0, 300) == 1
    assert index.take_queueable(300) == [("1.2.7", 1)]


def test_a_study_that_was_sent_is_not_touched_by_its_coming_again_as_a_prior(
    index: Index, priors: PriorPairs
) -> None:
    index.add_instance(received_instance(**OTHER))
    index.complete_due(0, 300)
    asked(priors)
    assert index.add_instance(received_instance(**OTHER, moved_for="DICOM_NODE")) is Admission.REPEATED
    again = received_instance(**{**OTHER, "digest": "e" * 64}, moved_for="DICOM_NODE")
    assert index.add_instance(again) is Admission.PRIOR
    assert state(index, "1.2.7") == (StudyState.COMPLETE, 1)
    assert aside(index) == ["", "prior"]


def test_our_own_results_that_come_with_a_prior_open_nothing(index: Index, priors: PriorPairs) -> None:
    asked(priors)
    index.add_instance(received_instance(**OTHER, moved_for="DICOM_NODE", own_result=True))
    assert state(index, "1.2.7") == (StudyState.PRIOR, 0)
    assert aside(index) == ["own result"]


def test_priors_are_accounted_for(index: Index, priors: PriorPairs, spool: Spool) -> None:
    asked(priors)
    index.add_instance(received_instance(**OTHER, moved_for="DICOM_NODE"))
    audit = IndexQueries(index.engine).audit(spool, spool)
    assert (audit.received, audit.fates["prior"]) == (1, 1)
    assert [line for line in audit.violations if "No such file" not in line] == []


def test_a_study_waits_for_its_prior_and_not_longer(index: Index, priors: PriorPairs, clock: Clock) -> None:
    index.add_instance(received_instance())
    index.complete_due(0, 300)
    clock.now += 59
    assert index.take_queueable(300, 60) == []
    clock.now += 1
    assert index.take_queueable(300, 60) == [("1.2", 1)]


def test_a_study_goes_on_when_its_prior_is_known(index: Index, priors: PriorPairs, clock: Clock) -> None:
    index.add_instance(received_instance())
    index.complete_due(0, 300)
    clock.now += 5
    (waiting,) = priors.unpaired()
    assert (waiting.study_instance_uid, waiting.revision, waiting.seconds, waiting.is_trial) == (
        "1.2",
        1,
        5,
        False,
    )
    pairing = PriorPairing("1.2.7", ("aa/x.dcm",), "", "key", "20240101")
    assert priors.pair(waiting.study_id, 1, pairing) == pairing
    assert priors.unpaired() == []
    assert index.take_queueable(300, 60) == [("1.2", 1)]
    assert priors.studies_of_patient("key") == [("1.2", "20240101")]


def test_the_first_to_say_what_a_study_is_compared_with_is_right(index: Index, priors: PriorPairs) -> None:
    index.add_instance(received_instance(peer_host=TRIAL_HOST))
    index.complete_due(0, 300)
    (waiting,) = priors.unpaired()
    assert waiting.is_trial
    first = priors.pair(waiting.study_id, 1, PriorPairing(reason="late"))
    assert priors.pair(waiting.study_id, 1, PriorPairing("1.2.7")) == first == priors.get(waiting.study_id, 1)
    assert priors.get(waiting.study_id, 2) is None
