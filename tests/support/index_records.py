"""Records for an index: a received instance, a leased study, an encoded result."""

from __future__ import annotations

from sqlalchemy import Engine, func, select

from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store import database
from dicom_node.store.analysis_leases import AnalysisLease, AnalysisLeases, EncodedResult
from dicom_node.store.files import StoredFile
from dicom_node.store.index import Index
from dicom_node.store.received_instances import ReceivedInstance
from dicom_node.store.tables import delivery


def received_instance(
    sop: str = "1.2.3", study: str = "1.2", digest: str = "a" * 64, **fields: object
) -> ReceivedInstance:
    """Instance as the SCP records it; `fields` replace any of its fields."""
    values: dict[str, object] = {
        "sop_instance_uid": sop,
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.1",
        "transfer_syntax_uid": "1.2.840.10008.1.2.1",
        "study_instance_uid": study,
        "series_instance_uid": "1.2.9",
        "digest": digest,
        "size": 10,
        "file": f"aa/{digest}.dcm",
        "calling_ae": "MODALITY",
        "peer_host": "127.0.0.1",
    }
    return ReceivedInstance(**{**values, **fields})  # type: ignore[arg-type]


THIS_PROCESS = LeaseOwner.this_process()


def complete_study(index: Index) -> None:
    """Record one instance and complete its study."""
    index.add_instance(received_instance())
    index.complete_due(0, 300)


def lease_study(leases: AnalysisLeases, revision: int = 1) -> AnalysisLease:
    """Claim the study of :func:`complete_study`."""
    taken = leases.acquire("1.2", revision, THIS_PROCESS, 30)
    assert taken is not None
    return taken


def encoded_result(uid: str = "2.25.1") -> EncodedResult:
    """Structured report as the worker records it; its file does not exist."""
    return EncodedResult("sr", uid, "1.2.840.10008.5.1.4.1.1.88.34", StoredFile("d" * 64, 5, f"dd/{uid}.dcm"))


def delivery_states(engine: Engine) -> dict[str, int]:
    """Number of deliveries by the state that is stored, also of results that were withdrawn."""
    with database.reading(engine) as connection:
        query = select(delivery.c.state, func.count()).group_by(delivery.c.state)
        return {str(state): int(count) for state, count in database.as_mapping(connection, query).items()}
