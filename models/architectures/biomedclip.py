"""BiomedCLIP's image tower (Zhang et al. 2023) under a perceptron of three layers, and zero-shot scores.

Both towers are open_clip's own (:mod:`models.architectures.open_clip_network`), so its weights fit as they
are.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn

from models.architectures.image import feature_map
from models.architectures.interface import Batch, Network, Output
from models.architectures.open_clip_network import create_clip
from models.architectures.text import bert_limits
from models.text.tokenizer import TextLimits, Tokenizer, Tokens

#: Fields of PubMedBERT (Gu et al. 2021): the base size, with a vocabulary of its own.
_PUBMEDBERT = {"vocab_size": 30522}


class BiomedClip(Network):
    """Image tower of CLIP, mostly frozen, and a head of three layers.

    Parameters
    ----------
    outputs
        Number of labels, the width of the head.
    backbone, channels, options
        Image tower, as :func:`models.architectures.image.create_backbone` takes it.
    embedding
        Width of the joint space and of the image embedding.
    hidden
        Widths of the first two layers of the head.
    dropout
        Dropout probability behind each of these two layers.
    unfrozen
        Number of the backbone's last blocks that are trained, with the norm and the projection behind them;
        the rest of the tower keeps its weights.
    prompts
        Fields of the text tower (:data:`models.architectures.text.FIELDS`) with which
        :func:`score_prompts` works; None leaves it out, for the head does not need it.

    Raises
    ------
    ValueError
        If a tower cannot be built.
    """

    def __init__(
        self,
        *,
        outputs: int,
        backbone: str = "vit_base_patch16_224",
        channels: int = 3,
        options: Mapping[str, Any] | None = None,
        embedding: int = 512,
        hidden: Sequence[int] = (512, 256),
        dropout: float = 0.3,
        unfrozen: int = 2,
        prompts: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.clip: Any = create_clip(
            backbone=backbone,
            channels=channels,
            options=options,
            embedding=embedding,
            prompts=None if prompts is None else {**_PUBMEDBERT, **prompts},
        )
        first, second = hidden
        self.hidden = nn.Sequential(
            nn.Linear(embedding, first),
            nn.LayerNorm(first),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(first, second),
            nn.LayerNorm(second),
            nn.GELU(),
            nn.Dropout(dropout),
        )
        self.head = nn.Linear(second, outputs)
        self._embedding = embedding
        self._freeze(unfrozen)

    def _freeze(self, unfrozen: int) -> None:
        trunk = self.clip.visual.trunk
        blocks = getattr(trunk, "blocks", None)
        if blocks is None or not 0 <= unfrozen <= len(blocks):
            found = "none" if blocks is None else len(blocks)
            raise ValueError(f"unfrozen = {unfrozen}: the backbone has {found} blocks")
        self.clip.requires_grad_(False)
        trained = [*blocks[len(blocks) - unfrozen :], trunk.norm, self.clip.visual.head]
        for module in trained if unfrozen else ():
            module.requires_grad_(True)

    def forward(self, batch: Batch) -> Output:
        """Run forward; the image embedding is that of the joint space, at unit length."""
        visual = self.clip.visual
        features = visual.trunk.forward_features(batch.images)
        embedding = F.normalize(visual.head(visual.trunk.forward_head(features)), dim=1)
        # Unit length makes the features too small for a perceptron: scale their root mean square to 1.
        logits = self.head(self.hidden(embedding * math.sqrt(self._embedding)))
        return Output(logits=logits, image_embedding=embedding, features=feature_map(visual.trunk, features))

    def embed_text(self, tokens: Tokens) -> Tensor:
        """Text embeddings in the joint space, shape (n, embedding), at unit length.

        Raises
        ------
        ValueError
            If the network has no text tower.
        """
        text = self.clip.text
        if text is None:
            raise ValueError("architecture biomedclip: without prompts in its arguments it has no text tower")
        # open_clip's forward() takes every padding token for masked; the tokenizer's mask says it exactly.
        states = text.transformer(input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        return F.normalize(text.proj(text.pooler(states, tokens.attention_mask)), dim=1)

    @property
    def embedding_width(self) -> int:
        """Width of the joint space."""
        return self._embedding

    @property
    def closed_form(self) -> bool:
        """Closed form of Grad-CAM: False, because the class token does not average the patches."""
        return False

    @property
    def cam_layer(self) -> nn.Module:
        """Norm before the last block: behind it only the class token reaches the head."""
        blocks: Any = self.clip.visual.trunk.blocks
        layer: nn.Module = blocks[-1].norm1
        return layer

    @property
    def text_limits(self) -> TextLimits | None:
        """Limits of the text tower; None without one."""
        return None if self.clip.text is None else bert_limits(self.clip.text.transformer)

    @property
    def towers(self) -> Mapping[str, nn.Module]:
        """Both towers as ``clip``, or the ``image`` tower alone."""
        return {"clip": self.clip, "image": self.clip.visual.trunk}


@torch.inference_mode()
def score_prompts(
    network: BiomedClip, tokenizer: Tokenizer, images: Tensor, prompts: Sequence[tuple[str, str]]
) -> Tensor:
    """Zero-shot scores: whether a film is nearer to a sentence or to its contrary (Tiu et al. 2022).

    Parameters
    ----------
    network
        Network with a text tower, in evaluation mode.
    tokenizer
        Tokenizer of the same bundle.
    images
        Shape (n, channels, size, size), preprocessed.
    prompts
        Pair of sentences for each label, positive and negative, such as ("a chest radiograph with
        cardiomegaly", "a chest radiograph without cardiomegaly").

    Returns
    -------
    Tensor
        Shape (n, labels), float32 in (0, 1): a softmax over the pair at the model's own temperature. Scores,
        not probabilities.

    Raises
    ------
    ValueError
        If the network has no text tower, or there is no prompt or an empty one.
    """
    if not prompts or not all(text.strip() for pair in prompts for text in pair):
        raise ValueError("each label needs a prompt and its contrary, and neither may be empty")
    tokens = tokenizer([text for pair in prompts for text in pair])
    assert tokens is not None
    texts = network.embed_text(tokens.to(images.device))
    logits = network(Batch(images)).image_embedding @ texts.T * network.clip.logit_scale.exp()
    scores: Tensor = logits.unflatten(1, (len(prompts), 2)).softmax(dim=2)[..., 0]
    return scores


def build(*, outputs: int, channels: int, arguments: dict[str, Any]) -> BiomedClip:
    """Build from a bundle's or recipe's ``[architecture]`` arguments."""
    return BiomedClip(outputs=outputs, channels=channels, **arguments)
