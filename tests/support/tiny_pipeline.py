"""Fixtures: a pipeline with a tiny bundle and an empty data directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.config.destinations import DicomDestination
from dicom_node.config.sections import StudySettings, WorkerSettings
from dicom_node.config.settings import Settings
from models.bundles.bundle import write_bundle
from tests.support.pipeline_harness import PipelineHarness
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "tiny-0.0.1"
    return write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION).path


@pytest.fixture
def settings(tmp_path: Path, tiny_bundle: Path) -> Settings:
    return Settings(
        data_dir=tmp_path / "node",
        study=StudySettings(quiet_seconds=0),
        # No gate: it rightly refuses drawn films.
        worker=WorkerSettings(
            bundle=str(tiny_bundle), gate="", device="cpu", max_attempts=2, lease_seconds=30
        ),
        destinations=(DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=104),),
    )


@pytest.fixture
def bench(settings: Settings) -> Iterator[PipelineHarness]:
    bench = PipelineHarness(settings)
    with bench.pipeline:
        yield bench
