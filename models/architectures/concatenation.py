"""Concatenation of pooled image and pooled text under a perceptron: the simplest fusion.

The defaults are ResNet-18 (He et al. 2016) and BioBERT.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from models.architectures.interface import Batch, Output
from models.architectures.text import pool
from models.architectures.two_towers import TwoTowers


class Concatenation(TwoTowers):
    """Two towers, concatenation, dropout, one hidden layer, linear head.

    Parameters
    ----------
    outputs
        Number of labels, the width of the head.
    backbone, channels, options, text, pooling
        Both towers, as :class:`models.architectures.two_towers.TwoTowers` takes them.
    hidden
        Width of the hidden layer.
    dropout
        Dropout probability before and behind the hidden layer.

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
        super().__init__(backbone=backbone, channels=channels, options=options, text=text, pooling=pooling)
        self.hidden = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(self.image.width + self.text.width, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(hidden, outputs)

    def forward(self, batch: Batch) -> Output:
        """Run forward; the embeddings are the pooled outputs of the towers, each of its own width."""
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


def build(*, outputs: int, channels: int, arguments: dict[str, Any]) -> Concatenation:
    """Build from a bundle's or recipe's ``[architecture]`` arguments."""
    return Concatenation(outputs=outputs, channels=channels, **arguments)
