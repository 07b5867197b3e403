"""Archive (pynetdicom) that takes results and answers questions about them, rightly or wrongly."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

from pydicom.dataset import Dataset
from pydicom.uid import UID, ComprehensiveSRStorage, SecondaryCaptureImageStorage
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.presentation import build_context, build_role
from pynetdicom.sop_class import (
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
    StudyRootQueryRetrieveInformationModelFind,
)

from tests.support.peers import free_port

Answer = tuple[int, Dataset]


def report(request: Dataset, failed: Mapping[str, int] | None = None) -> Answer:
    """Event type and Event Information of the report on a request for storage commitment (PS3.4 J.3.3).

    Parameters
    ----------
    failed
        Failure Reason by SOP Instance UID, or by SOP Class UID for all of a class.
    """
    failed = failed or {}
    ds = Dataset()
    ds.TransactionUID = request.TransactionUID
    ds.ReferencedSOPSequence, ds.FailedSOPSequence = [], []
    for wanted in request.ReferencedSOPSequence:
        item = Dataset()
        item.ReferencedSOPClassUID = wanted.ReferencedSOPClassUID
        item.ReferencedSOPInstanceUID = wanted.ReferencedSOPInstanceUID
        of_class = failed.get(wanted.ReferencedSOPClassUID)
        reason = failed.get(wanted.ReferencedSOPInstanceUID, of_class)
        if reason is None:
            ds.ReferencedSOPSequence.append(item)
        else:
            item.FailureReason = reason
            ds.FailedSOPSequence.append(item)
    if not ds.FailedSOPSequence:
        del ds.FailedSOPSequence
    return (1 if "FailedSOPSequence" not in ds else 2), ds


class Archive:
    """Archive that listens on a free port: Storage, Storage Commitment and Query SCP.

    Attributes
    ----------
    stored
        SOP Instance UIDs of every C-STORE that was answered Success, repeats included.
    requests
        Action Information of every request for commitment.
    store_status
        Status of C-STORE responses, by SOP class; Success for all others.
    failed
        Failure Reason in reports on commitment, by SOP class.
    action_status, find_status
        Status of N-ACTION and of final C-FIND responses.
    open_when_asked
        Number of open associations at each C-FIND and N-ACTION, its own included.
    answering
        Function that is called with each accepted request, such as :meth:`on_the_same` and
        :meth:`on_a_new`.
    """

    def __init__(
        self, *, commitment: bool = True, query: bool = True, node: tuple[str, int] | None = None
    ) -> None:
        self.stored: list[str] = []
        self.requests: list[Dataset] = []
        self.store_status: dict[str, int] = {}
        self.failed: dict[str, int] = {}
        self.action_status = 0
        self.find_status = 0
        self.answering: Callable[[evt.Event, Dataset], None] = lambda _event, _request: None
        self.report_statuses: list[int | None] = []
        self.associations = 0
        self.open_when_asked: list[int] = []
        self.port = free_port()
        self._node = node
        self._services = [StorageCommitmentPushModel] * commitment
        self._services += [StudyRootQueryRetrieveInformationModelFind] * query
        self._threads: list[threading.Thread] = []
        self._server: Any = None
        self._ae = ApplicationEntity("ARCHIVE")
        self._ae.acse_timeout = self._ae.dimse_timeout = self._ae.network_timeout = 20

    def start(self) -> None:
        for sop_class in (ComprehensiveSRStorage, SecondaryCaptureImageStorage, *self._services):
            self._ae.add_supported_context(sop_class)
        handlers = [
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_C_STORE, self._store),
            (evt.EVT_C_FIND, self._find),
            (evt.EVT_N_ACTION, self._action),
        ]
        self._server = self._ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
        for thread in self._threads:
            thread.join(20)
        self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._ae.shutdown()

    @property
    def destination(self) -> dict[str, Any]:
        """Destination of this archive, as in the settings."""
        return {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": self.port}

    # -- how it answers a request for commitment -------------------------------------------------------

    def on_the_same(self, event: evt.Event, request: Dataset, times: int = 1) -> None:
        """Report on the association of the request, as soon as that is answered."""
        self._later(lambda: [self._report(event.assoc, request) for _ in range(times)])

    def on_a_new(self, _event: evt.Event, request: Dataset, *, roles: bool = True) -> None:
        """Report on an association to the node."""
        self._later(lambda: self.report_to_node(request, roles=roles))

    def report_to_node(
        self, request: Dataset, *, roles: bool = True, failed: Mapping[str, int] | None = None
    ) -> None:
        """Open an association to the node and report on a request; `roles`: negotiate the SCP role."""
        assert self._node is not None
        ae_title, port = self._node
        association = self._ae.associate(
            "127.0.0.1",
            port,
            [build_context(StorageCommitmentPushModel)],
            ae_title=ae_title,
            ext_neg=[build_role(StorageCommitmentPushModel, scp_role=True)] if roles else [],
        )
        assert association.is_established
        self._report(association, request, failed)
        association.release()

    def _report(self, association: Any, request: Dataset, failed: Mapping[str, int] | None = None) -> None:
        event_type, information = report(request, self.failed if failed is None else failed)
        status, _ = association.send_n_event_report(
            information, event_type, StorageCommitmentPushModel, StorageCommitmentPushModelInstance
        )
        self.report_statuses.append(status.get("Status"))

    def _later(self, what: Callable[[], object]) -> None:
        thread = threading.Thread(target=what)
        self._threads.append(thread)
        thread.start()

    # -- what it is sent -------------------------------------------------------------------------------

    def _accepted(self, _event: evt.Event) -> None:
        self.associations += 1

    def _store(self, event: evt.Event) -> int:
        status = self.store_status.get(event.request.AffectedSOPClassUID, 0)
        if status == 0:
            self.stored.append(str(event.request.AffectedSOPInstanceUID))
        return status

    def _asked(self) -> None:
        established = [each for each in self._ae.active_associations if each.is_established]
        self.open_when_asked.append(len(established))

    def _find(self, event: evt.Event) -> Any:
        self._asked()
        if self.find_status:
            yield self.find_status, None
            return
        wanted = event.identifier.SOPInstanceUID
        for uid in [wanted] if isinstance(wanted, str) else wanted:
            if uid in self.stored:
                found = Dataset()
                found.QueryRetrieveLevel = "IMAGE"
                found.SOPInstanceUID = uid
                yield 0xFF00, found

    def _action(self, event: evt.Event) -> tuple[int, None]:
        self._asked()
        if self.action_status == 0:
            self.requests.append(event.action_information)
            self.answering(event, event.action_information)
        return self.action_status, None


def sop_classes(entries: Sequence[Dataset]) -> list[UID]:
    """SOP classes of the instances that a request names."""
    return [item.ReferencedSOPClassUID for item in entries]
