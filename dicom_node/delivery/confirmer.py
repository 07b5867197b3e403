"""Done means committed: asks a destination whether it keeps what it took.

Storage commitment goes first. A destination that does not offer it, refuses the request, or has left several
unanswered is asked by a query instead. What a query does not find is asked for again, and after some times
sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pydicom.errors import InvalidDicomError
from pydicom.uid import generate_uid

from dicom_node.config.sections import Destination, SenderSettings
from dicom_node.dimse.client.inquiry import Inquiry
from dicom_node.dimse.commitment import Reference
from dicom_node.errors import PeerError, PeerRejected
from dicom_node.runtime.lease_owner import Owner
from dicom_node.store.commitments import Commitments
from dicom_node.store.delivery_queue import Delivery, Outbox
from dicom_node.store.files import Spool
from dicom_node.store.states import Confirmation, ResultState

if TYPE_CHECKING:
    from dicom_node.dicomweb.client import WebSession

_LOG = logging.getLogger(__name__)

_UNANSWERED = 3
"""Requests for commitment without an answer, after which a query is trusted."""
_MISSES = 3
"""Questions without a sign of a result, after which it is sent again: archives may be slow to file."""
_RARELY_SECONDS = 86_400.0
"""Longest pause between two questions to a destination that is there, but does not say what is hoped for."""


class Confirmer:
    """Has the deliveries of one destination confirmed.

    Parameters
    ----------
    destination
        Says what counts as kept.
    session
        To ask with.
    pause
        Seconds after so many tries before the next, and at most so many.
    make_way
        Called before the destination is asked: it ends what else is open to it, for an archive may serve one
        association at a time, and would let the question wait for as long.
    """

    def __init__(
        self,
        destination: Destination,
        session: Inquiry | WebSession,
        *,
        settings: SenderSettings,
        outbox: Outbox,
        commitments: Commitments,
        results: Spool,
        owner: Owner,
        pause: Callable[[int, float], float],
        make_way: Callable[[], None] = lambda: None,
    ) -> None:
        self._destination = destination
        self._session = session
        self._settings = settings
        self._outbox = outbox
        self._commitments = commitments
        self._results = results
        self._owner = owner
        self._pause = pause
        self._make_way = make_way
        self._warned = ""

    def confirm_due(self) -> int:
        """Ask about every delivery that is due; return how many there were."""
        batch = self._outbox.take(
            self._destination.name, self._owner, self._settings.lease_seconds, state=ResultState.SENT
        )
        if not batch:
            return 0
        if self._destination.confirm == Confirmation.RESPONSE:
            self._confirm(batch, Confirmation.RESPONSE)
            return len(batch)
        self._make_way()
        try:
            self._ask(batch)
        except PeerError as error:
            self._warn(str(error))
            longest = self._settings.backoff_cap_seconds if error.retryable else _RARELY_SECONDS
            for entry in batch:
                self._outbox.unconfirmed(entry, str(error), self._pause(entry.inquiries, longest))
        else:
            self._warned = ""
        return len(batch)

    def _warn(self, text: str) -> None:
        """Log what keeps the destination from confirming, once: it is asked about every result, and again."""
        _LOG.log(
            logging.DEBUG if text == self._warned else logging.WARNING, "%s: %s", self._destination.name, text
        )
        self._warned = text

    def release(self) -> None:
        """End the association, if there is one."""
        self._session.release()

    def _ask(self, batch: Sequence[Delivery]) -> None:
        session = self._session
        try:
            offered = session.offered()
        except PeerRejected:
            offered = frozenset()
        if not offered:
            raise PeerRejected(
                f"{session.name}: "
                'offers neither storage commitment nor query; with confirm = "response" its answer to the '
                "result itself counts"
            )
        queried = list(batch)
        if (
            isinstance(session, Inquiry)
            and self._destination.confirm == Confirmation.COMMITMENT
            and Confirmation.COMMITMENT in offered
        ):
            can_query = Confirmation.QUERY in offered
            queried = [entry for entry in batch if can_query and entry.inquiries >= _UNANSWERED]
            asked = [entry for entry in batch if entry not in queried]
            if asked and not self._commit(session, asked):
                if not can_query:
                    return
                queried += asked
        if queried and Confirmation.QUERY not in offered:
            raise PeerRejected(f'{session.name}: offers no query; set confirm = "commitment"')
        if queried:
            self._query(session, queried)

    def _commit(self, session: Inquiry, batch: Sequence[Delivery]) -> bool:
        """Ask for storage commitment; False when the destination refuses to be asked."""
        transaction_uid = generate_uid(prefix=None)
        seconds = self._settings.commitment_seconds + self._pause(
            max(entry.attempts + entry.inquiries for entry in batch), _RARELY_SECONDS
        )
        self._commitments.ask(transaction_uid, batch, seconds)
        references = [Reference(e.sop_class_uid, e.sop_instance_uid, e.study_instance_uid, "") for e in batch]
        try:
            session.commit(transaction_uid, references)
        except PeerRejected as error:
            _LOG.warning("%s: %s", self._destination.name, error)
            for entry in batch:
                self._outbox.unconfirmed(entry, str(error), seconds)
            return False
        _LOG.info("%s: asked to commit to %d results", self._destination.name, len(batch))
        return True

    def _query(self, session: Inquiry | WebSession, batch: Sequence[Delivery]) -> None:
        references = {}
        for entry in batch:
            try:
                references[entry.id] = Reference.of(self._results.path(entry.file))
            except (OSError, InvalidDicomError, KeyError) as error:
                sentence = f"the result's file {entry.file} cannot be read: {error}"
                self._outbox.unconfirmed(entry, sentence, self._pause(entry.inquiries, _RARELY_SECONDS))
        found = session.find(list(references.values()))
        kept = [entry for entry in batch if entry.id in references and entry.sop_instance_uid in found]
        self._confirm(kept, Confirmation.QUERY)
        for entry in batch:
            if entry.id not in references or entry in kept:
                continue
            sentence, seconds = (
                "the destination does not find it",
                self._pause(entry.attempts + entry.inquiries, _RARELY_SECONDS),
            )
            if entry.inquiries + 1 < _MISSES:
                self._outbox.unconfirmed(entry, sentence, seconds)
            else:
                self._outbox.postponed(entry, sentence, seconds, counted=False)

    def _confirm(self, batch: Sequence[Delivery], by: Confirmation) -> None:
        for entry in batch:
            self._outbox.confirmed(entry, by)
        if batch:
            _LOG.info("%s: keeps %d results, by %s", self._destination.name, len(batch), by)
