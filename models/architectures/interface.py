"""What every network of this package takes and gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Batch:
    """Input of a network.

    Attributes
    ----------
    images
        Shape (n, channels, size, size), float32, as :class:`models.transforms.Preprocessing` gives them.
    """

    images: Tensor


@dataclass(frozen=True, slots=True)
class Output:
    """Answer of a network.

    Attributes
    ----------
    logits
        Shape (n, labels); a sigmoid of each is its score.
    image_embedding
        Shape (n, width).
    features
        Shape (n, channels, height, width): the last feature map before pooling, on which maps are drawn; None
        for a network without one.
    text_embedding
        Shape (n, width); None without a text tower.
    """

    logits: Tensor
    image_embedding: Tensor
    features: Tensor | None = None
    text_embedding: Tensor | None = None


class Network(Protocol):
    """What the predictor and the training need of an architecture beside being a ``torch.nn.Module``."""

    head: nn.Linear

    def __call__(self, batch: Batch) -> Output:
        """Run forward."""
        ...
