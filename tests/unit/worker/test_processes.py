"""Number of worker processes, and what makes them light."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node.config.sections import ResultSettings, WorkerSettings
from dicom_node.config.settings import Settings
from models.bundles.manifest import GRAPH
from worker.processes import worker_processes


@pytest.fixture(autouse=True)
def cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores, whatever the machine has."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})


def settings_of(tmp_path: Path, **worker: object) -> Settings:
    options = {"runtime": "onnx", "device": "cpu", **worker}
    return Settings(data_dir=tmp_path, worker=WorkerSettings.model_validate(options))


def test_two_processes_where_the_models_run_in_onnx_runtime(tmp_path: Path) -> None:
    assert worker_processes(settings_of(tmp_path)) == 2


def test_one_process_on_one_core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0})
    assert worker_processes(settings_of(tmp_path)) == 1


def test_one_process_in_torch(tmp_path: Path) -> None:
    assert worker_processes(settings_of(tmp_path, runtime="torch")) == 1


def test_one_process_where_explanations_need_torch(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, runtime="auto")
    wanting = settings.model_copy(update={"results": ResultSettings(page_methods=("occlusion",))})
    assert (worker_processes(settings), worker_processes(wanting)) == (2, 1)


def test_one_process_for_a_bundle_without_a_graph(tmp_path: Path, tiny_bundle: Path) -> None:
    assert not (tiny_bundle / GRAPH).exists()
    assert worker_processes(settings_of(tmp_path, runtime="auto", bundle=str(tiny_bundle))) == 1


def test_one_process_says_that_a_bundle_is_missing(tmp_path: Path) -> None:
    assert worker_processes(settings_of(tmp_path, bundle="no-such-bundle")) == 1


@pytest.mark.parametrize("runtime", ["torch", "onnx"])
def test_the_settings_say_how_many(tmp_path: Path, runtime: str) -> None:
    assert worker_processes(settings_of(tmp_path, runtime=runtime, processes=3)) == 3


def test_counting_them_imports_no_model_and_no_library_for_one() -> None:
    heavy = {"numpy", "torch", "onnxruntime", "celery", "pydicom"}
    code = f"import sys, worker.processes; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
