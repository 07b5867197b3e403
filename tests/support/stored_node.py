"""Node at rest: a data directory and its index with films, results and heat maps, without processes."""

from __future__ import annotations

from pathlib import Path

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.analysis_leases import AnalysisLeases, EncodedResult
from dicom_node.store.audit import Audit, IndexQueries
from dicom_node.store.files import StoredFile
from dicom_node.store.index import Index
from dicom_node.store.states import StudyState
from tests.support import factories
from tests.support.index_records import received_instance

OTHER_HOST = LeaseOwner("elsewhere", 4711, 1, "0123456789abcdef", 1)


class StoredNode:
    """Data directory with an index, SQLite in it unless an address is given."""

    def __init__(self, root: Path, address: str | None = None) -> None:
        self.settings = Settings(data_dir=root, database_url=address)
        self.data_dir = DataDir(self.settings)
        self.data_dir.prepare(alone=True)
        self.root = root
        self.index = Index.open(self.settings.database)

    def receive(self, number: int, **elements: object) -> StoredFile:
        """Store one film of a study of its own, as the SCP does."""
        film = factories.film(rows=32, columns=32, study=number, seed=number, **elements)
        stored = self.data_dir.spool.keep(factories.encoded(film))
        self.index.add_instance(
            received_instance(
                film.SOPInstanceUID,
                film.StudyInstanceUID,
                stored.digest,
                size=stored.size,
                file=stored.name,
            )
        )
        return stored

    def lease(self, number: int) -> None:
        """Let a worker of another host begin with a study."""
        self.index.complete_due(0, 300)
        uid = factories.uid("study", number)
        assert AnalysisLeases(self.index.engine).acquire(uid, 1, OTHER_HOST, 3600)

    def report(self, number: int, destinations: tuple[str, ...] = ("pacs",)) -> StoredFile:
        """Record a result of a study."""
        self.index.complete_due(0, 300)
        leases = AnalysisLeases(self.index.engine)
        lease = leases.acquire(factories.uid("study", number), 1, OTHER_HOST, 3600)
        assert lease is not None
        film = factories.film(rows=8, columns=8, study=number, instance=2)
        stored = self.data_dir.results.keep(factories.encoded(film))
        result = EncodedResult("sr", film.SOPInstanceUID, film.SOPClassUID, stored)
        assert leases.finish(lease, StudyState.REPORTED, "", [result], destinations)
        return stored

    def fill(self) -> None:
        """Store three films: of a reported study, of one that a worker has, of one that arrives."""
        self.receive(1)
        self.report(1)
        self.receive(2)
        self.lease(2)
        self.receive(3)
        (self.root / "web.key").write_bytes(b"k" * 32)

    def audit(self) -> Audit:
        """Audit of the index and of every file."""
        queries = IndexQueries(self.index.engine)
        return queries.audit(self.data_dir.spool, self.data_dir.results, read_files=True)

    def close(self) -> None:
        """Close the index."""
        self.index.close()
