"""Several models in one node: primaries that report, shadows that are kept, and models that fail."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from pydicom import dcmread

from dicom_node.config.served_models import ServedModel
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError
from dicom_node.results.sr.parser import parse_findings, parse_refusal
from dicom_node.store.analysis_records import AnalysisRecords
from dicom_node.store.states import StudyState
from dicom_node.store.tables import delivery, result
from dicom_node.web.read_models.health import read_health
from models.bundles.predictor import Predictor
from models.errors import ModelUnavailable, PredictionError
from tests.support.pipeline_harness import PipelineHarness, reason
from tests.support.tiny_bundle import write_named
from worker.loaded_models import LoadedModels
from worker.replay import replay

SHIFTS = (("one", 0.0), ("two", 0.5), ("dim", 1.0))


@pytest.fixture(scope="session")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("several")
    return {name: str(write_named(folder, name, shift).path) for name, shift in SHIFTS}


def served(bundles: dict[str, str], name: str, **conditions: Any) -> ServedModel:
    return ServedModel(name=f"entry-{name}", bundle=bundles[name], **conditions)


@pytest.fixture
def several(settings: Settings, bundles: dict[str, str]) -> Iterator[PipelineHarness]:
    """Node with two primary models and a shadow."""
    models = (served(bundles, "one"), served(bundles, "dim", role="shadow"), served(bundles, "two"))
    wanted = settings.results.model_copy(update={"objects": ("sr", "sc"), "saliency_columns": 64})
    bench = PipelineHarness(settings.model_copy(update={"models": models, "results": wanted}))
    with bench.pipeline:
        yield bench


def rows(bench: PipelineHarness, table: Any) -> list[Any]:
    with bench.index.engine.connect() as connection:
        return list(connection.execute(table.select().order_by(table.c.id)).mappings().all())


def analysed(bench: PipelineHarness, **elements: object) -> StudyState | None:
    uid = bench.receive(**elements)
    bench.complete()
    return bench.pipeline.analyse(uid, 1)


def test_every_primary_reports_in_series_of_its_own_and_nothing_of_a_shadow_is_written(
    several: PipelineHarness,
) -> None:
    assert analysed(several) is StudyState.REPORTED
    found = rows(several, result)
    assert {entry["model"] for entry in found} == {"one", "two"}
    objects = [dcmread(several.data_dir.results.path(entry["file"])) for entry in found]
    reports = [ds for ds in objects if ds.Modality == "SR"]
    assert len(reports) == 2
    assert len({ds.SeriesInstanceUID for ds in objects}) == len({(e["kind"], e["model"]) for e in found})
    assert sorted(ds.SeriesDescription for ds in reports) == [
        "AI findings - RESEARCH USE ONLY - one",
        "AI findings - RESEARCH USE ONLY - two",
    ]
    assert not any("dim" in str(ds) for ds in objects)
    assert {entry["result_id"] for entry in rows(several, delivery)} == {entry["id"] for entry in found}


def test_the_answers_of_all_are_kept_primaries_first(several: PipelineHarness) -> None:
    analysed(several)
    records = AnalysisRecords(several.index.engine)
    assert [(each.position, each.role, each.name) for each in records.models_of(1)] == [
        (0, "primary", "one"),
        (1, "primary", "two"),
        (2, "shadow", "dim"),
    ]
    shadow = records.latest(1, 2)
    assert shadow is not None
    assert shadow.record.seconds is not None
    first = records.latest(1)
    assert first is not None
    assert all(
        dark.score > light.score
        for dark, light in zip(shadow.record.findings, first.record.findings, strict=True)
    )


def test_a_model_that_fails_harms_no_other_and_says_so_in_its_own_report(
    several: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = Predictor.trace

    def failing(self: Predictor, studies: Any, **options: Any) -> Any:
        if self.identity.name in ("two", "dim"):
            raise PredictionError("it gave no number")
        return trace(self, studies, **options)

    monkeypatch.setattr(Predictor, "trace", failing)
    assert analysed(several) is StudyState.REPORTED
    assert reason(several) == "model entry-two: it gave no number"
    reports = {
        entry["model"]: dcmread(several.data_dir.results.path(entry["file"]))
        for entry in rows(several, result)
        if entry["kind"] == "sr"
    }
    assert parse_findings(reports["one"])
    assert not parse_findings(reports["two"])
    assert parse_refusal(reports["two"]) == "model_failed"
    assert [each.name for each in AnalysisRecords(several.index.engine).models_of(1)] == ["one", "two"]


def test_health_names_each_model_and_what_it_failed_of(
    several: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    several.pipeline.warm_up()
    trace = Predictor.trace

    def failing(self: Predictor, studies: Any, **options: Any) -> Any:
        if self.identity.name == "two":
            raise PredictionError("it gave no number")
        return trace(self, studies, **options)

    def states() -> list[tuple[str, str, str, str]]:
        found = read_health(several.index.engine, several.settings, several.data_dir).models
        return [(each.name, each.role, each.model, each.problem) for each in found]

    expected = [
        ("entry-one", "primary", "one 0.0.1", ""),
        ("entry-dim", "shadow", "dim 0.0.1", ""),
        ("entry-two", "primary", "two 0.0.1", ""),
    ]
    assert states() == expected
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "trace", failing)
        analysed(several)
    assert states() == [*expected[:2], (*expected[2][:3], "it gave no number")]
    uid = several.receive(study=2, series=2, seed=2)
    several.complete()
    several.pipeline.analyse(uid, 1)
    assert states() == expected


def test_an_error_that_nobody_foresaw_in_one_model_leaves_the_others_their_answers(
    several: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = Predictor.trace

    def failing(self: Predictor, studies: Any, **options: Any) -> Any:
        if self.identity.name in ("two", "dim"):
            raise MemoryError("Doe^Jane")
        return trace(self, studies, **options)

    monkeypatch.setattr(Predictor, "trace", failing)
    assert analysed(several) is StudyState.REPORTED
    assert reason(several) == "model entry-two: MemoryError"


def test_without_an_answer_of_any_primary_the_study_fails(
    several: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = Predictor.trace

    def failing(self: Predictor, studies: Any, **options: Any) -> Any:
        if self.identity.name != "dim":
            raise PredictionError("it gave no number")
        return trace(self, studies, **options)

    monkeypatch.setattr(Predictor, "trace", failing)
    assert analysed(several) is StudyState.FAILED
    assert reason(several) == "it gave no number"


def test_a_study_waits_for_a_model_that_does_not_answer_now(
    several: PipelineHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(self: Predictor, *_: Any, **__: Any) -> Any:
        raise ModelUnavailable(f"{self.identity.name} does not answer")

    uid = several.receive()
    several.complete()
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "trace", away)
        assert several.pipeline.analyse(uid, 1) is None
    assert reason(several) == "one does not answer"
    assert several.pipeline.analyse(uid, 1) is StudyState.REPORTED


@pytest.mark.parametrize(
    ("conditions", "elements", "reads"),
    [
        ({"calling_ae": ("MOD*",)}, {}, True),
        ({"calling_ae": ("ER",)}, {}, False),
        ({"modality": ("DX",)}, {"modality": "DX"}, True),
        ({"modality": ("CR",)}, {"modality": "DX"}, False),
        ({"view": ("frontal",)}, {"view": "PA"}, True),
        ({"view": ("lateral",)}, {"view": "PA"}, False),
        ({"min_age": 18}, {"PatientAge": "054Y"}, True),
        ({"min_age": 18}, {"PatientAge": "017Y"}, False),
        ({"max_age": 18}, {"PatientAge": "011M"}, True),
        ({"max_age": 18}, {"PatientAge": "018Y"}, False),
        ({"max_age": 18}, {"PatientAge": ""}, False),
    ],
)
def test_a_model_reads_the_studies_that_meet_its_conditions(
    settings: Settings,
    bundles: dict[str, str],
    conditions: dict[str, Any],
    elements: dict[str, object],
    reads: bool,
) -> None:
    models = (served(bundles, "one"), served(bundles, "two", **conditions))
    bench = PipelineHarness(settings.model_copy(update={"models": models}))
    with bench.pipeline:
        assert analysed(bench, **elements) is StudyState.REPORTED
        names = [each.name for each in AnalysisRecords(bench.index.engine).models_of(1)]
    assert names == (["one", "two"] if reads else ["one"])


def test_a_study_that_no_model_reads_is_skipped_with_the_reason(
    settings: Settings, bundles: dict[str, str]
) -> None:
    models = (served(bundles, "one", min_age=18),)
    bench = PipelineHarness(settings.model_copy(update={"models": models}))
    with bench.pipeline:
        assert analysed(bench, PatientAge="009Y") is StudyState.SKIPPED
    assert reason(bench).startswith("no model of the settings reads such a study")


def test_a_film_of_another_view_is_named_as_left_out(settings: Settings, bundles: dict[str, str]) -> None:
    models = (served(bundles, "one", view=("frontal",)),)
    bench = PipelineHarness(settings.model_copy(update={"models": models}))
    with bench.pipeline:
        uid = bench.receive(view="PA")
        bench.receive(instance=2, seed=2, view="LL")
        bench.complete()
        assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
    kept = AnalysisRecords(bench.index.engine).latest(1)
    assert kept is not None
    assert [image.reason for image in kept.record.images] == ["", "other_view"]


def test_each_model_replaces_its_own_report_and_the_first_those_of_models_that_read_no_more(
    several: PipelineHarness, bundles: dict[str, str]
) -> None:
    uid = several.receive()
    several.complete()
    several.pipeline.analyse(uid, 1)
    first = {e["model"]: e["sop_instance_uid"] for e in rows(several, result) if e["kind"] == "sr"}
    several.receive(instance=2, seed=2)
    several.complete()
    several.pipeline.analyse(uid, 2)
    second = {
        e["model"]: dcmread(several.data_dir.results.path(e["file"]))
        for e in rows(several, result)
        if e["kind"] == "sr" and e["revision"] == 2
    }

    def replaced(ds: Any) -> str:
        (study,) = ds.PredecessorDocumentsSequence
        return str(study.ReferencedSeriesSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID)

    assert {name: replaced(ds) for name, ds in second.items()} == first
    alone = several.settings.model_copy(update={"models": (served(bundles, "dim"),)})
    promoted = PipelineHarness(alone)
    with promoted.pipeline:
        promoted.receive(instance=3, seed=3)
        promoted.complete()
        promoted.pipeline.analyse(uid, 3)
    (last,) = [e for e in rows(promoted, result) if e["kind"] == "sr" and e["revision"] == 3]
    assert last["model"] == "dim"
    assert replaced(dcmread(promoted.data_dir.results.path(last["file"]))) == second["two"].SOPInstanceUID


def test_a_study_of_two_models_replays_byte_for_byte_whatever_reads_now(
    several: PipelineHarness, bundles: dict[str, str]
) -> None:
    uid = several.receive()
    several.complete()
    several.pipeline.analyse(uid, 1)
    turned = (served(bundles, "two"), served(bundles, "one", role="shadow"))
    found = replay(several.settings.model_copy(update={"models": turned}), several.index, uid)
    assert len(found) == len(rows(several, result))
    assert {entry.difference for entry in found} == {""}


def test_no_more_models_stay_in_memory_than_may(
    settings: Settings, bundles: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = settings.worker.model_copy(update={"loaded_models": 1})
    models = (served(bundles, "one"), served(bundles, "two"))
    opened: list[str] = []
    opening = LoadedModels._open

    def counted(self: LoadedModels, entry: ServedModel) -> Any:
        opened.append(entry.name)
        return opening(self, entry)

    monkeypatch.setattr(LoadedModels, "_open", counted)
    bench = PipelineHarness(settings.model_copy(update={"models": models, "worker": worker}))
    with bench.pipeline:
        assert len(bench.pipeline._reader.models.bundles) == 1
        assert analysed(bench) is StudyState.REPORTED
        assert len(bench.pipeline._reader.models.bundles) == 1
    assert opened == ["entry-one", "entry-two", "entry-one", "entry-two"]
    assert {entry["model"] for entry in rows(bench, result)} == {"one", "two"}


def test_a_shadow_that_cannot_be_loaded_is_left_out(settings: Settings, bundles: dict[str, str]) -> None:
    models = (served(bundles, "one"), ServedModel(name="gone", bundle="no-such-bundle", role="shadow"))
    bench = PipelineHarness(settings.model_copy(update={"models": models}))
    with bench.pipeline:
        assert analysed(bench) is StudyState.REPORTED
    broken = (served(bundles, "one"), ServedModel(name="gone", bundle="no-such-bundle"))
    with pytest.raises(ConfigurationError, match="models: gone: no-such-bundle: no bundle"):
        LoadedModels(settings.model_copy(update={"models": broken}), gate="").load()


def test_two_primaries_of_one_name_are_refused(settings: Settings, bundles: dict[str, str]) -> None:
    twice = (served(bundles, "one"), ServedModel(name="again", bundle=bundles["one"]))
    with pytest.raises(ConfigurationError, match="entry-one and again are both the model one"):
        LoadedModels(settings.model_copy(update={"models": twice}), gate="").load()


def test_a_study_waits_when_no_primary_can_be_had_and_a_shadow_can(
    settings: Settings, bundles: dict[str, str]
) -> None:
    away = ServedModel(name="away", url="http://127.0.0.1:9", retries=0, timeout_seconds=1)
    models = (away, served(bundles, "dim", role="shadow"))
    bench = PipelineHarness(settings.model_copy(update={"models": models}))
    with bench.pipeline:
        assert analysed(bench) is None
    assert "127.0.0.1:9" in reason(bench)
    assert AnalysisRecords(bench.index.engine).models_of(1) == []
