"""Heat maps: those of the report, those for the page alone, and those that fail the check of the bundle."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dicom_node.config.settings import Settings
from dicom_node.results import codes
from dicom_node.store.heatmaps import HeatMaps
from models.bundles.bundle import MAPS, amend_bundle, read_bundle
from models.explain.targets import NORMAL
from models.processing.map_check import MapCheck
from tests.support import factories
from worker.analysis_record import make_analysis_record
from worker.model_reader import ModelAnalysis
from worker.study_reader import StudyReader
from worker.study_revision import StudyRevision


def read_with(least: float, settings: Settings, tiny_bundle: Path, tmp_path: Path) -> ModelAnalysis:
    """Answer of a bundle whose maps need a least share on chest or body."""
    folder = tmp_path / "own" / tiny_bundle.name
    shutil.copytree(tiny_bundle, folder)
    amend_bundle(read_bundle(folder), {MAPS: MapCheck("drawn", "val", 90, 40, least, least).dump()})
    worker = settings.worker.model_copy(update={"bundle": str(folder)})
    film = factories.film()
    path = factories.write(film, tmp_path / "film.dcm")
    with StudyReader.open(settings.model_copy(update={"worker": worker})) as reader:
        study = StudyRevision(film.StudyInstanceUID, 1, datetime(2026, 1, 2, tzinfo=UTC))
        (analysis,) = reader.read(study, [path]).analyses
    return analysis


@pytest.mark.parametrize("least", [0.0, 0.9999])
def test_the_page_has_a_small_map_of_each_finding_that_the_report_does_not_show(
    settings: Settings, tiny_bundle: Path, tmp_path: Path, least: float
):
    analysis = read_with(least, settings, tiny_bundle, tmp_path)
    maps = HeatMaps(tmp_path / "maps")
    record = make_analysis_record(analysis, maps)
    reported = [finding.key for finding in analysis.report.findings if finding.saliency]
    others = [each.key for each in record.maps[len(reported) :]]
    if least:  # a map that fails the check is on no page either
        assert (reported, others) == ([], [])
        return
    keys = {finding.key for finding in analysis.report.findings} - {NORMAL}
    assert len(reported) > 0 < len(others)
    assert [each.key for each in record.maps[: len(reported)]] == reported
    assert set(reported).isdisjoint(others)
    assert {*reported, *others} == keys
    for number in range(len(reported), len(record.maps)):
        values = maps.read(record.maps_file, number)
        assert max(values.shape) <= 64
        assert values.max() == 255


@pytest.mark.parametrize("least", [0.0, 0.9999])
def test_a_map_beside_the_body_is_withheld(
    settings: Settings, tiny_bundle: Path, tmp_path: Path, least: float
):
    reading = read_with(least, settings, tiny_bundle, tmp_path)
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
