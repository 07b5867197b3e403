"""Weights of another framework without a graph: read as tensors, put into their network, exported.

Only here torch is needed. A pickle is opened in a process of its own, which the caller provides.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from models.architectures.image import check_backbone
from models.bundles.onnx_graph import exported
from models.errors import ForeignModelError, UsageError
from models.foreign.onnx_file import MOST_BYTES, OnnxNetwork, check_onnx, check_size

FRAMEWORKS = ("timm", "torchvision", "torchxrayvision")
XRAYVISION = "densenet121"
"""The network of TorchXRayVision that is known here."""
_PREFIXES = ("module.", "model.", "net.", "network.")
_POINTS = "op_threshs"
"""Operating points in a checkpoint of TorchXRayVision."""
_SIZE = 224
_CONVOLUTION = 4

Unpickle = Callable[[Path], bytes]
"""Function that opens a pickle of weights in a limited process and gives a safetensors file."""


@dataclass(frozen=True, slots=True, eq=False)
class Exported:
    """Exported network, and operating points of TorchXRayVision; None where it has none."""

    network: OnnxNetwork
    thresholds: tuple[float, ...] | None = None


def export_weights(
    path: Path,
    architecture: str,
    outputs: int,
    *,
    size: int | None,
    unpickle: Unpickle,
    most: int = MOST_BYTES,
) -> Exported:
    """Build a network, load its weights, and export it.

    Parameters
    ----------
    path
        ``.safetensors``, ``.pt`` or ``.pth``: a state dict, or a checkpoint that holds one.
    architecture
        ``timm:NAME``, ``torchvision:NAME`` or ``torchxrayvision:densenet121``.
    outputs
        Number of outputs.
    size
        Side of the input in pixels; None for 224.

    Raises
    ------
    UsageError
        If there is no such architecture.
    ForeignModelError
        If the weights cannot be read, or do not fit.
    """
    framework, _, name = architecture.partition(":")
    _check_name(framework, name)
    check_size(path, path, most)
    state = read_state(path, unpickle)
    points = state.pop(_POINTS, None) if framework == "torchxrayvision" else None
    network = _build(framework, name, outputs, 3)
    stem, first = _stem(network, framework, name)
    state = _named(state, network)
    weight = state.get(f"{stem}.weight")
    channels = 3 if weight is None or weight.dim() != _CONVOLUTION else int(weight.shape[1])
    if channels != first.in_channels:
        network = _build(framework, name, outputs, channels)
    _load(network, state, path, architecture, outputs)
    side = size or _SIZE
    model = exported(network.eval(), (channels, side, side), ("outputs",))
    found = check_onnx(model, path, _digest(path))
    thresholds = None if points is None else tuple(float(value) for value in points.flatten())
    return Exported(found, thresholds)


def read_state(path: Path, unpickle: Unpickle) -> dict[str, Tensor]:
    """Read weights by name.

    Raises
    ------
    ForeignModelError
        If the file is damaged, or holds anything but tensors.
    """
    raw = path.read_bytes() if path.suffix == ".safetensors" else unpickle(path)
    try:
        return load(raw)
    except SafetensorError as error:
        raise ForeignModelError(f"{path} is no safetensors file, or it is damaged: {error}") from error


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _check_name(framework: str, name: str) -> None:
    if framework == "timm":
        try:
            check_backbone(name)
        except ValueError as error:
            raise UsageError(f"--architecture timm:{name}: {error}") from error
        return
    if framework == "torchvision":
        from torchvision.models import list_models  # noqa: PLC0415

        if name in list_models():
            return
        raise UsageError(f"--architecture torchvision:{name}: torchvision has no network of that name")
    if (framework, name) != ("torchxrayvision", XRAYVISION):
        raise UsageError(
            f"--architecture {framework}:{name}: write timm:NAME, torchvision:NAME or "
            f"torchxrayvision:{XRAYVISION}"
        )


def _build(framework: str, name: str, outputs: int, channels: int) -> nn.Module:
    if framework == "timm":
        import timm  # noqa: PLC0415

        built: nn.Module = timm.create_model(name, pretrained=False, num_classes=outputs, in_chans=channels)
        return built
    from torchvision.models import get_model  # noqa: PLC0415

    # TorchXRayVision's DenseNet is torchvision's, with one channel.
    network: nn.Module = get_model(name, weights=None, num_classes=outputs)
    if channels != 3:
        stem, first = _stem(network, framework, name)
        parent, _, last = stem.rpartition(".")
        says: dict[str, Any] = {
            part: getattr(first, part) for part in ("kernel_size", "stride", "padding", "dilation", "groups")
        }
        one = nn.Conv2d(channels, first.out_channels, bias=first.bias is not None, **says)
        setattr(network.get_submodule(parent), last, one)
    return network


def _stem(network: nn.Module, framework: str, name: str) -> tuple[str, nn.Conv2d]:
    for place, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            return place, module
    raise UsageError(
        f"--architecture {framework}:{name}: the network has no convolution that reads the image"
    )


def _named(state: dict[str, Tensor], network: nn.Module) -> dict[str, Tensor]:
    """Weights under the names of the network: without what a training puts in front of them."""
    wanted = set(network.state_dict())
    for _ in _PREFIXES:
        prefix = next(
            (each for each in _PREFIXES if state and all(name.startswith(each) for name in state)), None
        )
        if prefix is None or wanted & set(state):
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _load(
    network: nn.Module, state: Mapping[str, Tensor], path: Path, architecture: str, outputs: int
) -> None:
    wanted = network.state_dict()
    shapes = {name: tuple(value.shape) for name, value in wanted.items() if value.is_floating_point()}
    found = {name: tuple(value.shape) for name, value in state.items() if value.is_floating_point()}
    differences = [
        name for name in sorted(shapes.keys() | found.keys()) if shapes.get(name) != found.get(name)
    ]
    last = [name for name in differences if shapes.get(name, ())[:1] == (outputs,) and name in found]
    if differences and len(last) == len(differences):
        raise ForeignModelError(
            f"{path} gives {found[last[0]][0]} outputs for a film, and {outputs} labels are named"
        )
    if differences:
        name = differences[0]
        raise ForeignModelError(
            f"{path} does not fit {architecture}: {name} has shape {found.get(name, 'none')} in the file and "
            f"{shapes.get(name, 'none')} in the network"
        )
    if bad := next((name for name in found if not bool(torch.isfinite(state[name]).all())), None):
        raise ForeignModelError(f"{path}: weight {bad} holds values that are not finite")
    network.load_state_dict(
        {name: value.float() for name, value in state.items() if name in shapes}, strict=False
    )


def plain_state(held: Any) -> dict[str, Tensor]:
    """Weights by name in what a checkpoint holds: a state dict, or a dict with one under a usual name.

    Raises
    ------
    ValueError
        If it holds none.
    """
    for name in ("state_dict", "model_state_dict", "model", "network"):
        if isinstance(held, Mapping) and isinstance(held.get(name), Mapping):
            held = held[name]
            break
    if not isinstance(held, Mapping) or not held:
        raise ValueError("it holds no state dict")
    state = {str(name): value for name, value in held.items() if isinstance(value, Tensor)}
    if len(state) < len(held):
        odd: Sequence[str] = [str(name) for name, value in held.items() if not isinstance(value, Tensor)]
        raise ValueError(f"{odd[0]} is no tensor")
    return {name: value.contiguous().clone() for name, value in state.items()}
