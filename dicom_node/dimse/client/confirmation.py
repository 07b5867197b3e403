"""Confirmation that a peer keeps what it was sent: by storage commitment, or by a query (C-FIND)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import evt
from pynetdicom.dimse_primitives import N_EVENT_REPORT
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
)

from dicom_node.dimse.client.association import RequestedAssociation
from dicom_node.dimse.client.peer import Peer
from dicom_node.dimse.commitment import (
    ACTION_TYPE,
    CommitmentReport,
    InstanceReference,
    action_information,
    decode_event_information,
)
from dicom_node.dimse.contexts import UNCOMPRESSED
from dicom_node.dimse.status import Outcome, Status, meaning_of
from dicom_node.errors import BadInstance, PeerRejected, PeerUnavailable
from dicom_node.store.states import Confirmation

SERVICES = {
    StorageCommitmentPushModel: Confirmation.COMMITMENT,
    StudyRootQueryRetrieveInformationModelFind: Confirmation.QUERY,
}
"""SOP class that is proposed to a peer -> confirmation that it gives."""
_FIND = StudyRootQueryRetrieveInformationModelFind
_PENDING = (0xFF00, 0xFF01)  # (PS3.4 table C.4-1)


@dataclass(eq=False)
class ConfirmationSession(Peer):
    """SCU that asks one peer for confirmation; to be used by one thread at a time.

    The association of a request for commitment stays open for a while, so that the answer may use it. It
    carries no further request: an answer that arrives during one would be taken for its response.

    Attributes
    ----------
    on_report
        Called with an answer that arrives on the association of its request, in a thread of its own. When it
        raises, the peer is answered "processing failure".
    linger_seconds
        Seconds for which such an association stays open.
    """

    on_report: Callable[[CommitmentReport], object] = field(kw_only=True)
    linger_seconds: float = field(default=5, kw_only=True)
    _association: RequestedAssociation | None = field(default=None, init=False)
    _lingering: list[tuple[float, RequestedAssociation]] = field(default_factory=list, init=False)

    def offered(self) -> frozenset[Confirmation]:
        """Return the kinds of confirmation that the peer offers; associate first if needed.

        Raises
        ------
        PeerUnavailable, PeerRejected
            When it cannot be reached, or offers none.
        """
        self._end_lingering(time.monotonic())
        if self._association is None or not self._association.is_established:
            self._association = self.associate(
                [build_context(service, list(UNCOMPRESSED)) for service in SERVICES],
                [(evt.EVT_N_EVENT_REPORT, self._receive_report)],
            )
        accepted = {context.abstract_syntax for context in self._association.accepted_contexts}
        return frozenset(means for service, means in SERVICES.items() if service in accepted)

    def commit(self, transaction_uid: str, references: Iterable[InstanceReference]) -> None:
        """Request storage commitment (N-ACTION); the answer goes to `on_report` or to the node's SCP.

        Raises
        ------
        PeerUnavailable
            When the peer does not take the request now.
        PeerRejected
            When it refuses the request for good.
        """
        status, _ = self._send(
            "N-ACTION",
            lambda association: association.send_n_action(
                action_information(transaction_uid, references),
                ACTION_TYPE,
                StorageCommitmentPushModel,
                StorageCommitmentPushModelInstance,
            ),
        )
        self._check(status, "N-ACTION")
        if self._association is not None:
            self._lingering.append((time.monotonic() + self.linger_seconds, self._association))
            self._association = None

    def find(self, references: Sequence[InstanceReference]) -> set[str]:
        """Return the SOP Instance UIDs that the peer finds (C-FIND, Study Root, level IMAGE).

        Raises
        ------
        PeerUnavailable
            When the peer gives no complete answer.
        PeerRejected
            When it refuses the query for good.
        """
        by_series: dict[tuple[str, str], list[str]] = {}
        for each in references:
            key = (each.study_instance_uid, each.series_instance_uid)
            by_series.setdefault(key, []).append(each.sop_instance_uid)
        return {uid for (study, series), uids in by_series.items() for uid in self._find(study, series, uids)}

    def release(self) -> None:
        """Release every association; the next request opens another."""
        self._end_lingering(math.inf)
        association, self._association = self._association, None
        if association is not None:
            association.end(orderly=True)

    def _end_lingering(self, now: float) -> None:
        for until, association in [*self._lingering]:
            if until <= now or not association.is_established:
                self._lingering.remove((until, association))
                association.end(orderly=True)

    def _find(self, study: str, series: str, uids: list[str]) -> set[str]:
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "IMAGE"
        identifier.StudyInstanceUID = study
        identifier.SeriesInstanceUID = series
        identifier.SOPInstanceUID = uids  # list of UID matching (PS3.4 C.2.2.2.2)
        answers: list[tuple[Dataset, Dataset | None]] = self._send(
            "C-FIND",
            lambda association: list(
                self.bounded("C-FIND", association, association.send_c_find(identifier, _FIND))
            ),
        )
        self._check(answers[-1][0] if answers else Dataset(), "C-FIND")
        return {
            str(found.SOPInstanceUID)
            for status, found in answers
            if status.get("Status") in _PENDING and found is not None and "SOPInstanceUID" in found
        }

    def _send(self, operation: str, send: Callable[[RequestedAssociation], Any]) -> Any:
        self.offered()  # associates again when the peer has ended the association
        association = self._association
        assert association is not None
        with self.translated(operation, association):
            return send(association)

    def _check(self, status: Dataset, operation: str) -> None:
        code = status.get("Status")
        if code is None:
            association, self._association = self._association, None
            assert association is not None
            association.end()
            why = association.dimse.end or "the association ended"
            raise PeerUnavailable(f"{self.name}: {why} without an answer to {operation}")
        meaning = meaning_of(code)
        if meaning.outcome.delivered:
            return
        sentence = f"{self.name}: {operation} answered {code:04X}: {meaning.text}"
        raise (PeerRejected if meaning.outcome is Outcome.PERMANENT else PeerUnavailable)(sentence)

    def _receive_report(self, event: evt.Event) -> tuple[int, None]:
        encoded = cast("N_EVENT_REPORT", event.request).EventInformation
        try:
            self.on_report(
                decode_event_information(
                    encoded.getvalue() if encoded else b"", UID(event.context.transfer_syntax)
                )
            )
        except BadInstance:
            return Status.INVALID_ARGUMENT, None
        except Exception:  # noqa: BLE001 - the callback may raise anything; the peer reports again
            return Status.PROCESSING_FAILURE, None
        return Status.SUCCESS, None
