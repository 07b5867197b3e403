"""Analysis pipeline over its own data directory."""

from __future__ import annotations

from pydicom import Dataset, dcmread

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.dimse.server import file_meta
from dicom_node.dimse.server.file_meta import Reception
from dicom_node.dimse.server.identifiers import read_identifiers
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.audit import IndexQueries
from dicom_node.store.delivery_queue import DeliveryQueue
from dicom_node.store.files import data_set_offset
from dicom_node.store.index import Index
from tests.support import factories
from worker.pipeline import Pipeline
from worker.study_reader import StudyReader


class PipelineHarness:
    """Data directory, its index, and the analysis pipeline over them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data_dir = DataDir(settings)
        self.data_dir.prepare(alone=True)
        self.index = Index.open(settings.database)
        self.pipeline = Pipeline(settings, self.index, StudyReader.open(settings))

    def receive(self, *, peer_host: str = "127.0.0.1", **elements: object) -> str:
        """Receive a drawn film as the SCP does; returns its Study Instance UID."""
        return self.receive_film(factories.film(**elements), peer_host=peer_host)  # type: ignore[arg-type]

    def receive_film(self, ds: Dataset, *, peer_host: str = "127.0.0.1") -> str:
        """Receive a film as the SCP does; returns its Study Instance UID."""
        content = factories.encoded(ds)
        syntax = ds.file_meta.TransferSyntaxUID
        found = read_identifiers(content, data_set_offset(content), syntax)
        head = file_meta.encode(
            found.sop_class_uid, found.sop_instance_uid, syntax, Reception("MODALITY", peer_host)
        )
        stored = self.data_dir.spool.keep(head + content[data_set_offset(content) :])
        self.index.add_instance(found.received(stored, syntax, calling_ae="MODALITY", peer_host=peer_host))
        return found.study_instance_uid

    def complete(self) -> None:
        """Complete every study that was received."""
        self.index.complete_due(0, 300)


def results(bench: PipelineHarness) -> list[Dataset]:
    """Results that wait for the destination ``pacs``."""
    taken = DeliveryQueue(bench.index.engine).take("pacs", LeaseOwner("elsewhere", 1, 1), 60)
    return [dcmread(bench.data_dir.results.path(entry.file)) for entry in taken]


def reason(bench: PipelineHarness) -> str:
    """Reason of the newest study."""
    return IndexQueries(bench.index.engine).studies()[0].reason
