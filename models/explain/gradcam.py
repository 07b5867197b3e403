"""Grad-CAM (Selvaraju et al. 2017): a feature map weighted by the contribution of each channel to a logit.

Where the logits are linear in the averaged features, the gradient that Grad-CAM averages is a row of the
head's weights, and a map costs one product with the features kept from the prediction, in either runtime.
Every other network runs in torch, and its gradients come from a second pass
(:mod:`models.explain.gradients`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.bundles.predictor import Predictor, TracedPrediction
from models.processing.resampling import cubic_weights
from models.processing.types import FloatArray

#: Upsampling factor of the network's grid. The interpolation is bicubic, so a peak may lie between cells.
_REFINED = 8


def draw(
    predictor: Predictor, traced: TracedPrediction, columns: Sequence[int], films: Sequence[int]
) -> FloatArray:
    """Maps of shape (findings, films, height, width)."""
    weights = predictor.session.head_weights()
    if weights is not None and traced.features is not None:
        grids = np.einsum(
            "kc,fchw->kfhw", weights[list(columns)], traced.features[list(films)], optimize=True
        )
    else:
        from models.explain.gradients import weigh_by_gradient  # noqa: PLC0415 - torch comes with it

        grids = weigh_by_gradient(predictor, traced, columns, films)
    down, across = (cubic_weights(cells, _REFINED * cells) for cells in grids.shape[2:])
    refined = np.maximum((down @ grids) @ across.T, 0)
    # Bicubic interpolation overshoots: where no cell is positive, the map must be 0 everywhere.
    shown: FloatArray = refined * (grids.max(axis=(2, 3), keepdims=True) > 0)
    return shown
