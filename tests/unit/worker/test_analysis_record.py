"""Record of an analysis for the reading room."""

from __future__ import annotations

import json

import numpy as np
import pytest

from dicom_node.results.report import Algorithm, Code, Report, SimilarCase, SimilarCases, Source
from dicom_node.results.report import Refusal as Refused
from dicom_node.store.analysis_records import AnalysisRecords, SimilarCaseRecord
from dicom_node.store.heatmaps import MAX_SIDE
from dicom_node.store.index import TRIAL_HOST
from dicom_node.store.states import StudyState
from dicom_node.web.read_models.model_cards import read_card
from tests.support.factories import film
from tests.support.pipeline_harness import PipelineHarness
from worker.analysis_record import make_analysis_record
from worker.model_reader import ModelAnalysis


def test_the_page_gets_what_the_report_says(bench: PipelineHarness) -> None:
    uid = bench.receive(rows=700, columns=600)
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
    reading = AnalysisRecords(bench.index.engine).latest(1)
    assert reading is not None
    said = reading.record
    assert (reading.revision, said.model, said.model_version) == (1, "tiny", "0.0.1")
    assert any(each.startswith("weights_sha256=") for each in said.parameters)
    assert [entry.key for entry in said.findings] == [
        label.key for label in bench.pipeline._reader.models.first.predictor.labels
    ]
    assert {entry.presence for entry in said.findings} <= {"present", "absent"}
    calibrated = [entry for entry in said.findings if entry.low is not None]
    assert calibrated
    assert all(entry.low < entry.certainty < entry.high for entry in calibrated)
    (image,) = said.images
    assert (image.view, image.reason) == ("PA", "")
    present = [entry.key for entry in said.findings if entry.presence == "present" and entry.key != "normal"]
    assert sorted(each.key for each in said.maps[: len(present)]) == sorted(present)
    for number, each in enumerate(said.maps[: len(present)]):  # the others are on the grid of the network
        values = bench.data_dir.maps.read(said.maps_file, number)
        assert values.dtype == np.uint8
        assert max(values.shape) == MAX_SIDE
        assert values.shape[1] / values.shape[0] == pytest.approx(600 / 700, abs=0.01)
        assert each.sop_instance_uid == image.sop_instance_uid


def test_why_a_film_was_not_read_is_kept_too(bench: PipelineHarness) -> None:
    uid = bench.receive(body_part="HAND")
    bench.complete()
    assert bench.pipeline.analyse(uid, 1) is StudyState.SKIPPED
    reading = AnalysisRecords(bench.index.engine).latest(1)
    assert reading is not None
    assert (reading.record.model, reading.record.findings, reading.record.maps_file) == ("", (), "")
    (image,) = reading.record.images
    assert image.reason == "body_part"
    assert "hand" in image.exclusion


def test_the_results_of_what_was_tried_go_nowhere(bench: PipelineHarness) -> None:
    uid = bench.receive(peer_host=TRIAL_HOST)
    assert bench.index.complete(uid)
    assert not bench.index.complete(uid)
    assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
    with bench.index.engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM result").scalar_one() >= 1
        assert connection.exec_driver_sql("SELECT count(*) FROM delivery").scalar_one() == 0


def test_similar_cases_survive_being_kept(bench: PipelineHarness) -> None:
    code = Code("1", "99X", "Nodule")
    similar = SimilarCases(
        index_name="reference",
        index_digest="0" * 64,
        algorithm=Algorithm("encoder", "1"),
        cases=(SimilarCase(1, "openi:CXR1", 0.9, (("Nodule", code),), "A nodule."),),
        agreement=0.25,
        disagrees=True,
    )
    header = film(rows=64, columns=64)
    report = Report(
        study_instance_uid=header.StudyInstanceUID,
        revision=1,
        created=_now(),
        sources=(Source(header),),
        algorithm=None,
        refusal=Refused("blank", "the picture is blank"),
        similar=similar,
    )
    said = make_analysis_record(ModelAnalysis(report, ()), bench.data_dir.maps).similar
    assert said is not None
    assert (said.index, said.agreement, said.disagrees) == ("reference", 0.25, True)
    assert said.cases == (SimilarCaseRecord("openi:CXR1", 0.9, ("Nodule",), "A nodule."),)


def _now() -> object:
    from datetime import UTC, datetime

    return datetime(2026, 1, 1, tzinfo=UTC)


def test_the_card_is_left_for_the_page(bench: PipelineHarness) -> None:
    (bundle,) = bench.pipeline._reader.models.bundles
    (bundle.path / "README.md").write_text(
        "# tiny\n\n<script>1</script>\n\n| a | b |\n| - | -: |\n| 1 | 2 |\n"
    )
    try:
        bench.pipeline.warm_up()
        card = read_card(bench.data_dir.cards, "tiny-0.0.1")
    finally:
        (bundle.path / "README.md").unlink()
    assert card is not None
    assert "&lt;script&gt;" in card.html
    assert "style=" not in card.html
    assert '<td class="number">2</td>' in card.html
    assert {each.key for each in card.reliabilities} == {
        key for key, entry in bundle.calibration.labels.items() if entry.method == "platt"
    }
    runs_on = json.loads(bench.data_dir.runs_on.read_text())
    assert runs_on["device"].startswith("cpu, ")
    assert runs_on["torch"]
    assert read_card(bench.data_dir.cards, "../models") is None
    assert read_card(bench.data_dir.cards, "other-1") is None
