"""Every model family reads a study in the worker and draws its heat maps, with and without text."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.config.sections import WorkerSettings
from dicom_node.config.settings import Settings
from dicom_node.results.report import Presence
from dicom_node.store.states import StudyState
from tests.support import factories
from tests.support.model_families import FAMILIES, write_family
from worker.study_reader import StudyReader
from worker.study_revision import StudyRevision


@pytest.mark.parametrize("family", FAMILIES)
def test_a_film_becomes_a_report_with_pictures(family: str, tmp_path: Path) -> None:
    bundle = write_family(tmp_path, family)
    worker = WorkerSettings(bundle=str(bundle.path), gate="", device="cpu", threads=1)
    settings = Settings(data_dir=tmp_path / "node", worker=worker)
    film = factories.film()
    path = tmp_path / "film.dcm"
    path.write_bytes(factories.encoded(film))
    with StudyReader.open(settings) as reader:
        study = StudyRevision(film.StudyInstanceUID, 1, datetime(2026, 1, 2, tzinfo=UTC))
        reading = reader.read(study, [path])
    assert reading.state is StudyState.REPORTED, reading.reason
    kinds = [kind for kind, _ in reading.objects]
    assert kinds[0] == "sr"
    assert reading.report is not None
    present = [finding for finding in reading.report.findings if finding.saliency]
    assert kinds[1:] == ["sc"] * len(present)
    asked = [finding for finding in reading.report.findings if finding.presence is Presence.PRESENT]
    # A network of random weights may have nothing to show for a finding; that is said then.
    assert all(
        bool(finding.saliency) != (finding.withheld == "it is flat")
        for finding in asked
        if finding.key != "normal"
    )
