"""Feature maps weighted by gradients, for networks whose Grad-CAM has no closed form.

The forward pass is repeated, and the gradients of all findings come from one backward pass through the layers
behind :attr:`models.architectures.interface.Network.cam_layer`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.architectures.image import feature_map
from models.bundles.predictor import Predictor, TracedPrediction
from models.processing.types import FloatArray


def weigh_by_gradient(
    predictor: Predictor, traced: TracedPrediction, columns: Sequence[int], films: Sequence[int]
) -> FloatArray:
    """Weigh the feature maps by the gradients of some logits; shape (findings, films, height, width)."""
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
    weighed: FloatArray = torch.einsum("kfc,fchw->kfhw", weights, activation).float().cpu().numpy()
    return weighed
