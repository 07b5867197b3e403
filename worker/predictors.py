"""The models that a worker holds, on the device that the settings name."""

from __future__ import annotations

import os

from dicom_node.errors import ConfigurationError
from dicom_node.settings import WorkerSettings
from models.errors import ModelError
from models.gate import Gate
from models.predictor import Predictor


def load_predictor(settings: WorkerSettings) -> Predictor:
    """Return the configured bundle, ready to predict.

    Raises
    ------
    ConfigurationError
        When the bundle or the device is not there, or the bundle is damaged.
    """
    threads = settings.threads or len(os.sched_getaffinity(0))
    try:
        return Predictor.load(settings.bundle, device=_device(settings.device), threads=threads)
    except ModelError as error:
        raise ConfigurationError(f"worker.bundle {settings.bundle}: {error}") from error


def load_gate(settings: WorkerSettings) -> Gate | None:
    """Return the configured gate, ready to judge; None when it is turned off.

    Raises
    ------
    ConfigurationError
        When the gate or the device is not there, or the gate is damaged.
    """
    if not settings.gate:
        return None
    try:
        return Gate.load(settings.gate, device=_device(settings.device))
    except ModelError as error:
        raise ConfigurationError(f"worker.gate {settings.gate}: {error}") from error


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
