"""Weights file of a bundle: safetensors, matrices in half precision, never a pickle."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from models.bundles.manifest import WEIGHTS, read_verified
from models.errors import BundleError


def pack_weights(network: nn.Module) -> bytes:
    """Weights of a network as the bytes of a safetensors file."""
    state = {
        # Matrices in half precision; norms and biases are few, and their range does not suit it.
        name: value.detach().cpu().to(torch.float16 if value.dim() > 1 else torch.float32).contiguous()
        for name, value in _kept(network.state_dict()).items()
    }
    return save(state)


def unpack_weights(raw: bytes) -> dict[str, Tensor]:
    """Weights of a safetensors file by name, float32.

    Raises
    ------
    SafetensorError
        If the bytes are no safetensors file.
    """
    return {name: value.float() for name, value in load(raw).items()}


def load_weights(network: nn.Module, path: Path, sha256: str) -> None:
    """Load the weights of a bundle folder into a network.

    Parameters
    ----------
    path
        Verified folder.
    sha256
        Hash of its weights file, in lower-case hexadecimal.

    Raises
    ------
    BundleError
        If the file was altered since, is no safetensors file, does not fit the network, or holds values that
        are not finite.
    """
    try:
        state = unpack_weights(read_verified(path, WEIGHTS, sha256))
    except SafetensorError as error:
        raise BundleError(f"bundle {path}: {WEIGHTS} is not a safetensors file: {error}") from error
    _check(path, network.state_dict(), state)
    network.load_state_dict(state, strict=False)


def _check(path: Path, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    """Check that the weights fit the network and are finite."""
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
    """Entries of a network's state that a bundle keeps: all but integer counters of batches."""
    return {name: value for name, value in state.items() if value.is_floating_point()}
