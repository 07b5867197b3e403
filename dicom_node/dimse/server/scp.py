"""Storage SCP and Verification SCP, which also receives the answers about storage commitment.

An instance is durable before it is acknowledged. Answers to a C-STORE:

* Success only when the file is on disk and the index has committed it. The same instance again is Success
  too, and nothing is done twice. The same SOP Instance UID with other bytes is kept apart and flagged as a
  conflict, and is Success as well: the bytes are safe, and a refused sender would send them again for ever.
* Cxxx for a data set that is not DICOM, ends too early, or lacks a valid UID; it is not kept. Pixels are not
  checked here: whether a film can be read is decided later, with a reason.
* A7xx when the instance cannot be kept at the moment.

An N-EVENT-REPORT of storage commitment is Success when the index has recorded it, also when it is repeated.
"""

from __future__ import annotations

import logging
import mmap
import resource
import socket
from pathlib import Path

from pynetdicom.sop_class import StorageCommitmentPushModel  # type: ignore[attr-defined]

from dicom_node.audit_trail.alerts import Alerts
from dicom_node.audit_trail.events import Actor
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.audit_trail.transfers import Transfers
from dicom_node.config.data_dir import DataDir
from dicom_node.config.destinations import DicomDestination
from dicom_node.config.sections import DicomSettings
from dicom_node.config.settings import Settings
from dicom_node.dimse.commitment import EventType, decode_event_information
from dicom_node.dimse.server.admission import PeerAddresses
from dicom_node.dimse.server.identifiers import Identifiers, RefusedInstance, read_identifiers
from dicom_node.dimse.server.listener import AcceptedAssociation, Listener
from dicom_node.dimse.server.messages import DimseRequest, IncomingFile, Operation
from dicom_node.dimse.status import Status
from dicom_node.errors import BadInstance, StorageFailed, StorageFull
from dicom_node.runtime import logs, readiness
from dicom_node.runtime.stop_signal import stop_event
from dicom_node.store.commitments import StorageCommitments
from dicom_node.store.files import Spool
from dicom_node.store.index import Index
from dicom_node.store.received_instances import Admission
from dicom_node.store.reception import receive
from dicom_node.store.reserve import Reserve

_LOG = logging.getLogger(__name__)

_STOP_SECONDS = 6.0
# Two for a connection, one for its incoming file, some for the database.
_OPEN_FILES = 4096


class StorageSCP:
    """Storage SCP, which receives films into the spool and the index.

    Parameters
    ----------
    settings
        DICOM section of the settings.
    spool
        Prepared spool.
    index
        Open index.
    listening
        Socket from :func:`dicom_node.dimse.transport.bind`; other processes may share it.
    source_host
        Name or address of the source of priors that sends by C-STORE; None when there is none.
    audit_trail
        Audit trail of the node; None to keep none.
    """

    def __init__(
        self,
        settings: DicomSettings,
        spool: Spool,
        index: Index,
        listening: socket.socket,
        source_host: str | None = None,
        audit_trail: AuditTrail | None = None,
    ) -> None:
        self._alerts = Alerts(audit_trail) if audit_trail else None
        self._transfers = Transfers(audit_trail, settings.ae_title, incoming=True) if audit_trail else None
        self._spool = spool
        self._index = index
        self._commitments = StorageCommitments(index.engine)
        self._source = None if source_host is None else PeerAddresses(source_host, "priors.source")
        reserve = Reserve(index.engine, spool)
        self._listener = Listener(
            settings,
            listening,
            serve=self._serve,
            folder=spool.incoming,
            check_room=reserve.check_room,
            on_ended=self._ended,
            on_refused=self._refused,
        )

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the listening socket."""
        host, port, *_ = self._listener.server_address
        return str(host), int(port)

    def start(self) -> None:
        """Begin to accept associations."""
        self._listener.start()

    def stop(self, seconds: float = _STOP_SECONDS) -> None:
        """Accept no more associations, finish the current requests and end.

        Parameters
        ----------
        seconds
            Most seconds for the current requests.
        """
        self._listener.stop(seconds)

    def _serve(self, association: AcceptedAssociation, request: DimseRequest) -> None:
        try:
            status, comment = self._answer(association, request)
        except RefusedInstance as error:
            status, comment = error.status, str(error)
        except BadInstance:
            status, comment = Status.NOT_A_DATA_SET, "the data set cannot be kept"
        except StorageFull as error:
            status, comment = Status.OUT_OF_RESOURCES, "no room; send again later"
            _LOG.error("%s", error)
        except StorageFailed as error:
            status, comment = Status.STORAGE_FAILED, "storage failed; send again later"
            _LOG.error("%s", error)
        except Exception:  # noqa: BLE001 - every request must be answered, and the association goes on
            status, comment = Status.INTERNAL_ERROR, "internal error; send again later"
            _LOG.exception("%s: a request failed", association.name)
        if request.operation == Operation.N_EVENT_REPORT and status in _STORAGE_STATUSES:
            status = Status.PROCESSING_FAILURE
        if status != Status.SUCCESS:
            _LOG.warning("%s: answered %04X: %s", association.name, status, comment)
        association.dimse.answer(request, status, comment)

    def _answer(self, association: AcceptedAssociation, request: DimseRequest) -> tuple[Status, str]:
        if request.operation == Operation.C_ECHO:
            return Status.SUCCESS, ""
        if request.information is not None and request.abstract_syntax == StorageCommitmentPushModel:
            return self._record_commitment(association, request)
        if request.incoming is None:
            return Status.UNRECOGNISED_OPERATION, "only C-ECHO, C-STORE, N-EVENT-REPORT are served"
        identifiers = _identify(request, request.incoming)
        path, digest = _path(request.incoming), request.incoming.digest
        stored, admission = receive(
            self._index,
            self._spool,
            lambda: self._spool.adopt(path, digest),
            lambda stored: identifiers.received(
                stored,
                request.transfer_syntax,
                calling_ae=association.calling_ae,
                peer_host=association.host,
                moved_for=request.moved_for,
                move_message_id=request.move_message_id,
                from_source=self._source is not None and self._source.is_known(association.host),
            ),
        )
        if self._transfers is not None:
            self._transfers.note(
                association,
                _peer(association),
                study_instance_uid=identifiers.study_instance_uid,
                sop_class_uid=identifiers.sop_class_uid,
                path=self._spool.path(stored.name),
                known=admission is Admission.REPEATED,
            )
        with logs.study(identifiers.study_instance_uid):
            _LOG.log(
                _LEVELS[admission],
                "%s: instance %s is %s, %d bytes",
                association.name,
                logs.uid_hash(identifiers.sop_instance_uid),
                admission.value,
                stored.size,
            )
        return Status.SUCCESS, ""

    def _ended(self, association: AcceptedAssociation) -> None:
        if self._transfers is not None:
            self._transfers.finish(association)

    def _refused(self, association: AcceptedAssociation, reason: str, detail: str) -> None:
        if self._alerts is not None:
            self._alerts.association_refused(_peer(association), reason, detail=detail)

    def _record_commitment(
        self, association: AcceptedAssociation, request: DimseRequest
    ) -> tuple[Status, str]:
        """Record a peer's answer to a request for storage commitment."""
        if request.event_type not in list(EventType):
            return Status.NO_SUCH_EVENT_TYPE, f"event type {request.event_type} is not 1 or 2"
        try:
            report = decode_event_information(request.information or b"", request.transfer_syntax)
        except BadInstance as error:
            return Status.INVALID_ARGUMENT, str(error)
        changed = self._commitments.record_answers(report.transaction_uid, report.answers)
        if changed is None:
            return Status.INVALID_ARGUMENT, "a transaction that this node did not begin"
        _LOG.info(
            "%s: storage commitment answered for %d results; the state of %d changed",
            association.name,
            len(report.answers),
            changed,
        )
        return Status.SUCCESS, ""


# Statuses of C-STORE alone (PS3.4 table B.2-1); an N-EVENT-REPORT is answered "processing failure" instead.
_STORAGE_STATUSES = frozenset(
    {Status.NOT_A_DATA_SET, Status.OUT_OF_RESOURCES, Status.STORAGE_FAILED, Status.INTERNAL_ERROR}
)
_LEVELS = {
    Admission.NEW: logging.INFO,
    Admission.REPEATED: logging.INFO,
    Admission.REPAIRED: logging.WARNING,
    Admission.RESTORED: logging.INFO,
    Admission.SET_ASIDE: logging.WARNING,
    Admission.PRIOR: logging.INFO,
}


def _peer(association: AcceptedAssociation) -> Actor:
    return Actor("", association.host, association.calling_ae)


def _path(incoming: IncomingFile) -> Path:
    if incoming.path is None:
        raise incoming.error or RefusedInstance(
            Status.INVALID_UID, "AffectedSOPClassUID or InstanceUID is no UID"
        )
    return incoming.path


def _identify(request: DimseRequest, incoming: IncomingFile) -> Identifiers:
    """Read the identifiers of a data set, and check that command and context match them."""
    if request.sop_class_uid != request.abstract_syntax:
        raise RefusedInstance(Status.DATA_SET_DOES_NOT_MATCH, "AffectedSOPClassUID is not the context's")
    with (
        _path(incoming).open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        identifiers = read_identifiers(data, incoming.data_set_offset, request.transfer_syntax)
    for keyword, of_command, of_data_set in (
        ("SOPClassUID", request.sop_class_uid, identifiers.sop_class_uid),
        ("SOPInstanceUID", request.sop_instance_uid, identifiers.sop_instance_uid),
    ):
        if of_command != of_data_set:
            raise RefusedInstance(Status.DATA_SET_DOES_NOT_MATCH, f"{keyword} is not the one of the command")
    return identifiers


def run_scp(settings: Settings, listen_fd: int) -> None:
    """Run an SCP process until SIGTERM.

    Parameters
    ----------
    settings
        Settings of the node; its data directory is prepared.
    listen_fd
        Descriptor of the listening socket, inherited from the process that bound it.
    """
    stop = stop_event()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _OPEN_FILES)), hard))
    index = Index.open(settings.database, create=False)
    with socket.socket(fileno=listen_fd) as listening:
        source = settings.prior_source
        host = source.asked.host if isinstance(source, DicomDestination) else None
        trail = AuditTrail.open(settings, index.engine)
        scp = StorageSCP(settings.dicom, DataDir(settings).spool, index, listening, host, trail)
        scp.start()
        readiness.notify_ready()
        stop.wait()
        scp.stop()
        trail.close()
    index.close()
