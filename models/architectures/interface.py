"""Interface of all networks: input batch, output, and base class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from models.errors import RecipeError
from models.text.tokenizer import TextLimits, Tokens


@dataclass(frozen=True, slots=True)
class Batch:
    """Input of a network.

    Attributes
    ----------
    images
        Shape (n, channels, size, size), float32, as :class:`models.processing.transforms.Preprocessing`
        gives it.
    tokens
        Tokens with one row for each image; None when no image has a text, or the network reads none.
    """

    images: Tensor
    tokens: Tokens | None = None


@dataclass(frozen=True, slots=True)
class Output:
    """Output of a network.

    Attributes
    ----------
    logits
        Shape (n, labels); a sigmoid of each is its score.
    image_embedding
        Shape (n, width); it depends on the image alone, so that a film is found with and without its text.
    features
        Shape (n, channels, height, width): the last feature map before pooling, from which heat maps
        are drawn; None for a network without one.
    text_embedding
        Shape (n, width); None without a text tower, or without any text. A row without text holds the learnt
        embedding of a missing text.
    """

    logits: Tensor
    image_embedding: Tensor
    features: Tensor | None = None
    text_embedding: Tensor | None = None


class Network(nn.Module):
    """Base class of the architectures: all that predictor, bundle and training use of one.

    Attributes
    ----------
    head
        Last layer, one output for each label.
    """

    head: nn.Linear

    def forward(self, batch: Batch) -> Output:
        """Run forward."""
        raise NotImplementedError

    @property
    def embedding_width(self) -> int:
        """Width of the image embedding."""
        return self.head.in_features

    @property
    def closed_form(self) -> bool:
        """True where the head is linear in the average of :attr:`Output.features` over their grid.

        Then Grad-CAM has a closed form (:mod:`models.explain.gradcam`).
        """
        return True

    @property
    def cam_layer(self) -> nn.Module:
        """Layer whose output Grad-CAM weights: a map or a sequence of patches of the image tower."""
        return self.towers["image"]

    @property
    def reads_text(self) -> bool:
        """True where the study's text is an input; an image without text is read all the same."""
        return False

    @property
    def text_limits(self) -> TextLimits | None:
        """Limits of the text tower; None for a network without one."""
        return None

    @property
    def towers(self) -> Mapping[str, nn.Module]:
        """Encoders that can start from published weights, by name: ``image``, ``text``."""
        backbone = getattr(self, "backbone", None)
        return {} if backbone is None else {"image": backbone}

    def load_imagenet(self) -> None:
        """Load published ImageNet weights.

        Raises
        ------
        RecipeError
            If there are none for this network.
        """
        raise RecipeError(f"start = 'imagenet': there are no such weights for {type(self).__name__}")
