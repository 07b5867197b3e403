"""DenseNet-121 (Huang et al. 2017) with one linear layer, as in CheXNet (Rajpurkar et al. 2017)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from models.architectures.convnet import ConvNet


class DenseNet(ConvNet):
    """Dense backbone, global average pooling, dropout, linear head; Grad-CAM has its closed form.

    Parameters
    ----------
    outputs, backbone, channels, dropout, options
        As :class:`models.architectures.convnet.ConvNet` takes them. Any backbone of timm is accepted, but
        only DenseNets can start from the weights that :func:`rename_densenet` reads.

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
    """Rename weights of torchvision and TorchXRayVision to timm's names, without the classifier.

    Both write ``features.denseblock1.denselayer1.norm1``, and torchvision's older files ``norm.1``; other
    tensors of TorchXRayVision, such as operating points, are dropped.
    """
    return {
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", name): value
        for name, value in published.items()
        if name.startswith("features.")
    }


def build(*, outputs: int, channels: int, arguments: dict[str, Any]) -> DenseNet:
    """Build from a bundle's or recipe's ``[architecture]`` arguments."""
    return DenseNet(outputs=outputs, channels=channels, **arguments)
