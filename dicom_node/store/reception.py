"""Reception of an instance: its file is stored, then its row, and both are there when this returns."""

from __future__ import annotations

from collections.abc import Callable

from dicom_node.store.files import Spool, StoredFile
from dicom_node.store.index import Index
from dicom_node.store.received_instances import Admission, ReceivedInstance


def receive(
    index: Index,
    spool: Spool,
    store: Callable[[], StoredFile],
    describe: Callable[[StoredFile], ReceivedInstance],
) -> tuple[StoredFile, Admission]:
    """Store a received instance, and add it to the index.

    A film that was received before is one file in the spool, and a purge may remove that before or after the
    second step. The row, once it is back in the state KEPT, keeps the purge from the file that is stored
    again.

    Parameters
    ----------
    store
        Function that stores the file in the spool; it can be called twice.
    describe
        Function that returns what the index is told of the stored file.

    Raises
    ------
    BadInstance, StorageFull, StorageFailed
        When the instance was not stored: the sender must not be answered Success.
    """
    stored = store()
    admission = index.add_instance(describe(stored))
    while not spool.path(stored.name).exists():
        stored = store()
        if admission is Admission.REPEATED:
            admission = index.add_instance(describe(stored))
    return stored, admission
