"""A pipeline over a tiny bundle and an empty data directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config.data_dir import DataDir
from dicom_node.config.sections import DicomDestination, StudySettings, WorkerSettings
from dicom_node.config.settings import Settings
from dicom_node.dimse.server.identifiers import read_identifiers
from dicom_node.store.files import data_set_offset
from dicom_node.store.index import Index
from models.bundles.bundle import write_bundle
from tests.support import factories
from tests.unit.models.conftest import CALIBRATION, KEYS, MANIFEST, make_network
from worker.pipeline import Pipeline
from worker.study_reader import StudyReader


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny-0.0.1"
    return write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION).path


@pytest.fixture
def settings(tmp_path: Path, tiny_bundle: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "node",
        study=StudySettings(quiet_seconds=0),
        # The films are drawn: to the gate they are no chest films, and rightly so.
        worker=WorkerSettings(
            bundle=str(tiny_bundle), gate="", device="cpu", max_attempts=2, lease_seconds=30
        ),
        destinations=(DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104),),
    )


class Bench:
    """A data directory, its index and the pipeline over them."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.data_dir = DataDir(settings)
        self.data_dir.prepare(alone=True)
        self.index = Index.open(settings.database)
        self.pipeline = Pipeline(settings, self.index, StudyReader.open(settings))

    def receive(self, *, peer_host: str = "127.0.0.1", **elements: object) -> str:
        """Keep a film as the SCP would; return its Study Instance UID."""
        ds = factories.film(**elements)  # type: ignore[arg-type]
        content = factories.encoded(ds)
        stored = self.data_dir.spool.keep(content)
        found = read_identifiers(content, data_set_offset(content), ds.file_meta.TransferSyntaxUID)
        self.index.add_instance(
            found.received(stored, ds.file_meta.TransferSyntaxUID, calling_ae="MODALITY", peer_host=peer_host)
        )
        return found.study_instance_uid

    def complete(self) -> None:
        self.index.complete_due(0, 300)


@pytest.fixture
def bench(settings: Settings) -> Iterator[Bench]:
    bench = Bench(settings)
    with bench.pipeline:
        yield bench
