"""Grad-CAM (Selvaraju et al. 2017): a feature map, weighted by what each of its channels adds to a logit.

Where the logits are linear in the averaged features, the gradient that Grad-CAM averages is a row of the
head's weights, and a map costs one product with features that the prediction left behind. For every other
network one pass is made again, and the gradients of all findings come from one backward pass of what stands
behind :attr:`Network.cam_layer`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn

from models.architectures.image import feature_map
from models.bundles.predictor import Predictor, Reading

#: Cells across one cell of the network's grid: between cells a map is cubic, so that its peak may lie between
#: them too.
_REFINED = 8


def draw(predictor: Predictor, reading: Reading, columns: Sequence[int], films: Sequence[int]) -> Tensor:
    """Maps of shape (findings, films, height, width)."""
    if predictor.network.closed_form and reading.features is not None:
        weights = predictor.network.head.weight.detach().cpu()[list(columns)]
        grids = torch.einsum("kc,fchw->kfhw", weights, reading.features[list(films)])
    else:
        grids = _by_gradient(predictor, reading, columns, films)
    refined = F.interpolate(grids, scale_factor=_REFINED, mode="bicubic").clamp_(min=0)
    # A cubic may overshoot: where no cell speaks for the finding, nothing between them does.
    return refined * (grids.amax(dim=(2, 3), keepdim=True) > 0)


def _by_gradient(
    predictor: Predictor, reading: Reading, columns: Sequence[int], films: Sequence[int]
) -> Tensor:
    network = predictor.network
    kept: list[Tensor] = []

    def cut(_layer: nn.Module, _given: object, activation: Tensor) -> Tensor:
        """Begin the graph here: nothing in front of it is asked for a gradient."""
        kept.append(activation.detach().requires_grad_())
        return kept[0]

    hook = network.cam_layer.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            logits = network(predictor.batch(reading.study, films)).logits
            # A film's logits depend on that film alone, so that one sum serves all of them.
            wanted = torch.zeros(len(columns), *logits.shape, device=logits.device)
            wanted[range(len(columns)), :, list(columns)] = 1
            (gradients,) = torch.autograd.grad(logits, kept[0], wanted, is_grads_batched=True)
    finally:
        hook.remove()
    tower = network.towers["image"]
    activation = feature_map(tower, kept[0].detach())
    weights = torch.stack([feature_map(tower, gradient).mean(dim=(2, 3)) for gradient in gradients])
    return torch.einsum("kfc,fchw->kfhw", weights, activation).float().cpu()
