"""Heat maps that fail the check of the bundle are not sent, and the report says why."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.config.settings import Settings
from dicom_node.results import codes
from models.bundles.bundle import MAPS, amend_bundle, read_bundle
from models.processing.map_check import MapCheck
from tests.support import factories
from worker.study_reader import StudyReader
from worker.study_revision import StudyRevision


@pytest.mark.parametrize("least", [0.0, 0.9999])
def test_a_map_beside_the_body_is_withheld(
    settings: Settings, tiny_bundle: Path, tmp_path: Path, least: float
):
    folder = tmp_path / "own" / tiny_bundle.name
    shutil.copytree(tiny_bundle, folder)
    amend_bundle(read_bundle(folder), {MAPS: MapCheck("drawn", "val", 90, 40, least, least).dump()})
    worker = settings.worker.model_copy(update={"bundle": str(folder)})
    film = factories.film()
    path = factories.write(film, tmp_path / "film.dcm")
    with StudyReader.open(settings.model_copy(update={"worker": worker})) as reader:
        study = StudyRevision(film.StudyInstanceUID, 1, datetime(2026, 1, 2, tzinfo=UTC))
        reading = reader.read(study, [path])
    (kind, sr), *pictures = reading.objects
    assert kind == "sr"
    said = str(sr).count(f"'{codes.MAP_WITHHELD.value}'")
    assert reading.report is not None
    withheld = [finding.withheld for finding in reading.report.findings if finding.withheld]
    shown = [finding for finding in reading.report.findings if finding.saliency]
    if least:
        assert (len(pictures), len(shown)) == (0, 0)
        assert said == len(withheld) > 0
        assert all("of it lies on the body, less than the 100 %" in reason for reason in withheld)
    else:
        assert len(pictures) == len(shown) > 0
        assert said == len(withheld) == 0
