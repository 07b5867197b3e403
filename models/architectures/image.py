"""Image tower: any backbone of timm, up to its last feature map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

#: Of a feature map as (n, channels, height, width).
_MAP_DIMENSIONS = 4


def create_backbone(
    name: str, *, channels: int, options: Mapping[str, Any] | None, pooled: bool
) -> nn.Module:
    """Build a backbone of timm without its classifier; weights are random and nothing is downloaded.

    Parameters
    ----------
    name
        Of a timm configuration.
    channels
        Of the input images.
    options
        Further arguments of the timm model.
    pooled
        Whether its own pooling stays in.

    Raises
    ------
    ValueError
        If timm knows no such backbone or refuses an option.
    """
    if not timm.is_model(name):
        # Also keeps out "hf-hub:" and "local-dir:" names, with which timm would fetch a configuration.
        raise ValueError(f"timm has no backbone {name!r}")
    pooling = {} if pooled else {"global_pool": ""}
    try:
        backbone: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=0, in_chans=channels, **pooling, **(options or {})
        )
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"timm cannot build backbone {name!r}: {error}") from error
    return backbone


def feature_map(backbone: nn.Module, features: Tensor) -> Tensor:
    """Bring what a backbone gives to (n, channels, height, width).

    Parameters
    ----------
    features
        A map, with channels first or last, or a sequence of patches behind class and register tokens.
    """
    if features.dim() == _MAP_DIMENSIONS:
        last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
        return features.permute(0, 3, 1, 2) if last else features
    patches = features[:, getattr(backbone, "num_prefix_tokens", 0) :]
    side = math.isqrt(patches.shape[1])
    grid: Tensor = patches.transpose(1, 2).unflatten(2, (side, side))
    return grid


class ImageTower(nn.Module):
    """A backbone that gives its last feature map.

    Parameters
    ----------
    backbone, channels, options
        As :func:`create_backbone` takes them.

    Attributes
    ----------
    width
        Channels of the map.

    Raises
    ------
    ValueError
        If the backbone cannot be built.
    """

    def __init__(self, backbone: str, *, channels: int, options: Mapping[str, Any] | None) -> None:
        super().__init__()
        self.backbone = create_backbone(backbone, channels=channels, options=options, pooled=False)
        self.width: int = self.backbone.num_features  # type: ignore[assignment]

    def forward(self, images: Tensor) -> Tensor:
        """Feature map, shape (n, width, height, width of the grid)."""
        return feature_map(self.backbone, self.backbone(images))
