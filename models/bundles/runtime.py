"""Inference runtime: the library that computes a network, and which of the two a machine should use.

- ``torch``: every family, on processors and GPUs, with the gradients that some explanations need.
- ``onnx``: ONNX Runtime, for bundles with an ONNX graph, on processors only; several times as fast there,
  and a hundredth of the size.
"""

from __future__ import annotations

import ctypes
import importlib.util
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

TORCH: Final = "torch"
ONNX: Final = "onnx"
HTTP: Final = "http"
"""Runtime of a remote model: none here, for it is asked over HTTP."""
AUTO: Final = "auto"
NEEDS_TORCH: Final = 'set worker.runtime to "torch", where the extra worker is installed'
"""Advice where something needs torch and a bundle runs in ONNX Runtime."""
_MODULES = {TORCH: "torch", ONNX: "onnxruntime"}


@dataclass(frozen=True, slots=True)
class RuntimeChoice:
    """Inference runtime, and the reason for it.

    Attributes
    ----------
    name
        ``torch`` or ``onnx``.
    reason
        Reason, as one clause.
    """

    name: str
    reason: str


def choose_runtime(
    wanted: str, *, device: str, graph: bool, graph_alone: bool = False, gradients: bool = False
) -> RuntimeChoice:
    """Choose the inference runtime of a bundle on this machine; imports neither library.

    Parameters
    ----------
    wanted
        ``torch``, ``onnx`` or ``auto``.
    device
        ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    graph
        True for a bundle with an ONNX graph.
    graph_alone
        True for a bundle whose network is nothing but its ONNX graph.
    gradients
        True where explanations are wanted that need the network itself.
    """
    if wanted != AUTO:
        return RuntimeChoice(wanted, "it was asked for")
    if graph_alone:
        return RuntimeChoice(ONNX, "the bundle was imported as an ONNX graph")
    if gradients:
        return RuntimeChoice(TORCH, "the wanted explanations need gradients")
    torch_there = is_installed(TORCH)
    if torch_there and device.startswith("cuda"):
        return RuntimeChoice(TORCH, f"the device is {device}")
    if torch_there and device == "auto" and cuda_devices():
        return RuntimeChoice(TORCH, "CUDA answers")
    why_not = _why_not_onnx(device, graph=graph)
    if not why_not:
        return RuntimeChoice(ONNX, "the models run on the processor, and the bundle has an ONNX graph")
    return RuntimeChoice(TORCH, why_not)


def is_installed(runtime: str) -> bool:
    """Whether the library of a runtime is installed; it is not imported."""
    return importlib.util.find_spec(_MODULES[runtime]) is not None


@lru_cache(maxsize=1)
def cuda_devices() -> int:
    """Count the devices that the CUDA driver finds; 0 without a driver.

    The driver is asked itself: to import torch for that takes seconds.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return 0
    return count.value


def _why_not_onnx(device: str, *, graph: bool) -> str:
    if device.startswith("cuda"):
        return f"the device is {device}"
    if not graph:
        return "the bundle has no ONNX graph"
    return "" if is_installed(ONNX) else "onnxruntime is not installed"
