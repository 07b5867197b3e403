"""Confirmation of deliveries: asks a destination whether it keeps the results that it took.

Storage commitment is tried first. A destination that does not offer it, refuses the request, or has left
several requests unanswered is queried instead. A result that the query does not find is queried again, and
after several queries sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydicom.uid import generate_uid

from dicom_node.config.destinations import Destination
from dicom_node.config.sections import SenderSettings
from dicom_node.dimse.client.confirmation import ConfirmationSession
from dicom_node.dimse.commitment import InstanceReference
from dicom_node.errors import NodeError, PeerError, PeerRejected, StorageFailed, StorageFull
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.runtime.printable import one_line
from dicom_node.store.commitments import StorageCommitments
from dicom_node.store.delivery_queue import Delivery, DeliveryQueue
from dicom_node.store.files import Spool
from dicom_node.store.states import Confirmation, ResultState

if TYPE_CHECKING:
    from dicom_node.dicomweb.client import DicomWebSession

_LOG = logging.getLogger(__name__)

_UNANSWERED = 3
"""Number of unanswered requests for commitment after which the destination is queried instead."""
_MISSES = 3
"""Number of queries that do not find a result, after which it is sent again: archives may index late."""
_FAILED_QUERIES = 2
"""Number of queries of one round that may fail before the rest of the round waits for the next one."""
_RARELY_SECONDS = 86_400.0
"""Longest pause between two questions to a destination that answers but does not confirm, in seconds."""


class DeliveryConfirmer:
    """Confirmation of the deliveries to one destination.

    Parameters
    ----------
    destination
        Destination; its ``confirm`` setting chooses the way of confirmation.
    session
        Session for commitment requests and queries.
    settings
        Settings of the sender.
    delivery_queue, commitments
        Deliveries and requests for commitment in the index.
    results
        Spool of the results.
    owner
        Owner of the leases on deliveries.
    pause
        Function of the number of tries and the longest pause that returns the pause, both in seconds.
    before_asking
        Called before the destination is asked. It closes the sender's association: an archive may serve only
        one association at a time, and would let the question wait.
    """

    def __init__(
        self,
        destination: Destination,
        session: ConfirmationSession | DicomWebSession,
        *,
        settings: SenderSettings,
        delivery_queue: DeliveryQueue,
        commitments: StorageCommitments,
        results: Spool,
        owner: LeaseOwner,
        pause: Callable[[int, float], float],
        before_asking: Callable[[], None] = lambda: None,
    ) -> None:
        self._destination = destination
        self._session = session
        self._settings = settings
        self._delivery_queue = delivery_queue
        self._commitments = commitments
        self._results = results
        self._owner = owner
        self._pause = pause
        self._before_asking = before_asking
        self._warned = ""

    def confirm_due(self) -> int:
        """Ask about every delivery that is due; return their number."""
        batch = self._delivery_queue.take(
            self._destination.name, self._owner, self._settings.lease_seconds, state=ResultState.SENT
        )
        if not batch:
            return 0
        if self._destination.confirm == Confirmation.RESPONSE:
            self._confirm(batch, Confirmation.RESPONSE)
            return len(batch)
        self._before_asking()
        with self._delivery_queue.renewed(batch, self._owner, self._settings.lease_seconds):
            try:
                self._ask(batch)
            except (StorageFailed, StorageFull):
                raise
            except Exception as error:  # noqa: BLE001 - an odd answer of one destination harms no other
                self._postpone(batch, error)
        return len(batch)

    def _postpone(self, batch: Sequence[Delivery], error: Exception) -> None:
        """Ask about deliveries again later, because the destination could not be asked now."""
        sentence = one_line(error)
        self._warn(sentence)
        retryable = not isinstance(error, NodeError) or error.retryable
        longest = self._settings.backoff_cap_seconds if retryable else _RARELY_SECONDS
        for entry in batch:
            self._delivery_queue.mark_unconfirmed(entry, sentence, self._pause(entry.inquiries, longest))

    def _warn(self, text: str) -> None:
        """Log the reason why the destination does not confirm, but only once while it stays the same."""
        _LOG.log(
            logging.DEBUG if text == self._warned else logging.WARNING, "%s: %s", self._destination.name, text
        )
        self._warned = text

    def release(self) -> None:
        """Release the association, if there is one."""
        self._session.release()

    def _ask(self, batch: Sequence[Delivery]) -> None:
        session = self._session
        try:
            offered = session.offered()
        except PeerRejected:
            offered = frozenset()
        if not offered:
            raise PeerRejected(
                f"{session.name}: offers neither storage commitment nor query; set "
                'confirm = "response" to accept its answer to the sending itself as the confirmation'
            )
        to_query, to_commit = list(batch), list[Delivery]()
        if (
            isinstance(session, ConfirmationSession)
            and self._destination.confirm == Confirmation.COMMITMENT
            and Confirmation.COMMITMENT in offered
        ):
            can_query = Confirmation.QUERY in offered
            to_query = [entry for entry in batch if can_query and entry.inquiries >= _UNANSWERED]
            to_commit = [entry for entry in batch if entry not in to_query]
        if to_query and Confirmation.QUERY not in offered:
            raise PeerRejected(f'{session.name}: offers no query; set confirm = "commitment"')
        # The query comes first: the association of a request for commitment carries nothing after it.
        if to_query:
            self._query(session, to_query)
        if (
            isinstance(session, ConfirmationSession)
            and to_commit
            and not self._commit(session, to_commit)
            and Confirmation.QUERY in offered
        ):
            self._query(session, to_commit)

    def _commit(self, session: ConfirmationSession, batch: Sequence[Delivery]) -> bool:
        """Request storage commitment; False when the destination refuses the request."""
        transaction_uid = generate_uid(prefix=None)
        seconds = self._settings.commitment_seconds + self._pause(
            max(entry.attempts + entry.inquiries for entry in batch), _RARELY_SECONDS
        )
        self._commitments.record_request(transaction_uid, batch, seconds)
        references = [
            InstanceReference(e.sop_class_uid, e.sop_instance_uid, e.study_instance_uid, "") for e in batch
        ]
        try:
            session.commit(transaction_uid, references)
        except PeerRejected as error:
            _LOG.warning("%s: %s", self._destination.name, error)
            for entry in batch:
                self._delivery_queue.mark_unconfirmed(entry, str(error), seconds)
            return False
        self._warned = ""
        _LOG.info("%s: requested storage commitment for %d results", self._destination.name, len(batch))
        return True

    def _query(self, session: ConfirmationSession | DicomWebSession, batch: Sequence[Delivery]) -> None:
        """Query for each result; what is asked about one series in vain does not keep the others waiting."""
        by_series: dict[tuple[str, str], list[tuple[Delivery, InstanceReference]]] = {}
        for entry in batch:
            try:
                reference = InstanceReference.of(self._results.path(entry.file))
            except Exception as error:  # noqa: BLE001 - pydicom raises any error at a file that was damaged
                sentence = f"the result's file {entry.file} cannot be read: {error}"
                self._delivery_queue.mark_unconfirmed(
                    entry, sentence, self._pause(entry.inquiries, _RARELY_SECONDS)
                )
                continue
            series = (reference.study_instance_uid, reference.series_instance_uid)
            by_series.setdefault(series, []).append((entry, reference))
        failed = 0
        groups = [*by_series.values()]
        for number, group in enumerate(groups):
            try:
                found = session.find([reference for _, reference in group])
            except PeerError as error:
                failed += 1
                if failed < min(_FAILED_QUERIES, len(groups)):
                    self._postpone([entry for entry, _ in group], error)
                    continue
                self._postpone([entry for each in groups[number:] for entry, _ in each], error)
                return
            self._judge([entry for entry, _ in group], found)

    def _judge(self, batch: Sequence[Delivery], found: set[str]) -> None:
        """Record what a query found of the results that it asked for."""
        self._warned = ""
        kept = [entry for entry in batch if entry.sop_instance_uid in found]
        self._confirm(kept, Confirmation.QUERY)
        for entry in batch:
            if entry in kept:
                continue
            sentence = "the destination does not find it"
            seconds = self._pause(entry.attempts + entry.inquiries, _RARELY_SECONDS)
            if entry.inquiries + 1 < _MISSES:
                self._delivery_queue.mark_unconfirmed(entry, sentence, seconds)
            else:
                self._delivery_queue.mark_lost(entry, sentence, seconds)

    def _confirm(self, batch: Sequence[Delivery], by: Confirmation) -> None:
        for entry in batch:
            self._delivery_queue.mark_confirmed(entry, by)
        if batch:
            _LOG.info("%s: confirmed %d results, by %s", self._destination.name, len(batch), by)
