"""Cross-attention of an image and a text tower, over a joint space in which both can be compared.

The defaults are the towers of MedCLIP (Wang et al. 2022): Swin-T (Liu et al. 2021) and ClinicalBERT, brought
to a space of 512 dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn

from models.architectures.interface import Batch, Output
from models.architectures.text import pool
from models.architectures.two_towers import TwoTowers

#: Kernel size of the convolution: each token and one neighbour on each side.
_KERNEL = 3


class HybridFeedForward(nn.Module):
    """A token-wise perceptron beside a depth-wise convolution along the sequence.

    The perceptron mixes the features of one token and knows no order, and attention knows no distance. The
    convolution adds the neighbours of each token, words or patches of a row, for ``3 * width`` weights. The
    two run in parallel and are added. The convolution's weights start at zero, so the block starts as a plain
    feed-forward network.

    Parameters
    ----------
    width
        Width of a token.
    dropout
        Dropout probability.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(4 * width, width)
        )
        self.convolution = nn.Conv1d(width, width, _KERNEL, padding=_KERNEL // 2, groups=width)
        nn.init.zeros_(self.convolution.weight)
        nn.init.zeros_(self.convolution.bias)  # type: ignore[arg-type]

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Tokens of shape (n, length, width) to the same shape; masked tokens influence no other.

        Parameters
        ----------
        mask
            Shape (n, length), bool; False hides a token.
        """
        visible = tokens * mask[..., None]
        along: Tensor = self.convolution(visible.transpose(1, 2)).transpose(1, 2)
        mixed: Tensor = self.perceptron(tokens)
        return mixed + along


class _Side(nn.Module):
    """One modality's half of a layer: cross-attention, then feed-forward (pre-norm, both residual)."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.norm_other = nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, heads, dropout=dropout, batch_first=True)
        self.norm_forward = nn.LayerNorm(width)
        self.feed_forward = HybridFeedForward(width, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, mask: Tensor, other: Tensor, other_mask: Tensor) -> Tensor:
        asked = self.norm_other(other)
        answer, _ = self.attention(
            self.norm(tokens), asked, asked, key_padding_mask=~other_mask, need_weights=False
        )
        tokens = tokens + self.dropout(answer)
        thought: Tensor = self.dropout(self.feed_forward(self.norm_forward(tokens), mask))
        return tokens + thought


class CrossAttention(TwoTowers):
    """Two towers, a joint space, layers of attention both ways, and a linear head on both.

    Parameters
    ----------
    outputs
        Number of labels, the width of the head.
    backbone, channels, options, text, pooling
        Both towers, as :class:`models.architectures.two_towers.TwoTowers` takes them; the text is pooled in
        the joint space.
    joint
        Width of the joint space, in which the towers are compared and attend to each other.
    layers, heads
        Number of layers, and of attention heads.
    dropout
        Dropout probability.

    Raises
    ------
    ValueError
        If a tower cannot be built, or `joint` is not a multiple of `heads`.
    """

    def __init__(
        self,
        *,
        outputs: int,
        backbone: str = "swin_tiny_patch4_window7_224",
        channels: int = 3,
        options: Mapping[str, Any] | None = None,
        text: Mapping[str, Any] | None = None,
        pooling: str = "mean",
        joint: int = 512,
        layers: int = 2,
        heads: int = 8,
        dropout: float = 0.1,
    ) -> None:
        if joint < 1 or heads < 1 or joint % heads:
            raise ValueError(f"joint = {joint} is not a multiple of heads = {heads}")
        super().__init__(backbone=backbone, channels=channels, options=options, text=text, pooling=pooling)
        self.image_projection = nn.Linear(self.image.width, joint)
        self.text_projection = nn.Linear(self.text.width, joint)
        self.image_sides = nn.ModuleList(_Side(joint, heads, dropout) for _ in range(layers))
        self.text_sides = nn.ModuleList(_Side(joint, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(2 * joint)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(2 * joint, outputs)

    def forward(self, batch: Batch) -> Output:
        """Run forward; the embeddings are those before cross-attention."""
        features = self.image(batch.images)
        patches = self.image_projection(features.flatten(2).transpose(1, 2))
        states, mask = self.text(batch.tokens, len(patches))
        words = self.text_projection(states)
        image_embedding = F.normalize(patches.mean(dim=1), dim=1)
        text_embedding = F.normalize(pool(words, mask, self.pooling), dim=1)
        everywhere = torch.ones(patches.shape[:2], dtype=torch.bool, device=patches.device)
        for image_side, text_side in zip(self.image_sides, self.text_sides, strict=True):
            patches, words = (
                image_side(patches, everywhere, words, mask),
                text_side(words, mask, patches, everywhere),
            )
        both = torch.cat([patches.mean(dim=1), pool(words, mask, "mean")], dim=1)
        return Output(
            logits=self.head(self.dropout(self.norm(both))),
            image_embedding=image_embedding,
            features=features,
            text_embedding=None if batch.tokens is None else text_embedding,
        )

    @property
    def embedding_width(self) -> int:
        """Width of the joint space."""
        return self.image_projection.out_features


def build(*, outputs: int, channels: int, arguments: dict[str, Any]) -> CrossAttention:
    """Build from a bundle's or recipe's ``[architecture]`` arguments."""
    return CrossAttention(outputs=outputs, channels=channels, **arguments)
