"""Sender process: one thread for each destination, which sends results and has them confirmed.

An association stays open as long as there is work. Whatever goes wrong with a destination stays with it: it
is recorded with its deliveries and tried again, for ever, with a jittered pause that doubles up to a limit.

A destination that cannot be reached pauses as a whole. A result that it does not take, for whatever reason,
waits alone, and the next one is sent; only after several in a row does the destination pause. A result that
it refuses for good is REJECTED, and a person has to retry it; one that refuses everything pauses before all
its results have come to that.
"""

from __future__ import annotations

import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dicom_node.audit_trail.events import Actor
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.audit_trail.transfers import Transfers
from dicom_node.config.destinations import AnyDestination, DicomDestination
from dicom_node.config.sections import SenderSettings
from dicom_node.config.settings import Settings
from dicom_node.delivery.confirmer import DeliveryConfirmer
from dicom_node.dimse.client.confirmation import ConfirmationSession
from dicom_node.dimse.client.storage_scu import StoreSession
from dicom_node.errors import (
    BadInstance,
    NodeError,
    PeerRejected,
    PeerUnavailable,
    StorageFailed,
    StorageFull,
)
from dicom_node.runtime import logs, readiness
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.runtime.printable import one_line
from dicom_node.runtime.stop_signal import stop_event
from dicom_node.store.commitments import StorageCommitments
from dicom_node.store.delivery_queue import Delivery, DeliveryQueue
from dicom_node.store.files import Spool, damage
from dicom_node.store.index import Index

if TYPE_CHECKING:
    from dicom_node.dicomweb.client import DicomWebSession

_LOG = logging.getLogger(__name__)

_DEFERRED_IN_A_ROW = 3
"""Number of results not taken, one after another, after which the whole destination pauses."""

_REJECTED_IN_A_ROW = 10
"""Number of results refused for good, one after another, after which the whole destination pauses: such a
destination is set up wrongly, and what still waits can be sent once that is mended."""

_RESTING_POLL_SECONDS = 1.0
"""Most seconds until the sender of a destination that pauses notices that someone asked for another try."""


def backoff(
    attempts: int,
    settings: SenderSettings,
    spread: Callable[[float, float], float] = random.uniform,
    *,
    longest: float | None = None,
) -> float:
    """Return the time to wait after a failed try, in seconds.

    Parameters
    ----------
    attempts
        Number of failed tries before this one.
    spread
        Function that draws a number between two others. The wait is drawn between half the pause and the
        whole pause, so that many results do not come back at the same moment.
    longest
        Longest pause, in seconds; None for ``settings.backoff_cap_seconds``.
    """
    # The exponent has a limit too: a destination may be down for months.
    cap = settings.backoff_cap_seconds if longest is None else longest
    full = min(cap, settings.backoff_seconds * 2.0 ** min(attempts, 32))
    return spread(full / 2, full)


class DamagedResult(NodeError):
    """Error because the file of a result is missing or is not what was written: it is not sent."""


class DestinationSender:
    """Sender of the results of one destination.

    Parameters
    ----------
    destination
        Destination of the results.
    calling_ae
        AE title of the node.
    settings
        Settings of the sender.
    delivery_queue, commitments
        Deliveries and requests for commitment in the index.
    results
        Spool of the results.
    owner
        Owner of the leases on deliveries.
    audit_trail
        Audit trail of the node; None to keep none.
    """

    def __init__(
        self,
        destination: AnyDestination,
        *,
        calling_ae: str,
        settings: SenderSettings,
        delivery_queue: DeliveryQueue,
        commitments: StorageCommitments,
        results: Spool,
        owner: LeaseOwner,
        audit_trail: AuditTrail | None = None,
    ) -> None:
        self._transfers = Transfers(audit_trail, calling_ae, incoming=False) if audit_trail else None
        self._destination = destination
        self._settings = settings
        self._delivery_queue = delivery_queue
        self._results = results
        self._owner = owner
        self._rests_until = 0.0  # time.monotonic()
        self._failures = 0  # pauses of the destination since it last took a result
        self._deferred = 0  # results in a row that it did not take
        self._rejected = 0  # results in a row that it refused for good
        inquiry: ConfirmationSession | DicomWebSession
        if isinstance(destination, DicomDestination):
            self._session: StoreSession | DicomWebSession = StoreSession.of(
                destination, calling_ae, settings, decompresses=True
            )
            inquiry = ConfirmationSession.of(
                destination.asked,
                calling_ae,
                settings,
                linger_seconds=settings.idle_seconds,
                on_report=lambda report: commitments.record_answers(report.transaction_uid, report.answers),
            )
        else:
            from dicom_node.dicomweb.client import DicomWebSession  # noqa: PLC0415 - most nodes need none of it

            self._session = inquiry = DicomWebSession(destination, settings)
        self._confirmer = DeliveryConfirmer(
            destination,
            inquiry,
            settings=settings,
            delivery_queue=delivery_queue,
            commitments=commitments,
            results=results,
            owner=owner,
            pause=lambda tries, longest: backoff(tries, settings, longest=longest),
            before_asking=self._session.release,
        )

    def run(self, stop: threading.Event) -> None:
        """Send until `stop` is set; while the database is not available, wait."""
        idle = 0.0
        database = logs.Outage(_LOG, "the database", "check its disk, or start its server (database_url)")
        while not stop.is_set():
            try:
                worked = self.send_due(stop) or self.confirm_due()
                database.end()
            except (StorageFailed, StorageFull) as error:
                database.begin(f"{self._destination.name}: {error}")
                worked = 0
                stop.wait(1.0)
            if worked:
                idle = 0.0
                continue
            resting = min(_RESTING_POLL_SECONDS, self._rests_until - time.monotonic())
            pause = max(self._settings.poll_seconds, resting)
            idle += pause
            if idle >= self._settings.idle_seconds:
                self._release()
            stop.wait(pause)
        self._release()

    def confirm_due(self) -> int:
        """Have the results confirmed that are due; return their number."""
        return self._confirmer.confirm_due()

    def _release(self) -> None:
        try:
            self._session.release()
            self._confirmer.release()
        except Exception as error:  # noqa: BLE001 - the libraries raise any error at what peers send
            _LOG.warning("%s: release: %s", self._destination.name, one_line(error))

    def send_due(self, stop: threading.Event) -> int:
        """Send every delivery that is due; return the number of tries."""
        try:
            return self._send_due(stop)
        finally:
            if self._transfers is not None:
                self._transfers.finish(self._destination.name)

    def _send_due(self, stop: threading.Event) -> int:
        lease_seconds = self._settings.lease_seconds
        batch = self._delivery_queue.take(self._destination.name, self._owner, lease_seconds)
        if not batch:
            return 0
        self._session.expect([self._results.path(entry.file) for entry in batch])
        with self._delivery_queue.renewed(batch, self._owner, lease_seconds):
            for number, entry in enumerate(batch):
                if stop.is_set():
                    self._delivery_queue.give_back(batch[number:], self._owner)
                    return number
                with logs.study(entry.study_instance_uid):
                    goes_on = self._try(entry)
                if not goes_on:
                    self._delivery_queue.give_back(batch[number + 1 :], self._owner)
                    return number + 1
        return len(batch)

    def _try(self, entry: Delivery) -> bool:
        """Try to send one result and record what came of it; return whether to go on with the next one."""
        try:
            self._send(entry)
        except PeerUnavailable as error:
            self._pause(entry, one_line(error))
            return False
        except PeerRejected as error:
            self._deferred = 0
            self._rejected += 1
            _LOG.error("%s: %s", self._destination.name, error)
            self._delivery_queue.mark_rejected(entry, one_line(error))
            if self._rejected >= _REJECTED_IN_A_ROW:
                self._rest(one_line(error))
                return False
        except (StorageFailed, StorageFull):
            raise
        except Exception as error:  # noqa: BLE001 - one result, or an odd answer to it, must not stop the others
            sentence = one_line(error)
            if isinstance(error, DamagedResult):
                pass
            elif isinstance(error, OSError | BadInstance):
                sentence = f"the result's file {entry.file} cannot be read: {one_line(error)}"
            else:
                self._deferred += 1
            if self._deferred >= _DEFERRED_IN_A_ROW:
                self._pause(entry, sentence)
                return False
            pause = backoff(entry.attempts, self._settings)
            self._delivery_queue.postpone(entry, sentence, pause)
            _LOG.warning("%s: %s; next try in %.0f s, others go on", self._destination.name, sentence, pause)
        return True

    def _send(self, entry: Delivery) -> None:
        path = self._results.path(entry.file)
        if wrong := damage(path, entry.digest):
            raise DamagedResult(
                f"the result's file {entry.file}: {wrong}; `dicom-node replay --mend STUDY` writes it again"
            )
        self._session.send(path)
        self._deferred = self._rejected = self._failures = 0
        if self._transfers is not None:
            self._transfers.note(
                self._destination.name,
                _receiver(self._destination),
                study_instance_uid=entry.study_instance_uid,
                sop_class_uid=entry.sop_class_uid,
                path=path,
            )
        self._delivery_queue.mark_sent(entry, self._settings.confirm_after_seconds)
        _LOG.info("%s sent to %s", entry.kind, self._destination.name)

    def _pause(self, entry: Delivery, error: str) -> None:
        """Let the destination rest after a failed try; the result that was tried is tried last."""
        # First the others: the one that was tried may have to wait for longer than they.
        pause = self._rest(error)
        self._delivery_queue.postpone(entry, error, max(pause, backoff(entry.attempts, self._settings)))

    def _rest(self, error: str) -> float:
        """Let all that waits for the destination wait for longer; return the time in seconds."""
        pause = backoff(self._failures, self._settings)
        self._failures += 1
        self._rests_until = time.monotonic() + pause
        self._deferred = 0
        self._delivery_queue.pause(self._destination.name, self._owner, error, pause)
        _LOG.warning("%s: %s; next try in %.0f s", self._destination.name, error, pause)
        return pause


def _receiver(destination: AnyDestination) -> Actor:
    """Return the destination as a participant of audit messages."""
    if isinstance(destination, DicomDestination):
        return Actor("", destination.host, destination.ae_title)
    return Actor(destination.name, urlsplit(destination.url).hostname or "")


def send_to(
    destination: AnyDestination,
    settings: Settings,
    index: Index,
    owner: LeaseOwner,
    stop: threading.Event,
    audit_trail: AuditTrail | None = None,
) -> None:
    """Send results to one destination until `stop` is set, whatever goes wrong with it."""
    queue = DeliveryQueue(index.engine)
    sender: DestinationSender | None = None
    failures = 0
    while not stop.is_set():
        try:
            if sender is None:
                queue.resume(destination.name)
            sender = sender or DestinationSender(
                destination,
                calling_ae=settings.dicom.ae_title,
                settings=settings.sender,
                delivery_queue=queue,
                commitments=StorageCommitments(index.engine),
                results=Spool(settings.data_dir / "results"),
                owner=owner,
                audit_trail=audit_trail,
            )
            sender.run(stop)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong with one destination stays with it
            sentence = one_line(error)
            pause = backoff(failures, settings.sender)
            failures += 1
            _LOG.error(
                "%s: %s; next try in %.0f s",
                destination.name,
                sentence,
                pause,
                exc_info=error if not isinstance(error, NodeError) else None,
            )
            with contextlib.suppress(StorageFailed, StorageFull):
                queue.pause(destination.name, owner, sentence, pause)
            stop.wait(pause)


def run_sender(settings: Settings) -> None:
    """Send results until SIGTERM; main function of the sender process."""
    stop = stop_event()
    index = Index.open(settings.database, create=False)
    owner = LeaseOwner.this_process()
    trail = AuditTrail.open(settings, index.engine)

    def send(destination: AnyDestination) -> None:
        try:
            send_to(destination, settings, index, owner, stop, trail)
        finally:
            stop.set()  # a thread ends only when it is told to

    threads = [
        threading.Thread(target=send, args=(destination,), name=destination.name)
        for destination in settings.destinations
    ]
    for thread in threads:
        thread.start()
    readiness.notify_ready()
    stop.wait()
    for thread in threads:
        thread.join()
    trail.close()
    index.close()
