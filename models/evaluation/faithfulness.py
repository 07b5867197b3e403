"""Faithfulness of heat maps: agreement of methods, deletion and insertion, randomised weights."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from models.architectures.interface import Batch, Network
from models.bundles.predictor import Predictor, TracedPrediction
from models.evaluation.localization import highest_pixels, intersection_over_union
from models.explain.methods import draw_heatmaps
from models.processing.types import FloatArray

#: Shares of the highest pixels whose overlap is measured.
TOP_SHARES = (0.05, 0.2)
#: Side of the compared maps, in pixels: no method is finer.
_SIDE = 224
#: Steps of deletion and insertion.
_STEPS = 14
#: Number of squares along a side; squares are deleted, because single pixels would be noise.
_SQUARES = 28
_SEED = 0

#: Share of the weight tensors that is randomised, from the output backwards (Adebayo et al. 2018).
STAGES: Mapping[str, float] = {"head": 0.0, "last half": 0.5, "all": 1.0}


def compare_maps(maps: Mapping[str, FloatArray]) -> dict[str, dict[str, float]]:
    """Agreement of each pair of methods on one film and finding.

    Parameters
    ----------
    maps
        Maps by method, of one shape; each divided by its maximum, which changes none of the metrics.

    Returns
    -------
    dict
        Metrics by pair, such as ``gradcam / ig``: ``pearson`` over all pixels, NaN where a map is constant;
        ``iou_5`` and ``iou_20`` of the highest 5 and 20 % of the pixels, as far as they are above 0.
    """
    small = {method: _small(values) for method, values in maps.items()}
    found = {}
    for one, other in itertools.combinations(small, 2):
        first, second = small[one], small[other]
        figures = {"pearson": pearson(first, second)}
        for top in TOP_SHARES:
            count = round(top * first.size)
            figures[f"iou_{100 * top:.0f}"] = intersection_over_union(
                highest_pixels(first, count), highest_pixels(second, count)
            )
        found[f"{one} / {other}"] = figures
    return found


def pearson(one: FloatArray, other: FloatArray) -> float:
    """Pearson correlation over all pixels; NaN where one map is constant."""
    if min(float(np.ptp(one)), float(np.ptp(other))) <= 0:
        return float("nan")
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def _small(values: FloatArray) -> FloatArray:
    small: FloatArray = F.interpolate(torch.from_numpy(values)[None, None], (_SIDE, _SIDE), mode="area")[
        0, 0
    ].numpy()
    return small


def deletion_insertion(
    predictor: Predictor, traced: TracedPrediction, column: int, film: int, order: FloatArray
) -> dict[str, float]:
    """Areas under the curves of deletion and insertion (Petsiuk et al. 2018).

    Squares of the film are blurred one after the other, highest first (deletion), or restored (insertion).

    Parameters
    ----------
    order
        Map of shape (rows, columns); squares with high values go first.

    Returns
    -------
    dict
        ``deletion``: mean score over the steps, the lower the better; ``insertion``: the higher the better.
    """
    given = predictor.batch(traced.study, [film])
    side = given.images.shape[-1]
    sigma = side / 16
    blurred = gaussian_blur(given.images, 2 * round(2 * sigma) + 1, sigma)
    squares = F.interpolate(torch.from_numpy(order)[None, None], (_SQUARES, _SQUARES), mode="area")[0, 0]
    ranks = squares.flatten().argsort(descending=True, stable=True).argsort().view(_SQUARES, _SQUARES)
    first = [ranks < round(step * _SQUARES**2 / _STEPS) for step in range(_STEPS + 1)]
    masks = F.interpolate(torch.stack(first)[:, None].float(), (side, side), mode="nearest")
    films = torch.cat(
        [given.images * (1 - masks) + blurred * masks, blurred * (1 - masks) + given.images * masks]
    )
    with torch.inference_mode():
        parts = [
            predictor.network(
                Batch(part, None if given.tokens is None else given.tokens.rows([0] * len(part)))
            ).logits[:, column]
            for part in films.to(predictor.device).split(_STEPS + 1)
        ]
    deletion, insertion = (part.sigmoid().float().cpu() for part in parts)
    return {"deletion": _area(deletion), "insertion": _area(insertion)}


def _area(scores: Tensor) -> float:
    return float(torch.trapezoid(scores, dx=1 / _STEPS))


def random_order(seed: int) -> FloatArray:
    """Random order of the squares: the baseline of deletion and insertion."""
    return np.random.default_rng(seed).random((_SQUARES, _SQUARES), np.float32)


def randomise_weights(predictor: Predictor, stage: str) -> Predictor:
    """Copy of a predictor with randomised weights, from the head backwards.

    The values of each weight tensor are permuted, so that their distribution stays.

    Parameters
    ----------
    stage
        One of :data:`STAGES`.
    """
    network: Network = copy.deepcopy(predictor.network)
    generator = torch.Generator().manual_seed(_SEED)
    head = {id(parameter) for parameter in network.head.parameters()}
    others = [parameter for parameter in network.parameters() if id(parameter) not in head]
    count = round(STAGES[stage] * len(others))
    for parameter in (*network.head.parameters(), *others[len(others) - count :]):
        flat = parameter.detach().flatten()
        order = torch.randperm(flat.numel(), generator=generator).to(flat.device)
        parameter.data.copy_(flat[order].view_as(parameter))
    spoilt = copy.copy(predictor)
    spoilt.network = network.eval()
    return spoilt


def similarity_after_randomising(
    predictor: Predictor, spoilt: Predictor, traced: TracedPrediction, key: str, film: int, method: str
) -> float:
    """Correlation of a map with that of the randomised network; NaN where one is constant."""
    (whole,) = draw_heatmaps(predictor, traced, [key], films=[film], method=method)
    (again,) = spoilt.trace([traced.study])
    (other,) = draw_heatmaps(spoilt, again, [key], films=[film], method=method)
    return pearson(_small(whole.values), _small(other.values))
