"""Loading of the configured models, on the device that the settings name."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from dicom_node.config.sections import WorkerSettings
from dicom_node.config.served_models import SHORT_FORM, ServedModel
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError
from dicom_node.runtime.extras import missing_package
from models.bundles.bundle import find_bundle, read_bundle
from models.bundles.lookup import GATE_MANIFEST, find_bundle_folder
from models.bundles.manifest import GRAPH
from models.bundles.predictor import Predictor, StudyPredictor
from models.bundles.runtime import ONNX, RuntimeChoice, choose_runtime
from models.errors import ModelError
from models.gate.model import Gate
from models.remote.predictor import RemotePredictor
from models.remote.transport import TransportLimits
from models.retrieval.index import find_index, is_index, read_index
from models.retrieval.search import Searcher
from worker.processes import bundle_runtime

_LOG = logging.getLogger(__name__)


def load_predictor(settings: Settings, served: ServedModel) -> StudyPredictor:
    """Return a model of the settings, ready to predict.

    Raises
    ------
    ConfigurationError
        If the bundle, the device or the runtime is missing, or the bundle is damaged.
    models.errors.ModelUnavailable, models.errors.RemoteModelError
        If a remote model does not answer, or answers otherwise than the contract says.
    """
    worker = settings.worker
    if served.bundle is None:
        return _remote(served)
    where = _setting_of(served)
    try:
        bundle = read_bundle(find_bundle(served.bundle))
        choice = bundle_runtime(settings, graph=bundle.has_graph, graph_alone=bundle.manifest.graph_alone)
        device = resolve_device(worker.device, choice.name)
        predictor = Predictor(bundle, device=device, runtime=choice.name, threads=_threads(worker))
        predictor.warm_up()
    except ModelError as error:
        raise ConfigurationError(f"{where}: {error}") from error
    _LOG.info("bundle %s runs in %s: %s", bundle.manifest.folder, choice.name, choice.reason)
    return predictor


def _remote(served: ServedModel) -> RemotePredictor:
    """Return a remote model, which describes itself now."""
    predictor = RemotePredictor(
        served.url or "",
        token_file=served.token_file,
        tls_ca=served.tls_ca,
        limits=TransportLimits(seconds=served.timeout_seconds, retries=served.retries),
    )
    identity = predictor.identity
    _LOG.info("model %s is %s %s at %s", served.name, identity.name, identity.version, predictor.url)
    return predictor


def _setting_of(served: ServedModel) -> str:
    """Return the name of the setting that names a model, with its value."""
    if served.name == SHORT_FORM:
        return f"{SHORT_FORM} {served.bundle}"
    return f"models: {served.name}: {served.bundle or served.url}"


def configured_runtime(settings: Settings, bundle_name: str) -> RuntimeChoice:
    """Return the inference runtime of a bundle by these settings, and why.

    Raises
    ------
    models.errors.BundleError
        If the bundle is missing or damaged.
    """
    bundle = read_bundle(find_bundle(bundle_name))
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


def load_searcher(settings: Settings, predictor: StudyPredictor) -> Searcher | None:
    """Return a searcher of the bundle's index of similar cases; None without one, and for a remote model.

    Raises
    ------
    ConfigurationError
        If the index is damaged, was built by other weights, or its engine cannot be opened.
    """
    if not settings.retrieval.enabled or not isinstance(predictor, Predictor):
        return None
    bundle = predictor.bundle.manifest.folder
    folder = index_folder(settings, bundle)
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


def index_folder(settings: Settings, bundle: str) -> Path:
    """Return the folder of a bundle's index: that of the settings, a built one, or that of the package.

    Parameters
    ----------
    bundle
        Name of the bundle's folder: NAME-VERSION.
    """
    folder = settings.index_of(bundle)
    return folder if settings.retrieval.index is not None else find_index(folder, bundle)


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
