"""Image tower: a backbone of timm, up to its last feature map."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import timm
from torch import Tensor, nn

#: Dimensions of a feature map: n, channels, height, width.
_MAP_DIMENSIONS = 4


def check_backbone(name: str) -> None:
    """Check that timm has a backbone of this name.

    Raises
    ------
    ValueError
        If it has none.
    """
    if not timm.is_model(name):
        # Also keeps out "hf-hub:" and "local-dir:" names, with which timm would fetch a configuration.
        raise ValueError(f"timm has no backbone {name!r}")


def create_backbone(
    name: str, *, channels: int, options: Mapping[str, Any] | None, pooled: bool
) -> nn.Module:
    """Build a backbone of timm without its classifier; weights are random and nothing is downloaded.

    Parameters
    ----------
    name
        Name of a timm model.
    channels
        Number of channels of the input images.
    options
        Further arguments of the timm model.
    pooled
        Keep the backbone's own pooling.

    Raises
    ------
    ValueError
        If timm knows no such backbone or refuses an option.
    """
    check_backbone(name)
    pooling = {} if pooled else {"global_pool": ""}
    try:
        backbone: nn.Module = timm.create_model(
            name, pretrained=False, num_classes=0, in_chans=channels, **pooling, **(options or {})
        )
    except (AssertionError, AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"timm cannot build backbone {name!r}: {error}") from error
    return backbone


def feature_map(backbone: nn.Module, features: Tensor) -> Tensor:
    """Feature map of a backbone's output, shape (n, channels, height, width).

    Parameters
    ----------
    features
        Output of the backbone: a map with channels first or last, or a sequence of patches behind class and
        register tokens.
    """
    if features.dim() == _MAP_DIMENSIONS:
        last = getattr(backbone, "output_fmt", "NCHW") == "NHWC"
        return features.permute(0, 3, 1, 2) if last else features
    patches = features[:, getattr(backbone, "num_prefix_tokens", 0) :]
    side = math.isqrt(patches.shape[1])
    grid: Tensor = patches.transpose(1, 2).unflatten(2, (side, side))
    return grid


class ImageTower(nn.Module):
    """Backbone that returns its last feature map.

    Parameters
    ----------
    backbone, channels, options
        Backbone, as :func:`create_backbone` takes it.

    Attributes
    ----------
    width
        Number of channels of the map.

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
