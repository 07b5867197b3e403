"""The weights of a network on disk: a safetensors file, matrices in half precision; never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from models.bundles.manifest import read_verified
from models.errors import BundleError

WEIGHTS = "weights.safetensors"


def packed(network: nn.Module) -> bytes:
    """Weights as the bytes of a safetensors file."""
    state = {
        # Matrices in half precision; norms and biases are few, and their range does not suit it.
        name: value.detach().cpu().to(torch.float16 if value.dim() > 1 else torch.float32).contiguous()
        for name, value in _kept(network.state_dict()).items()
    }
    return save(state)


def unpacked(raw: bytes) -> dict[str, Tensor]:
    """Weights of a safetensors file by name, float32.

    Raises
    ------
    SafetensorError
        If it is none.
    """
    return {name: value.float() for name, value in load(raw).items()}


def load_weights(network: nn.Module, path: Path, sha256: str) -> None:
    """Give a network the weights of a folder.

    Parameters
    ----------
    path
        The folder, which was verified.
    sha256
        Of its weights, in lower-case hexadecimal.

    Raises
    ------
    BundleError
        If the file was altered since, is no safetensors file, does not fit the network, or holds values that
        are not finite.
    """
    try:
        state = unpacked(read_verified(path, WEIGHTS, sha256))
    except SafetensorError as error:
        raise BundleError(f"bundle {path}: {WEIGHTS} is not a safetensors file: {error}") from error
    _check(path, network.state_dict(), state)
    network.load_state_dict(state, strict=False)


def _check(path: Path, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Check that weights fit a network and are numbers."""
    shapes = {name: tuple(value.shape) for name, value in _kept(wanted).items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    for name in sorted(shapes.keys() | found.keys()):
        if shapes.get(name) != found.get(name):
            raise BundleError(
                f"bundle {path}: weight {name} has shape {found.get(name)}, the architecture and the labels "
                f"ask for {shapes.get(name)}"
            )
        if not torch.isfinite(state[name]).all():
            raise BundleError(f"bundle {path}: weight {name} holds values that are not finite")


def _kept(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that a bundle keeps of a network's state: all but the counters of batches."""
    return {name: value for name, value in state.items() if value.is_floating_point()}
