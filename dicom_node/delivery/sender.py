"""Sender process: one thread for each destination, which sends results and has them confirmed.

An association stays open as long as there is work. After a transient error the delivery is tried again, for
ever, with a jittered pause that doubles up to a limit. After a permanent error the delivery is REJECTED and a
person has to retry it.
"""

from __future__ import annotations

import logging
import random
import signal
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from dicom_node.config.sections import AnyDestination, DicomDestination, SenderSettings
from dicom_node.config.settings import Settings
from dicom_node.delivery.confirmer import DeliveryConfirmer
from dicom_node.dimse.client.confirmation import ConfirmationSession
from dicom_node.dimse.client.storage_scu import StoreSession
from dicom_node.errors import BadInstance, PeerRejected, PeerUnavailable, StorageFailed, StorageFull
from dicom_node.runtime import logs, readiness
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.commitments import StorageCommitments
from dicom_node.store.delivery_queue import Delivery, DeliveryQueue
from dicom_node.store.files import Spool
from dicom_node.store.index import Index

if TYPE_CHECKING:
    from dicom_node.dicomweb.client import DicomWebSession

_LOG = logging.getLogger(__name__)


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
    ) -> None:
        self._destination = destination
        self._settings = settings
        self._delivery_queue = delivery_queue
        self._results = results
        self._owner = owner
        inquiry: ConfirmationSession | DicomWebSession
        if isinstance(destination, DicomDestination):
            self._session: StoreSession | DicomWebSession = StoreSession.of(destination, calling_ae, settings)
            inquiry = ConfirmationSession.of(
                destination,
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
        pause = self._settings.poll_seconds
        while not stop.is_set():
            try:
                worked = self.send_due(stop) or self.confirm_due()
            except (StorageFailed, StorageFull) as error:
                _LOG.error("%s: %s", self._destination.name, error)
                worked = 0
                stop.wait(1.0)
            if worked:
                idle = 0.0
                continue
            idle += pause
            if idle >= self._settings.idle_seconds:
                self._release()
            stop.wait(pause)
        self._release()

    def confirm_due(self) -> int:
        """Have the results confirmed that are due; return their number."""
        return self._confirmer.confirm_due()

    def _release(self) -> None:
        self._session.release()
        self._confirmer.release()

    def send_due(self, stop: threading.Event) -> int:
        """Send every delivery that is due; return the number of tries."""
        batch = self._delivery_queue.take(self._destination.name, self._owner, self._settings.lease_seconds)
        if not batch:
            return 0
        self._session.expect([entry.sop_class_uid for entry in batch])
        for number, entry in enumerate(batch):
            if stop.is_set():
                self._postpone(batch[number:], "the sender was stopped", seconds=0)
                return number
            with logs.study(entry.study_instance_uid):
                error = self._send(entry)
            if error:
                # The destination is not available: the rest of the batch would fail too, so it waits as well.
                pause = backoff(entry.attempts, self._settings)
                self._delivery_queue.postpone(entry, error, pause)
                self._postpone(batch[number + 1 :], error, seconds=pause)
                _LOG.warning("%s: %s; next try in %.0f s", self._destination.name, error, pause)
                return number + 1
        return len(batch)

    def _send(self, entry: Delivery) -> str:
        """Send one result; return the reason why it must be tried again, or an empty string."""
        try:
            self._session.send(self._results.path(entry.file))
        except PeerUnavailable as error:
            return str(error)
        except PeerRejected as error:
            _LOG.error("%s: %s", self._destination.name, error)
            self._delivery_queue.mark_rejected(entry, str(error))
        except (OSError, BadInstance) as error:
            self._delivery_queue.mark_rejected(
                entry, f"the result's file {entry.file} cannot be read: {error}"
            )
        else:
            self._delivery_queue.mark_sent(entry, self._settings.confirm_after_seconds)
            _LOG.info("%s sent to %s", entry.kind, self._destination.name)
        return ""

    def _postpone(self, entries: list[Delivery], error: str, *, seconds: float) -> None:
        for entry in entries:
            self._delivery_queue.postpone(entry, error, seconds, counted=False)


def run_sender(settings: Settings) -> None:
    """Send results until SIGTERM; main function of the sender process."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    index = Index.open(settings.database)
    results = Spool(settings.data_dir / "results")
    owner = LeaseOwner.this_process()

    def send(sender: DestinationSender) -> None:
        try:
            sender.run(stop)
        finally:
            stop.set()  # when one thread fails, all end, and the supervisor starts the process again

    threads = [
        threading.Thread(
            target=send,
            args=(
                DestinationSender(
                    destination,
                    calling_ae=settings.dicom.ae_title,
                    settings=settings.sender,
                    delivery_queue=DeliveryQueue(index.engine),
                    commitments=StorageCommitments(index.engine),
                    results=results,
                    owner=owner,
                ),
            ),
            name=destination.name,
        )
        for destination in settings.destinations
    ]
    for thread in threads:
        thread.start()
    readiness.notify_ready()
    stop.wait()
    for thread in threads:
        thread.join()
    index.close()
