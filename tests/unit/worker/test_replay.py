"""Replay: results are made again from films and bundle alone, byte for byte."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydicom import dcmread

from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError
from dicom_node.results.encoding.part10 import encoded
from dicom_node.store.states import StudyState
from dicom_node.store.tables import result
from models.bundles.bundle import write_bundle
from models.bundles.onnx_graph import write_graph
from models.bundles.torch_session import TorchSession
from tests.support.pipeline_harness import PipelineHarness
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network
from worker.replay import replay

EVERYTHING = ("sr", "sc", "pdf", "ko", "seg", "pr", "pm")


class Full(torch.nn.Module):
    """Network on a device that has no memory left."""

    def forward(self, _batch):
        raise torch.OutOfMemoryError("CUDA out of memory.")


@pytest.fixture
def settings(settings: Settings) -> Settings:
    wanted = settings.results.model_copy(update={"objects": EVERYTHING, "saliency_columns": 64})
    return settings.model_copy(update={"results": wanted})


def test_a_study_replays_byte_for_byte_whatever_is_written_now(bench: PipelineHarness) -> None:
    uid = bench.receive()
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    bench.receive(instance=2, seed=2)
    bench.complete()
    bench.pipeline.analyse(uid, 2)
    less = bench.settings.results.model_copy(update={"objects": ("sr",), "sr_class": "enhanced"})
    found = replay(bench.settings.model_copy(update={"results": less}), bench.index, uid)
    assert {entry.kind for entry in found} >= {"sr", "pdf", "ko"}
    assert {entry.difference for entry in found} == {""}


def test_a_refusal_replays_too(bench: PipelineHarness) -> None:
    uid = bench.receive(body_part="HAND")
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    assert {entry.difference for entry in replay(bench.settings, bench.index, uid)} == {""}


def test_a_result_that_was_altered_is_named_with_its_element(bench: PipelineHarness) -> None:
    uid = bench.receive()
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    with bench.index.engine.connect() as connection:
        name = connection.execute(result.select().where(result.c.kind == "sr")).mappings().one()["file"]
    path = bench.data_dir.results.path(name)
    ds = dcmread(path)
    ds.ContentSequence[-1].ContentSequence[-1].TextValue = "For clinical use"
    path.chmod(0o600)
    path.write_bytes(encoded(ds))
    differences = {entry.kind: entry.difference for entry in replay(bench.settings, bench.index, uid)}
    assert "TextValue" in differences["sr"]
    assert differences["pdf"] == ""


@pytest.mark.parametrize("how", ["missing", "zeroed", "flipped"])
def test_a_damaged_result_is_written_again(bench: PipelineHarness, how: str) -> None:
    uid = bench.receive()
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    with bench.index.engine.connect() as connection:
        rows = connection.execute(result.select()).mappings().all()
    paths = [bench.data_dir.results.path(row["file"]) for row in rows]
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, contents, strict=True):
        if how == "missing":
            path.unlink()
        else:
            path.write_bytes(bytes(len(content)) if how == "zeroed" else content[:-1] + b"\xfe")
    assert all(entry.difference for entry in replay(bench.settings, bench.index, uid))
    assert not any(entry.difference for entry in replay(bench.settings, bench.index, uid, mend=True))
    assert [path.read_bytes() for path in paths] == contents


@pytest.mark.parametrize("then", ["onnx", "torch"])
def test_a_study_replays_in_the_runtime_that_its_report_names(
    settings: Settings, tmp_path: Path, then: str
) -> None:
    folder = tmp_path / "tiny-0.0.1"
    write_graph(write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION))
    worker = settings.worker.model_copy(update={"bundle": str(folder), "runtime": then})
    bench = PipelineHarness(settings.model_copy(update={"worker": worker}))
    now = worker.model_copy(update={"runtime": "torch" if then == "onnx" else "onnx"})
    with bench.pipeline:
        uid = bench.receive()
        bench.complete()
        bench.pipeline.analyse(uid, 1)
        with bench.index.engine.connect() as connection:
            name = connection.execute(result.select().where(result.c.kind == "sr")).mappings().one()["file"]
        said = bench.data_dir.results.path(name).read_bytes()
        assert (b"runtime=onnxruntime" in said) is (then == "onnx")
        found = replay(bench.settings.model_copy(update={"worker": now}), bench.index, uid)
    assert {entry.difference for entry in found} == {""}


def test_a_report_says_that_the_processor_read_in_place_of_the_device_and_so_does_its_replay(
    settings: Settings,
) -> None:
    worker = settings.worker.model_copy(update={"runtime": "torch"})
    bench = PipelineHarness(settings.model_copy(update={"worker": worker}))
    with bench.pipeline:
        session = bench.pipeline._reader.models.first.predictor.session
        assert isinstance(session, TorchSession)
        session._fallback.device = session._on = torch.device(
            "meta"
        )  # a device on which nothing can be computed
        session.network = Full()
        uid = bench.receive()
        bench.complete()
        assert bench.pipeline.analyse(uid, 1) is StudyState.REPORTED
        assert session.stand_in == "cpu"
        with bench.index.engine.connect() as connection:
            name = connection.execute(result.select().where(result.c.kind == "sr")).mappings().one()["file"]
        assert b"device=cpu" in bench.data_dir.results.path(name).read_bytes()
        assert "in place of a device" in bench.data_dir.runs_on.read_text()
        found = replay(bench.settings, bench.index, uid)
    assert {entry.difference for entry in found} == {""}


def test_another_bundle_is_not_taken_for_the_recorded_one(bench: PipelineHarness, tmp_path: Path) -> None:
    uid = bench.receive()
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    network = make_network()
    torch.nn.init.zeros_(network.head.weight)
    other = write_bundle(tmp_path / "tiny-0.0.2", MANIFEST, KEYS, network, CALIBRATION).path
    worker = bench.settings.worker.model_copy(update={"bundle": str(other)})
    with pytest.raises(NodeError, match=r"is not installed: set worker\.bundle"):
        replay(bench.settings.model_copy(update={"worker": worker}), bench.index, uid)


def test_without_results_there_is_nothing_to_replay(bench: PipelineHarness) -> None:
    uid = bench.receive()
    for study in (uid, "1.2.3"):
        with pytest.raises(NodeError, match="no stored results"):
            replay(bench.settings, bench.index, study)
