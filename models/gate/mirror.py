"""Mirror answer of the gate: whether a frontal film is shown with left and right exchanged.

A linear answer to the difference between the features of a film and those of its mirror image. The difference
changes its sign when the film is mirrored, so the answer does too: it needs no threshold, and a picture that
is the same as its mirror image gets one half. It decides nothing alone, for a heart on the right exists; it
checks a header that says that a film is mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from safetensors import SafetensorError
from safetensors.torch import save
from torch import Tensor

from models.bundles.weights import unpack_weights
from models.errors import BundleError

MIRROR = "mirror.safetensors"
"""File of the weights in a gate's folder; a gate without it has no such answer."""

_WEIGHT = "mirrored"

Features = Callable[[Tensor], Tensor]


def asymmetry(features: Features, standard: Tensor) -> Tensor:
    """Return the features of films less those of their mirror images.

    Parameters
    ----------
    features
        Function from standardised films of shape (n, grid, grid) to features of shape (n, width).
    standard
        Standardised films.

    Returns
    -------
    torch.Tensor
        Shape (n, width).
    """
    return features(standard) - features(standard.flip(-1))


def pack_mirror(weights: Tensor) -> bytes:
    """Return the weights as the bytes of the file."""
    return save({_WEIGHT: weights.contiguous()})


def unpack_mirror(raw: bytes, width: int) -> Tensor:
    """Read the weights from the bytes of the file.

    Raises
    ------
    BundleError
        If they are no safetensors file, or do not fit the network.
    """
    try:
        state = unpack_weights(raw)
    except SafetensorError as error:
        raise BundleError(f"{MIRROR} is not a safetensors file: {error}") from error
    weights = state.get(_WEIGHT)
    if weights is None or len(state) != 1 or weights.shape != (width,) or not torch.isfinite(weights).all():
        raise BundleError(f"{MIRROR} does not hold {width} finite weights by the name {_WEIGHT}")
    return weights


def mirrored_scores(weights: Tensor, differences: Tensor) -> Sequence[float]:
    """Return a score in [0, 1] for each film: above one half it looks mirrored."""
    scores: list[float] = (differences @ weights).sigmoid().tolist()
    return scores
