"""Results on their way out: one thread a destination, one association for as long as there is work.

What a destination took is then confirmed.

A transient error is tried again for ever, with a pause that doubles up to a cap and is jittered; a
permanent one makes the delivery REJECTED, for a person to see.
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
from dicom_node.delivery.confirmer import Confirmer
from dicom_node.dimse.client.inquiry import Inquiry
from dicom_node.dimse.client.scu import StoreSession
from dicom_node.errors import BadInstance, PeerRejected, PeerUnavailable, StorageFailed, StorageFull
from dicom_node.runtime import logs, readiness
from dicom_node.runtime.lease_owner import Owner
from dicom_node.store.commitments import Commitments
from dicom_node.store.delivery_queue import Delivery, Outbox
from dicom_node.store.files import Spool
from dicom_node.store.index import Index

if TYPE_CHECKING:
    from dicom_node.dicomweb.client import WebSession

_LOG = logging.getLogger(__name__)


def backoff(
    attempts: int,
    settings: SenderSettings,
    spread: Callable[[float, float], float] = random.uniform,
    *,
    longest: float | None = None,
) -> float:
    """Return the seconds to wait after a failed try.

    Parameters
    ----------
    attempts
        Failed tries before this one.
    spread
        Draws between two numbers: half to all of the pause, so that many results do not return at once.
    longest
        Seconds; ``settings.backoff_cap_seconds`` when absent.
    """
    # The exponent is capped too: a destination may be down for months.
    cap = settings.backoff_cap_seconds if longest is None else longest
    full = min(cap, settings.backoff_seconds * 2.0 ** min(attempts, 32))
    return spread(full / 2, full)


class DestinationSender:
    """Sends what one destination is to get, and has it confirmed.

    Parameters
    ----------
    destination
        Where to.
    calling_ae
        Our AE title.
    """

    def __init__(
        self,
        destination: AnyDestination,
        *,
        calling_ae: str,
        settings: SenderSettings,
        outbox: Outbox,
        commitments: Commitments,
        results: Spool,
        owner: Owner,
    ) -> None:
        self._destination = destination
        self._settings = settings
        self._outbox = outbox
        self._results = results
        self._owner = owner
        inquiry: Inquiry | WebSession
        if isinstance(destination, DicomDestination):
            self._session: StoreSession | WebSession = StoreSession.of(destination, calling_ae, settings)
            inquiry = Inquiry.of(
                destination,
                calling_ae,
                settings,
                linger_seconds=settings.idle_seconds,
                heard=lambda report: commitments.answer(report.transaction_uid, report.statements),
            )
        else:
            from dicom_node.dicomweb.client import WebSession  # noqa: PLC0415 - most nodes need none of it

            self._session = inquiry = WebSession(destination, settings)
        self._confirmer = Confirmer(
            destination,
            inquiry,
            settings=settings,
            outbox=outbox,
            commitments=commitments,
            results=results,
            owner=owner,
            pause=lambda tries, longest: backoff(tries, settings, longest=longest),
            make_way=self._session.release,
        )

    def run(self, stop: threading.Event) -> None:
        """Send until told to stop; a database that is away for a while is waited for."""
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
        """Ask about what was taken and is due to be confirmed; return how many results."""
        return self._confirmer.confirm_due()

    def _release(self) -> None:
        self._session.release()
        self._confirmer.release()

    def send_due(self, stop: threading.Event) -> int:
        """Send every delivery that is due; return how many were tried."""
        batch = self._outbox.take(self._destination.name, self._owner, self._settings.lease_seconds)
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
                # The destination is away: what follows would fail the same way, so it waits as well.
                pause = backoff(entry.attempts, self._settings)
                self._outbox.postponed(entry, error, pause)
                self._postpone(batch[number + 1 :], error, seconds=pause)
                _LOG.warning("%s: %s; next try in %.0f s", self._destination.name, error, pause)
                return number + 1
        return len(batch)

    def _send(self, entry: Delivery) -> str:
        """Send one result; return why it must be tried again, or nothing."""
        try:
            self._session.send(self._results.path(entry.file))
        except PeerUnavailable as error:
            return str(error)
        except PeerRejected as error:
            _LOG.error("%s: %s", self._destination.name, error)
            self._outbox.rejected(entry, str(error))
        except (OSError, BadInstance) as error:
            self._outbox.rejected(entry, f"the result's file {entry.file} cannot be read: {error}")
        else:
            self._outbox.sent(entry, self._settings.confirm_after_seconds)
            _LOG.info("%s sent to %s", entry.kind, self._destination.name)
        return ""

    def _postpone(self, entries: list[Delivery], error: str, *, seconds: float) -> None:
        for entry in entries:
            self._outbox.postponed(entry, error, seconds, counted=False)


def run_sender(settings: Settings) -> None:
    """Send results until SIGTERM: the body of the sender process."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    index = Index.open(settings.database)
    results = Spool(settings.data_dir / "results")
    owner = Owner.this_process()

    def send(sender: DestinationSender) -> None:
        try:
            sender.run(stop)
        finally:
            stop.set()  # should one ever fail, the supervisor starts all anew: nobody is left unserved

    threads = [
        threading.Thread(
            target=send,
            args=(
                DestinationSender(
                    destination,
                    calling_ae=settings.dicom.ae_title,
                    settings=settings.sender,
                    outbox=Outbox(index.engine),
                    commitments=Commitments(index.engine),
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
    readiness.ready()
    stop.wait()
    for thread in threads:
        thread.join()
    index.close()
