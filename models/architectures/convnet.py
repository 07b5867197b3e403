"""Convolutional network of timm with global average pooling and one linear layer.

Because the logits are linear in the pooled features, the gradient of a logit with respect to the feature map
is constant over it, and Grad-CAM (Selvaraju et al. 2017) is the class activation map of Zhou et al. 2016: no
second pass is needed to explain a prediction.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn

from models.architectures.efficientnet_lite import imagenet_state
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
        Number of labels, the width of the head.
    channels
        Number of channels of the input images.
    dropout
        Dropout probability before the head.
    joint
        Width of the joint space of films and reports; 0 for none. With a joint space the image embedding lies
        in it, at unit length; without, it is the pooled features.
    text_width
        Width of the sentence embeddings that :meth:`embed_text` projects into that space.
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
        self.backbone_name = backbone
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(built.num_features, outputs)
        if joint:
            self.image_projection = nn.Linear(built.num_features, joint)
            self.text_projection = nn.Linear(text_width, joint)
        self.joint = joint

    def forward(self, batch: Batch) -> Output:
        """Run forward; the image embedding is that of the joint space, or the pooled features."""
        features: Tensor = self.backbone(batch.images)
        pooled = features.mean(dim=(2, 3))
        embedding = F.normalize(self.image_projection(pooled), dim=1) if self.joint else pooled
        return Output(logits=self.head(self.dropout(pooled)), image_embedding=embedding, features=features)

    def embed_text(self, sentences: Tensor) -> Tensor:
        """Embeddings of reports in the joint space, shape (n, joint), at unit length.

        Parameters
        ----------
        sentences
            Sentence embeddings of whole reports, shape (n, text_width).
        """
        return F.normalize(self.text_projection(sentences), dim=1)

    @property
    def embedding_width(self) -> int:
        """Width of the joint space, or of the pooled features."""
        return self.joint or self.head.in_features

    def load_imagenet(self) -> None:
        """Load the published weights of :mod:`models.architectures.efficientnet_lite`.

        Raises
        ------
        RecipeError
            If there are none for the backbone, it was built with options, or their package is not installed.
        """
        state = imagenet_state(self.backbone_name, self.backbone)
        try:
            self.backbone.load_state_dict(state, strict=True)
        except RuntimeError as error:
            raise RecipeError(
                f"start = 'imagenet' fits the backbone {self.backbone_name} without options only"
            ) from error


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
