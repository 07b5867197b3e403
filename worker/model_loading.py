"""Loading of the configured models, on the device that the settings name."""

from __future__ import annotations

import logging
import os

from dicom_node.config.sections import WorkerSettings
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError
from models.bundles.predictor import Predictor
from models.errors import ModelError
from models.gate.model import Gate
from models.retrieval.index import is_index, read_index
from models.retrieval.search import Searcher

_LOG = logging.getLogger(__name__)


def load_predictor(settings: WorkerSettings) -> Predictor:
    """Return the configured bundle, ready to predict.

    Raises
    ------
    ConfigurationError
        If the bundle or the device is missing, or the bundle is damaged.
    """
    threads = settings.threads or len(os.sched_getaffinity(0))
    try:
        return Predictor.load(settings.bundle, device=_device(settings.device), threads=threads)
    except ModelError as error:
        raise ConfigurationError(f"worker.bundle {settings.bundle}: {error}") from error


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
        return Gate.load(settings.gate, device=_device(settings.device))
    except ModelError as error:
        raise ConfigurationError(f"worker.gate {settings.gate}: {error}") from error


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
            "no similar cases: there is no index in %s; `dicom-node cases build %s --root FOLDER` makes one",
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


def describe_hardware(predictor: Predictor) -> dict[str, str]:
    """Return the device and the version of torch that a model runs on, as text for a person."""
    import torch  # noqa: PLC0415 - only a worker needs it, and only once it starts

    device = predictor.device
    if device.type == "cuda":
        said = f"{device}, {torch.cuda.get_device_name(device)}"
    else:
        said = f"{device}, {torch.get_num_threads()} threads"
    return {"device": said, "torch": torch.__version__}


def _device(name: str) -> str:
    import torch  # noqa: PLC0415 - only a worker needs it, and only once it starts

    available = torch.cuda.is_available()
    if name == "auto":
        return "cuda" if available else "cpu"
    if name.startswith("cuda") and not available:
        raise ConfigurationError(f"worker.device {name}: torch finds no CUDA device; set it to cpu or auto")
    if name != "cpu" and not name.startswith("cuda"):
        raise ConfigurationError(f"worker.device {name}: use auto, cpu, cuda or cuda:N")
    return name
