"""Number and environment of the worker processes of a node; imports neither a model nor a library for one."""

from __future__ import annotations

import os
from typing import Final

from dicom_node.config.settings import Settings
from models.bundles.lookup import MANIFEST, find_bundle_folder
from models.bundles.manifest import GRAPH
from models.bundles.runtime import ONNX, RuntimeChoice, choose_runtime
from models.errors import ModelError

PROCESS_ENVIRONMENT: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
"""Variables of a worker process: NumPy multiplies small matrices only, for which waking threads costs more
than it gains and takes memory. The libraries that compute the networks have threads of their own; those of
torch sleep while they wait for one another, for beside other work threads that spin keep each other from the
cores: a film took three times the processor time."""

_BESIDE_EACH_OTHER: Final = 2


def worker_processes(settings: Settings) -> int:
    """Return the number of worker processes (``worker.processes``).

    Most of the time of a study goes into its results, in Python, which one process does on one core. Two
    processes keep two cores busy in half a gigabyte each or less, where the models run in ONNX Runtime. With
    torch a process takes a gigabyte or a share of the GPU: it stays one.

    A missing or damaged bundle gives 1: the worker says what is wrong with it.
    """
    worker = settings.worker
    if worker.processes is not None:
        return worker.processes
    if len(os.sched_getaffinity(0)) < _BESIDE_EACH_OTHER:
        return 1
    for served in settings.served_models:
        if served.bundle is None:
            continue  # a remote model computes elsewhere
        try:
            folder = find_bundle_folder(served.bundle, MANIFEST)
        except ModelError:
            return 1
        if bundle_runtime(settings, graph=(folder / GRAPH).is_file()).name != ONNX:
            return 1
    return _BESIDE_EACH_OTHER


def worker_names(settings: Settings) -> list[str]:
    """Return the names of the worker processes of a node."""
    processes = worker_processes(settings)
    return ["worker"] if processes == 1 else [f"worker-{n}" for n in range(1, processes + 1)]


def bundle_runtime(settings: Settings, *, graph: bool, graph_alone: bool = False) -> RuntimeChoice:
    """Return the inference runtime in which a bundle runs by these settings, and why.

    Parameters
    ----------
    graph
        True for a bundle with an ONNX graph.
    graph_alone
        True for a bundle whose network is nothing but its ONNX graph.
    """
    worker = settings.worker
    gradients = not set(settings.results.page_methods) <= {"gradcam"}
    return choose_runtime(
        worker.runtime, device=worker.device, graph=graph, graph_alone=graph_alone, gradients=gradients
    )
