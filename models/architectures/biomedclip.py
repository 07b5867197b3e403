"""BiomedCLIP's image tower (Zhang et al. 2023) under a perceptron of three layers; answers to prompts.

The towers carry open_clip's names, so that its weights fit as they are; they are built here by configuration
because open_clip would fetch the configuration of the text tower from a hub.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn

from models.architectures.image import create_backbone, feature_map
from models.architectures.interface import Batch, Network, Output
from models.architectures.text import FIELDS, create_bert, limits_of
from models.text.tokenizer import TextLimits, Tokenizer, Tokens

#: PubMedBERT (Gu et al. 2021): the base size, with a vocabulary of its own.
_PUBMEDBERT = {"vocab_size": 30522}


class Clip(nn.Module):
    """Image tower and, for prompts, text tower over one joint space.

    Parameters
    ----------
    backbone, channels, options
        Of the image tower, as :func:`models.architectures.image.create_backbone` takes them.
    embedding
        Width of the joint space.
    prompts
        Fields of the text tower; None leaves it out.
    """

    def __init__(
        self,
        *,
        backbone: str,
        channels: int,
        options: Mapping[str, Any] | None,
        embedding: int,
        prompts: Mapping[str, Any] | None,
    ) -> None:
        super().__init__()
        trunk = create_backbone(backbone, channels=channels, options=options, pooled=True)
        projection = nn.Linear(trunk.num_features, embedding, bias=False)  # type: ignore[arg-type]
        self.visual = nn.ModuleDict({"trunk": trunk, "head": nn.ModuleDict({"proj": projection})})
        self.text: nn.ModuleDict | None = None
        if prompts is not None:
            fields = {**FIELDS, **_PUBMEDBERT, **prompts}
            width = fields["hidden_size"]
            between = (width + embedding) // 2
            self.text = nn.ModuleDict(
                {
                    "transformer": create_bert({**_PUBMEDBERT, **prompts}),
                    "proj": nn.Sequential(
                        nn.Linear(width, between, bias=False),
                        nn.GELU(),
                        nn.Linear(between, embedding, bias=False),
                    ),
                }
            )
            self.logit_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    @property
    def trunk(self) -> nn.Module:
        """The image tower without its projection."""
        return self.visual["trunk"]

    def embed_images(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Places in the joint space, shape (n, embedding), not of unit length; and the last feature map."""
        trunk: Any = self.trunk
        features = trunk.forward_features(images)
        head: Any = self.visual["head"]
        return head["proj"](trunk.forward_head(features)), feature_map(trunk, features)

    def embed_text(self, tokens: Tokens) -> Tensor:
        """Places of texts in the joint space, shape (n, embedding), not of unit length.

        Raises
        ------
        ValueError
            If there is no text tower.
        """
        if self.text is None:
            raise ValueError("architecture biomedclip: without prompts in its arguments it has no text tower")
        read = self.text["transformer"](input_ids=tokens.input_ids, attention_mask=tokens.attention_mask)
        place: Tensor = self.text["proj"](read.last_hidden_state[:, 0])
        return place


class BiomedClip(Network):
    """Image tower of CLIP, mostly frozen, and a head of three layers.

    Parameters
    ----------
    outputs
        Width of the head.
    backbone, channels, options
        Of the image tower, as :func:`models.architectures.image.create_backbone` takes them.
    embedding
        Width of the joint space and of the image embedding.
    hidden
        Widths of the first two layers of the head.
    dropout
        Probability, behind each of them, while training.
    unfrozen
        So many of the backbone's last blocks are trained, with norm and projection behind them; the rest of
        the tower keeps its weights.
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
        self.clip = Clip(
            backbone=backbone, channels=channels, options=options, embedding=embedding, prompts=prompts
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
        blocks = getattr(self.clip.trunk, "blocks", None)
        if blocks is None or not 0 <= unfrozen <= len(blocks):
            found = "none" if blocks is None else len(blocks)
            raise ValueError(f"unfrozen = {unfrozen}: the backbone has {found} blocks")
        self.clip.requires_grad_(False)
        trained = [*blocks[len(blocks) - unfrozen :], self.clip.trunk.norm, self.clip.visual["head"]]
        for module in trained if unfrozen else ():
            module.requires_grad_(True)

    def forward(self, batch: Batch) -> Output:
        """Run forward; the image embedding is the film's place in the joint space, at unit length."""
        place, features = self.clip.embed_images(batch.images)
        embedding = F.normalize(place, dim=1)
        # Features of unit length are too small for a perceptron: their root mean square is brought to 1.
        logits = self.head(self.hidden(embedding * math.sqrt(self._embedding)))
        return Output(logits=logits, image_embedding=embedding, features=features)

    @property
    def embedding_width(self) -> int:
        """Width of the joint space."""
        return self._embedding

    @property
    def closed_form(self) -> bool:
        """Whether maps have a closed form: no, the class token does not average the patches."""
        return False

    @property
    def cam_layer(self) -> nn.Module:
        """What the last block attends to: behind it nothing but the class token reaches the head."""
        blocks: Any = self.clip.trunk.blocks
        layer: nn.Module = blocks[-1].norm1
        return layer

    @property
    def text_limits(self) -> TextLimits | None:
        """Of the tower that reads prompts; None without it."""
        return None if self.clip.text is None else limits_of(self.clip.text["transformer"])

    @property
    def towers(self) -> Mapping[str, nn.Module]:
        """Both towers as ``clip``, or the ``image`` tower alone."""
        return {"clip": self.clip, "image": self.clip.trunk}


@torch.inference_mode()
def score_prompts(
    network: BiomedClip, tokenizer: Tokenizer, images: Tensor, prompts: Sequence[tuple[str, str]]
) -> Tensor:
    """Answer without any training: a film is nearer to a sentence or to its contrary (Tiu et al. 2022).

    Parameters
    ----------
    network
        With a text tower, evaluating.
    tokenizer
        Of the same bundle.
    images
        Shape (n, channels, size, size), preprocessed.
    prompts
        For each label what is written when it is there, and when it is not, such as ("a chest radiograph with
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
    sentences = F.normalize(network.clip.embed_text(tokens.to(images.device)), dim=1)
    places = network(Batch(images)).image_embedding
    logits = places @ sentences.T * network.clip.logit_scale.exp()
    scores: Tensor = logits.unflatten(1, (len(prompts), 2)).softmax(dim=2)[..., 0]
    return scores


def build(*, outputs: int, channels: int, arguments: dict[str, Any]) -> BiomedClip:
    """Build from a bundle's or recipe's ``[architecture]`` arguments."""
    return BiomedClip(outputs=outputs, channels=channels, **arguments)
