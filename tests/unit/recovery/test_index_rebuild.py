"""The index is lost and made anew: what was acknowledged and said is there as before."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from dicom_node.config.served_models import ServedModel
from dicom_node.config.settings import Settings
from dicom_node.delivery.withdrawal import withdraw
from dicom_node.recovery.index_rebuild import IndexRebuild, set_aside_index
from dicom_node.results import codes
from dicom_node.store import database
from dicom_node.store.analysis_records import AnalysisRecords
from dicom_node.store.audit import IndexQueries
from dicom_node.store.index import TRIAL_HOST, Index
from dicom_node.store.states import StudyState
from dicom_node.store.tables import delivery, instance, reading, result, study
from tests.support import factories
from tests.support.pipeline_harness import PipelineHarness
from tests.support.tiny_bundle import write_named

STUDY = ("study_instance_uid", "state", "revision", "reason", "completed_at")
INSTANCE = (
    "sop_instance_uid", "sop_class_uid", "transfer_syntax_uid", "series_instance_uid", "digest", "size",
    "file", "calling_ae", "peer_host", "set_aside",
)  # fmt: skip
RESULT = ("revision", "kind", "sop_instance_uid", "sop_class_uid", "digest", "size", "file")


def rows(index: Index, table: object, names: tuple[str, ...]) -> list[tuple[object, ...]]:
    with database.reading(index.engine) as connection:
        columns = [table.c[name] for name in names]  # type: ignore[attr-defined]
        return sorted(map(tuple, connection.execute(select(*columns))))


def lose_and_rebuild(bench: PipelineHarness) -> tuple[Index, IndexRebuild]:
    bench.index.close()
    path = bench.data_dir.root / "index.sqlite"
    assert set_aside_index(path)
    index = Index.open(bench.settings.database)
    return index, IndexRebuild(bench.settings, index)


def analysed(bench: PipelineHarness, **elements: object) -> str:
    uid = bench.receive(**elements)
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    return uid


def test_studies_films_results_and_what_they_say_are_restored(bench: PipelineHarness) -> None:
    reported = analysed(bench, study="a", series="a")
    analysed(bench, study="b", series="b", body_part="HAND", seed=2)
    bench.receive(study="c", series="c", seed=3)  # not analysed yet
    before = {table.name: rows(bench.index, table, names) for table, names in
              ((instance, INSTANCE), (result, RESULT))}  # fmt: skip
    studies = rows(bench.index, study, STUDY)
    key = dict(rows(bench.index, study, ("study_instance_uid", "id")))[reported]
    said = AnalysisRecords(bench.index.engine).latest(int(str(key)))
    index, rebuild = lose_and_rebuild(bench)
    found = rebuild.run()
    assert (found.studies, found.instances, found.read_again) == (3, 3, 1)
    assert not found.damaged
    assert not found.unreadable
    for table, names in ((instance, INSTANCE), (result, RESULT)):
        assert rows(index, table, names) == before[table.name]
    restored = rows(index, study, STUDY)
    for old, new in zip(studies, restored, strict=True):
        if old[1] in ("REPORTED", "SKIPPED"):
            assert old[:4] == new[:4]
            # Results hold microseconds.
            assert abs(float(str(old[4])) - float(str(new[4]))) < 1e-6
        else:
            assert new[:3] == (old[0], "RECEIVING", 1)
    assert (
        IndexQueries(index.engine)
        .audit(bench.data_dir.spool, bench.data_dir.results, read_files=True)
        .conserved
    )
    # Each result waits to be sent again.
    assert {state for (state,) in rows(index, delivery, ("state",))} == {"ENCODED"}
    assert len(rows(index, delivery, ("id",))) == len(before["result"])
    key = dict(rows(index, study, ("study_instance_uid", "id")))[reported]
    again = AnalysisRecords(index.engine).latest(int(str(key)))
    assert said is not None
    assert again is not None
    assert (again.record.model, again.record.model_version) == (said.record.model, said.record.model_version)
    assert again.record.parameters == said.record.parameters
    assert again.record.normality == said.record.normality
    assert [each.sop_instance_uid for each in again.record.images] == [
        each.sop_instance_uid for each in said.record.images
    ]
    assert [(f.key, f.presence) for f in again.record.findings] == [
        (f.key, f.presence) for f in said.record.findings
    ]
    for new, old in zip(again.record.findings, said.record.findings, strict=True):
        assert abs(new.value - old.value) < 1e-5
        assert abs(new.threshold - old.threshold) < 1e-5
    index.close()


def test_the_results_of_several_models_are_restored_each_with_its_model(
    settings: Settings, tmp_path: Path
) -> None:
    models = tuple(
        ServedModel(name=name, bundle=str(write_named(tmp_path, name, shift).path))
        for name, shift in (("one", 0.0), ("two", 0.5))
    )
    bench = PipelineHarness(settings.model_copy(update={"models": models}))
    with bench.pipeline:
        analysed(bench)
    names = (*RESULT, "model")
    before = rows(bench.index, result, names)
    assert {each[-1] for each in before} == {"one", "two"}
    answered = ("revision", "position", "role", "model")
    analyses = rows(bench.index, reading, answered)
    index, rebuild = lose_and_rebuild(bench)
    assert rebuild.run().given_up == 0
    assert rows(index, result, names) == before
    assert rows(index, reading, answered) == analyses
    index.close()


def test_a_study_that_is_read_again_gives_the_same_results(bench: PipelineHarness) -> None:
    uid = bench.receive()
    index, rebuild = lose_and_rebuild(bench)
    rebuild.run()
    assert index.complete_due(0, 300) == 1
    assert index.take_queueable(1) == [(uid, 1)]
    index.close()


def test_revisions_and_the_results_of_a_void_analysis_are_told_apart(bench: PipelineHarness) -> None:
    uid = analysed(bench, study="a", series="a", instance=1)
    bench.receive(study="a", series="a", instance=2, seed=2)
    bench.complete()
    bench.pipeline.analyse(uid, 2)
    # A third image made the analysis of revision 3 void: its results have no row.
    bench.receive(study="a", series="a", instance=3, seed=3)
    bench.complete()
    before = rows(bench.index, result, RESULT)
    index, rebuild = lose_and_rebuild(bench)
    rebuild.run()
    assert rows(index, result, RESULT) == before
    assert {revision for revision, *_ in before} == {1, 2}
    (found,) = rows(index, study, ("state", "revision"))
    assert found == ("RECEIVING", 3)  # the third image is still to be read
    index.close()


def test_what_was_withdrawn_stays_withdrawn(bench: PipelineHarness) -> None:
    uid = analysed(bench)
    withdraw(bench.settings, bench.index, uid, title=codes.REJECTED_FOR_SAFETY, reason="a mistake")
    before = rows(bench.index, result, RESULT)
    index, rebuild = lose_and_rebuild(bench)
    rebuild.run()
    assert rows(index, result, RESULT) == before
    audit = IndexQueries(index.engine).audit(bench.data_dir.spool, bench.data_dir.results)
    assert (audit.fates["withdrawn"], audit.fates["waiting"]) in {(1, 0), (0, 1)}  # the note waits to be sent
    with database.reading(index.engine) as connection:
        waiting = connection.execute(
            select(result.c.kind).join(delivery).where(delivery.c.state == "ENCODED")
        ).scalars()
        assert set(waiting) == {"rejection"}
    index.close()


def test_copies_trials_and_own_results_keep_their_fate(bench: PipelineHarness) -> None:
    bench.receive(study="a", series="a", seed=1)
    bench.receive(study="a", series="a", seed=2)  # the same UID, other pixels
    bench.receive(study="b", series="b", seed=3, ManufacturerModelName="dicom-node")
    trial = factories.film(study="t", series="t", seed=4)
    uid = bench.receive_film(trial, peer_host=TRIAL_HOST)
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    before = rows(bench.index, instance, INSTANCE)
    assert {row[-1] for row in before} == {"", "conflict", "own result"}
    index, rebuild = lose_and_rebuild(bench)
    rebuild.run()
    assert rows(index, instance, INSTANCE) == before
    assert rows(index, delivery, ("id",)) == []
    index.close()


def test_a_film_that_was_moved_to_another_study_under_its_uid_stays_set_aside(bench: PipelineHarness) -> None:
    uid = factories.uid("moved")
    bench.receive(study="a", series="a", SOPInstanceUID=uid)
    bench.receive(study="b", series="b", SOPInstanceUID=uid)
    before = rows(bench.index, instance, INSTANCE)
    assert [row[-1] for row in before] == ["", "conflict"]
    index, rebuild = lose_and_rebuild(bench)
    rebuild.run()
    assert rows(index, instance, INSTANCE) == before
    index.close()


def test_a_damaged_file_is_named_and_the_rest_restored(bench: PipelineHarness) -> None:
    analysed(bench, study="a", series="a")
    bench.receive(study="b", series="b", seed=2)
    bench.receive(study="c", series="c", seed=3)
    files = [str(row[6]) for row in rows(bench.index, instance, INSTANCE)]
    zeroed, flipped = (bench.data_dir.spool.path(name) for name in files[1:])
    zeroed.write_bytes(bytes(zeroed.stat().st_size))
    content = bytearray(flipped.read_bytes())
    content[-1] ^= 1
    flipped.write_bytes(content)
    index, rebuild = lose_and_rebuild(bench)
    found = rebuild.run()
    assert [Path(name).name for name, _ in found.unreadable] == [zeroed.name]
    assert [Path(name).name for name, _ in found.damaged] == [flipped.name]
    assert found.instances == 2
    index.close()


def test_a_kept_index_gets_the_films_that_it_lacks(bench: PipelineHarness) -> None:
    bench.receive(study="a", series="a")
    bench.receive(study="b", series="b", seed=2)
    before = rows(bench.index, instance, INSTANCE)
    with database.writing(bench.index.engine) as connection:
        connection.execute(instance.delete().where(instance.c.file == before[0][6]))
    found = IndexRebuild(bench.settings, bench.index).add_missing()
    assert found.instances == 1
    assert rows(bench.index, instance, INSTANCE) == before
    assert StudyState.RECEIVING in {state for (state,) in rows(bench.index, study, ("state",))}
