"""What every network of this package takes and gives."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from models.errors import RecipeError


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


class Network(nn.Module):
    """What the predictor, the bundle and the training know of an architecture.

    Attributes
    ----------
    head
        Last layer, linear in the average of :attr:`Output.features` over their grid: on this the closed form
        of :mod:`models.explain` rests.
    """

    head: nn.Linear

    def forward(self, batch: Batch) -> Output:
        """Run forward."""
        raise NotImplementedError

    def load_imagenet(self) -> None:
        """Start from published ImageNet weights.

        Raises
        ------
        RecipeError
            If there are none for this network.
        """
        raise RecipeError(f"start = 'imagenet': there are no such weights for {type(self).__name__}")
