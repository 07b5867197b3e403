"""Mirror answer of the gate: whether a frontal film is shown with left and right exchanged.

A linear answer to the difference between the features of a film and those of its mirror image. The difference
changes its sign when the film is mirrored, so the answer does too: it needs no threshold, and a picture that
is the same as its mirror image gets one half. It decides nothing alone, for a heart on the right exists; it
checks a header that says that a film is mirrored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from models.errors import BundleError
from models.processing.types import FloatArray

MIRROR = "mirror.safetensors"
"""File of the weights in a gate's folder; a gate without it has no such answer."""

_WEIGHT = "mirrored"

Features = Callable[[FloatArray], FloatArray]


def asymmetry(features: Features, standard: FloatArray) -> FloatArray:
    """Return the features of films less those of their mirror images.

    Parameters
    ----------
    features
        Function from standardised films of shape (n, grid, grid) to features of shape (n, width).
    standard
        Standardised films.

    Returns
    -------
    numpy.ndarray
        Shape (n, width).
    """
    return features(standard) - features(np.ascontiguousarray(standard[..., ::-1]))


def pack_mirror(weights: FloatArray) -> bytes:
    """Return the weights as the bytes of the file."""
    packed: bytes = save({_WEIGHT: np.ascontiguousarray(weights)})
    return packed


def unpack_mirror(raw: bytes, width: int) -> FloatArray:
    """Read the weights from the bytes of the file.

    Raises
    ------
    BundleError
        If they are no safetensors file, or do not fit the network.
    """
    try:
        state = load(raw)
    except SafetensorError as error:
        raise BundleError(f"{MIRROR} is not a safetensors file: {error}") from error
    weights = state.get(_WEIGHT)
    if weights is None or len(state) != 1 or weights.shape != (width,) or not np.isfinite(weights).all():
        raise BundleError(f"{MIRROR} does not hold {width} finite weights by the name {_WEIGHT}")
    return weights.astype(np.float32)


def mirrored_scores(weights: FloatArray, differences: FloatArray) -> Sequence[float]:
    """Return a score in [0, 1] for each film: above one half it looks mirrored."""
    scores: list[float] = (1 / (1 + np.exp(-(differences @ weights)))).tolist()
    return scores
