"""Pooled image and pooled text side by side under a perceptron: the plainest fusion.

The defaults are ResNet-18 (He et al. 2016) and BioBERT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from models.architectures.image import ImageTower
from models.architectures.interface import Batch, Network, Output
from models.architectures.text import TextTower, pool
from models.tokens import TextLimits


class Concatenation(Network):
    """Two towers, concatenation, dropout, one hidden layer, linear head.

    Parameters
    ----------
    outputs
        Width of the head.
    backbone, channels, options
        Of the image tower, as :func:`models.architectures.image.create_backbone` takes them.
    text
        Fields of the text tower (:data:`models.architectures.text.FIELDS`).
    pooling
        Of the text: ``first`` or ``mean``.
    hidden
        Width of the hidden layer.
    dropout
        Probability, before and behind the hidden layer, while training.

    Raises
    ------
    ValueError
        If a tower cannot be built.
    """

    def __init__(
        self,
        *,
        outputs: int,
        backbone: str = "resnet18",
        channels: int = 3,
        options: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        pooling: str = "first",
        hidden: int = 256,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if pooling not in ("first", "mean"):
            raise ValueError(f"pooling = {pooling!r} is neither 'first' nor 'mean'")
        self.image = ImageTower(backbone, channels=channels, options=options)
        self.text = TextTower(text or {})
        self.pooling = pooling
        self.hidden = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(self.image.width + self.text.width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(hidden, outputs)

    def forward(self, batch: Batch) -> Output:
        """Run forward; the embeddings are the pooled towers, each of its own width."""
        features = self.image(batch.images)
        image = features.mean(dim=(2, 3))
        states, mask = self.text(batch.tokens, len(image))
        text = pool(states, mask, self.pooling)
        return Output(
            logits=self.head(self.hidden(torch.cat([image, text], dim=1))),
            image_embedding=image,
            features=features,
            text_embedding=None if batch.tokens is None else text,
        )

    @property
    def embedding_width(self) -> int:
        """Width of the image tower."""
        return self.image.width

    @property
    def closed_form(self) -> bool:
        """Whether maps have a closed form: no, the hidden layer stands between the map and the head."""
        return False

    @property
    def reads_text(self) -> bool:
        """Whether the study's text enters the answer: yes."""
        return True

    @property
    def text_limits(self) -> TextLimits:
        """Of the text tower."""
        return self.text.limits

    @property
    def towers(self) -> Mapping[str, nn.Module]:
        """The ``image`` and the ``text`` tower."""
        return {"image": self.image.backbone, "text": self.text.encoder}


def build(*, outputs: int, channels: int, arguments: dict[str, Any]) -> Concatenation:
    """Build from a bundle's or recipe's ``[architecture]`` arguments."""
    return Concatenation(outputs=outputs, channels=channels, **arguments)
