"""Withdrawal of results: destinations that hold them get a rejection note, the others get nothing more."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from dicom_node.config.data_dir import DataDir
from dicom_node.config.installation import this_installation
from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError
from dicom_node.imaging import attributes
from dicom_node.results.document.key_objects import write_rejection
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.report import Code
from dicom_node.results.validation import check_result
from dicom_node.store.analysis_leases import EncodedResult
from dicom_node.store.index import Index
from dicom_node.store.purge_trace import sentence
from dicom_node.store.recorded_results import REJECTION_NOTE, AlreadyWithdrawn, RecordedResults


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Summary of a withdrawal.

    Attributes
    ----------
    results
        Number of results that the rejection note names.
    stopped
        Number of deliveries that had not arrived and will not be sent.
    told
        Names of the destinations that get the note.
    note
        SOP Instance UID of the note.
    """

    results: int
    stopped: int
    told: tuple[str, ...]
    note: str


def withdraw(
    settings: Settings, index: Index, study_instance_uid: str, *, title: Code, reason: str
) -> Withdrawal:
    """Withdraw all results of a study that are in force.

    Parameters
    ----------
    title
        Document title of the note: ``codes.REJECTED_FOR_SAFETY`` or ``codes.REJECTED_FOR_QUALITY``.
    reason
        Reason, as one sentence; it is written into the note.

    Raises
    ------
    NodeError
        When there is nothing to withdraw, or the file of a result is lost or was purged.
    """
    recorded = RecordedResults(index.engine).for_study(study_instance_uid)
    if recorded is None or not recorded.results:
        raise NodeError(
            f"study {study_instance_uid}: no results that could be withdrawn; see `dicom-node status`"
        )
    if purged := [trace for entry in recorded.results if (trace := entry.purged) is not None]:
        raise NodeError(
            f"study {study_instance_uid}: {sentence('result', purged)}, so no rejection note can name it; "
            "reject the results at the destination"
        )
    spool = DataDir(settings).results
    try:
        written = [dcmread(spool.path(entry.file), stop_before_pixels=True) for entry in recorded.results]
    except (OSError, InvalidDicomError, *attributes.MALFORMED) as error:
        why = error.strerror if isinstance(error, OSError) else "its file is damaged"
        raise NodeError(
            f"study {study_instance_uid}: a result cannot be read: {why}; see `dicom-node status --audit`"
        ) from None
    note = write_rejection(
        written,
        title=title,
        reason=reason,
        created=datetime.fromtimestamp(time.time(), UTC),
        revision=recorded.revision,
        equipment=this_installation(settings),
    )
    check_result(note)
    kept = spool.keep(encoded(note))
    entry = EncodedResult(REJECTION_NOTE, str(note.SOPInstanceUID), str(note.SOPClassUID), kept)
    names = [destination.name for destination in settings.destinations]
    try:
        stopped, told = RecordedResults(index.engine).withdraw(recorded, entry, names)
    except AlreadyWithdrawn as error:
        spool.path(kept.name).unlink(missing_ok=True)
        raise NodeError(f"study {study_instance_uid}: {error}") from None
    return Withdrawal(len(recorded.results), stopped, tuple(told), entry.sop_instance_uid)
