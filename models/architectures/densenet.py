"""DenseNet-121 (Huang et al. 2017) with one linear layer, as CheXNet (Rajpurkar et al. 2017) reads films."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from models.architectures.convnet import ConvNet


class DenseNet(ConvNet):
    """A dense backbone, global average pooling, dropout, linear head; its maps have the closed form.

    Parameters
    ----------
    outputs, backbone, channels, dropout, options
        As :class:`models.architectures.convnet.ConvNet` takes them; any other backbone of timm will do, but
        only DenseNets can start from the weights below.

    Raises
    ------
    ValueError
        If timm knows no such backbone or refuses an option.
    """

    def __init__(
        self,
        *,
        outputs: int,
        backbone: str = "densenet121",
        channels: int = 3,
        dropout: float = 0.5,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            outputs=outputs, backbone=backbone, channels=channels, dropout=dropout, options=options
        )


def rename_densenet(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Names of torchvision's and TorchXRayVision's files -> timm's, without the classifier.

    Both write ``features.denseblock1.denselayer1.norm1``, and torchvision's older files ``norm.1``; what
    TorchXRayVision keeps beside the weights, such as operating points, is left behind.
    """
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", name): value
        for name, value in published.items()
        if name.startswith("features.")
    }


def build(*, outputs: int, channels: int, arguments: dict[str, Any]) -> DenseNet:
    """Build from a bundle's or recipe's ``[architecture]`` arguments."""
    return DenseNet(outputs=outputs, channels=channels, **arguments)
