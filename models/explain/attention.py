"""Attention rollout (Abnar & Zuidema 2020): how much each patch contributes to a transformer's output.

It is computed backwards, as a row of weights over the patches and not as a product of matrices: from the
class token or the average of the last patches, half by the residual path and half by attention, averaged
over the heads, block by block. Swin's shifted windows are followed exactly, and the weight of a merged patch
is split among the four that it was made from.

The map does not depend on the finding: it is the same for all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from timm.models.swin_transformer import (
    PatchMerging,
    SwinTransformer,
    SwinTransformerBlock,
    window_partition,
    window_reverse,
)
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from models.architectures.interface import Network
from models.bundles.predictor import Predictor, TracedPrediction


def is_transformer(network: Network) -> bool:
    """True where the image tower is a transformer whose attention can be followed."""
    return isinstance(network.towers["image"], SwinTransformer | VisionTransformer)


def draw(
    predictor: Predictor, traced: TracedPrediction, columns: Sequence[int], films: Sequence[int]
) -> Tensor:
    """Maps of shape (findings, films, height, width), equal for all findings."""
    network = predictor.network
    tower = network.towers["image"]
    with torch.inference_mode(), _recorded(tower) as attentions:
        patches = network(predictor.batch(traced.study, films)).features
    assert patches is not None
    if isinstance(tower, SwinTransformer):
        mixed = _swin(tower, attentions, patches)
    else:
        assert isinstance(tower, VisionTransformer)
        mixed = _vit(tower, attentions, patches)
    return mixed.expand(len(columns), *mixed.shape)


@contextmanager
def _recorded(tower: nn.Module) -> Iterator[dict[nn.Module, Tensor]]:
    """Attention of each block, (windows or films, length, length), averaged over the heads."""
    found: dict[nn.Module, Tensor] = {}
    blocks = [block for block in tower.modules() if isinstance(block, Block | SwinTransformerBlock)]
    hooks = []

    def record(block: nn.Module) -> None:
        def keep(_layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            found[block] = given[0].mean(dim=1)

        hooks.append(block.attn.attn_drop.register_forward_pre_hook(keep))  # type: ignore[union-attr]

    # Fused kernels do not expose the attention weights.
    fused = [block.attn.fused_attn for block in blocks]
    try:
        for block in blocks:
            block.attn.fused_attn = False
            record(block)
        yield found
    finally:
        for hook in hooks:
            hook.remove()
        for block, was in zip(blocks, fused, strict=True):
            block.attn.fused_attn = was


def _vit(tower: VisionTransformer, attentions: dict[nn.Module, Tensor], patches: Tensor) -> Tensor:
    films, _, rows, columns = patches.shape
    first = next(iter(attentions.values()))
    length, prefix = first.shape[-1], int(tower.num_prefix_tokens)
    weights = torch.zeros(films, length, device=patches.device)
    if tower.global_pool == "token":
        weights[:, 0] = 1
    else:
        weights[:, prefix:] = 1 / (length - prefix)
    for attention in reversed(list(attentions.values())):
        weights = (weights + torch.einsum("fi,fij->fj", weights, attention)) / 2
    mixed: Tensor = weights[:, prefix:].unflatten(1, (rows, columns))
    return mixed


def _swin(tower: SwinTransformer, attentions: dict[nn.Module, Tensor], patches: Tensor) -> Tensor:
    films, _, rows, columns = patches.shape
    weights = torch.full((films, rows, columns, 1), 1 / (rows * columns), device=patches.device)
    for module in reversed(list(tower.modules())):
        if isinstance(module, SwinTransformerBlock):
            rows, columns = module.input_resolution
            weights = weights[:, :rows, :columns]
            weights = (weights + _attended(module, attentions[module], weights)) / 2
        elif isinstance(module, PatchMerging):
            weights = weights.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2) / 4
    return weights[..., 0]


def _attended(block: SwinTransformerBlock, attention: Tensor, weights: Tensor) -> Tensor:
    """Weights of a block's patches, passed on to the patches that they attended to."""
    down, across = block.shift_size
    _, rows, columns, _ = weights.shape
    height, width = block.window_size
    shifted = torch.roll(weights, (-down, -across), (1, 2))
    # Padding as in the block itself, where its windows do not fit; padded cells have weight 0.
    padded = nn.functional.pad(shifted, (0, 0, 0, -columns % width, 0, -rows % height))
    windows = window_partition(padded, (height, width)).flatten(1)
    windows = torch.einsum("wi,wij->wj", windows, attention).view(-1, height, width, 1)
    merged = window_reverse(windows, (height, width), padded.shape[1], padded.shape[2])
    unpadded: Tensor = torch.roll(merged[:, :rows, :columns], (down, across), (1, 2))
    return unpadded
