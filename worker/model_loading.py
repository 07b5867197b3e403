"""Loading of the configured models, on the device that the settings name."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from dicom_node.config.sections import WorkerSettings
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError
from dicom_node.runtime.extras import missing_package
from models.bundles.bundle import find_bundle, read_bundle
from models.bundles.lookup import GATE_MANIFEST, find_bundle_folder
from models.bundles.manifest import GRAPH
from models.bundles.predictor import Predictor
from models.bundles.runtime import ONNX, RuntimeChoice, choose_runtime
from models.errors import ModelError
from models.gate.model import Gate
from models.retrieval.index import is_index, read_index
from models.retrieval.search import Searcher
from worker.processes import bundle_runtime

_LOG = logging.getLogger(__name__)


def load_predictor(settings: Settings) -> Predictor:
    """Return the configured bundle, ready to predict.

    Raises
    ------
    ConfigurationError
        If the bundle, the device or the runtime is missing, or the bundle is damaged.
    """
    worker = settings.worker
    try:
        bundle = read_bundle(find_bundle(worker.bundle))
        choice = bundle_runtime(settings, graph=bundle.has_graph, graph_alone=bundle.manifest.graph_alone)
        device = resolve_device(worker.device, choice.name)
        predictor = Predictor(bundle, device=device, runtime=choice.name, threads=_threads(worker))
        predictor.warm_up()
    except ModelError as error:
        raise ConfigurationError(f"worker.bundle {worker.bundle}: {error}") from error
    _LOG.info("bundle %s runs in %s: %s", bundle.manifest.folder, choice.name, choice.reason)
    return predictor


def configured_runtime(settings: Settings) -> RuntimeChoice:
    """Return the inference runtime of the configured bundle, and why.

    Raises
    ------
    models.errors.BundleError
        If the bundle is missing or damaged.
    """
    bundle = read_bundle(find_bundle(settings.worker.bundle))
    return bundle_runtime(settings, graph=bundle.has_graph, graph_alone=bundle.manifest.graph_alone)


def load_gate(settings: WorkerSettings) -> Gate | None:
    """Return the configured gate, ready to judge films; None when it is turned off.

    Raises
    ------
    ConfigurationError
        If the gate or the device is missing, or the gate is damaged.
    """
    if not settings.gate:
        return None
    try:
        folder = find_bundle_folder(settings.gate, GATE_MANIFEST)
        choice = gate_runtime(settings, folder)
        device = resolve_device(settings.device, choice.name)
        return Gate.load(folder, device=device, runtime=choice.name, threads=_threads(settings))
    except ModelError as error:
        raise ConfigurationError(f"worker.gate {settings.gate}: {error}") from error


def gate_runtime(settings: WorkerSettings, folder: Path) -> RuntimeChoice:
    """Return the inference runtime in which the gate of a folder runs by these settings, and why."""
    return choose_runtime(settings.runtime, device=settings.device, graph=(folder / GRAPH).is_file())


def load_searcher(settings: Settings, predictor: Predictor) -> Searcher | None:
    """Return a searcher of the bundle's index of similar cases; None when there is no index.

    Raises
    ------
    ConfigurationError
        If the index is damaged, was built by other weights, or its engine cannot be opened.
    """
    if not settings.retrieval.enabled:
        return None
    bundle = predictor.bundle.manifest.folder
    folder = settings.index_of(bundle)
    if not is_index(folder):
        _LOG.info(
            "no similar cases: there is no index in %s; `dicom-node cases build %s --data FOLDER` makes one",
            folder,
            bundle,
        )
        return None
    try:
        index = read_index(folder)
        index.check_origin(predictor.identity)
        return Searcher(index, engine=settings.retrieval.engine, url=settings.vectors_url)
    except ModelError as error:
        raise ConfigurationError(f"retrieval.index {folder}: {error}") from error


def _threads(settings: WorkerSettings) -> int:
    return settings.threads or len(os.sched_getaffinity(0))


def resolve_device(name: str, runtime: str) -> str:
    """Return the device of a runtime by its name in the settings.

    Raises
    ------
    ConfigurationError
        If there is no such device.
    """
    if runtime == ONNX:
        if name.startswith("cuda"):
            raise ConfigurationError(
                f'worker.device {name}: ONNX Runtime runs on the processor; set worker.runtime to "torch" or '
                "worker.device to auto"
            )
        return "cpu"
    try:
        import torch  # noqa: PLC0415 - only where a model runs in it
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"worker.runtime: a model runs in torch here: {missing_package(error)}"
        ) from error
    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if name.startswith("cuda") and not available:
        raise ConfigurationError(f"worker.device {name}: torch finds no CUDA device; set it to cpu or auto")
    if name != "cpu" and not name.startswith("cuda"):
        raise ConfigurationError(f"worker.device {name}: use auto, cpu, cuda or cuda:N")
    return name
