"""Node at rest with one study in each stage, for the tests of backups."""

from __future__ import annotations

from pathlib import Path

from dicom_node.store.audit import Audit, IndexQueries
from dicom_node.store.states import StudyState
from tests.support.factories import uid
from tests.support.offline_node import OWNER, OfflineNode


class StoredNode(OfflineNode):
    """Node without processes; its index is SQLite in the data directory unless an address is given."""

    def __init__(self, root: Path, address: str | None = None) -> None:
        super().__init__(root, address=address)
        self.root = root

    def fill(self) -> None:
        """Store three films: of a reported study, of one that a worker has, of one that arrives."""
        self.finish(1, StudyState.REPORTED)
        self.complete(2)
        # A worker of another host, for an hour.
        assert self.leases.acquire(uid("study", 2), 1, OWNER, 3600)
        self.receive(3)
        (self.root / "web.key").write_bytes(b"k" * 32)

    def audit(self) -> Audit:
        """Audit of the index and of every file."""
        queries = IndexQueries(self.index.engine)
        return queries.audit(self.data_dir.spool, self.data_dir.results, read_files=True)
