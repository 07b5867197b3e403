"""Grad-CAM (Selvaraju et al. 2017): a feature map weighted by the contribution of each channel to a logit.

Where the logits are linear in the averaged features, the gradient that Grad-CAM averages is a row of the
head's weights, and a map costs one product with the features kept from the prediction. For every other
network the forward pass is repeated, and the gradients of all findings come from one backward pass through
the layers behind :attr:`Network.cam_layer`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn

from models.architectures.image import feature_map
from models.bundles.predictor import Predictor, TracedPrediction

#: Upsampling factor of the network's grid. The interpolation is bicubic, so a peak may lie between cells.
_REFINED = 8


def draw(
    predictor: Predictor, traced: TracedPrediction, columns: Sequence[int], films: Sequence[int]
) -> Tensor:
    """Maps of shape (findings, films, height, width)."""
    if predictor.network.closed_form and traced.features is not None:
        weights = predictor.network.head.weight.detach().cpu()[list(columns)]
        grids = torch.einsum("kc,fchw->kfhw", weights, traced.features[list(films)])
    else:
        grids = _by_gradient(predictor, traced, columns, films)
    refined = F.interpolate(grids, scale_factor=_REFINED, mode="bicubic").clamp_(min=0)
    # Bicubic interpolation overshoots: where no cell is positive, the map must be 0 everywhere.
    return refined * (grids.amax(dim=(2, 3), keepdim=True) > 0)


def _by_gradient(
    predictor: Predictor, traced: TracedPrediction, columns: Sequence[int], films: Sequence[int]
) -> Tensor:
    network = predictor.network
    kept: list[Tensor] = []

    def cut(_layer: nn.Module, _given: object, activation: Tensor) -> Tensor:
        """Start the graph at this layer, so that no layer before it gets a gradient."""
        kept.append(activation.detach().requires_grad_())
        return kept[0]

    hook = network.cam_layer.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            logits = network(predictor.batch(traced.study, films)).logits
            # A film's logits depend on that film alone, so one sum serves all films.
            wanted = torch.zeros(len(columns), *logits.shape, device=logits.device)
            wanted[range(len(columns)), :, list(columns)] = 1
            (gradients,) = torch.autograd.grad(logits, kept[0], wanted, is_grads_batched=True)
    finally:
        hook.remove()
    tower = network.towers["image"]
    activation = feature_map(tower, kept[0].detach())
    weights = torch.stack([feature_map(tower, gradient).mean(dim=(2, 3)) for gradient in gradients])
    return torch.einsum("kfc,fchw->kfhw", weights, activation).float().cpu()
