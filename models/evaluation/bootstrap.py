"""How much a figure depends on which patients were drawn: the bootstrap (Efron & Tibshirani 1993).

Whole patients are drawn with replacement, since a patient's studies resemble one another. One set of drawings
serves every figure of a split, so that figures may be compared drawing by drawing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.evaluation import metrics
from models.evaluation.metrics import BoolArray, Curve, ScoreArray, Values, Weights

RESAMPLINGS = 1000

#: Of the drawing; fixed, so that the same bundle and films give the same intervals.
SEED = 0

#: Numbers that are worked on at a time: beyond it memory grows and nothing gets faster.
_BLOCK = 4_000_000


def draw(patients: NDArray[np.intp], *, seed: int = SEED, resamplings: int = RESAMPLINGS) -> Weights:
    """Draw as many patients as there are, again and again.

    Parameters
    ----------
    patients
        Shape (studies,): number of each study's patient, from 0.
    seed
        Of the drawing.

    Returns
    -------
    numpy.ndarray
        Shape (studies, resamplings), float32: how often each study is in each drawing.
    """
    generator = np.random.default_rng(seed)
    count = int(patients.max()) + 1
    drawn = np.empty((count, resamplings), np.float32)
    for column in range(resamplings):
        drawn[:, column] = np.bincount(generator.integers(0, count, count), minlength=count)
    return drawn[patients]


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """Figures of one label in every drawing, each of shape (resamplings,)."""

    auc: Values
    ap: Values
    f1: Values


def resample(truth: BoolArray, scores: ScoreArray, present: BoolArray, weights: Weights) -> Drawn:
    """Measure one label in every drawing.

    Parameters
    ----------
    truth, scores, present
        Shape (studies,).
    weights
        As :func:`draw` gives them.
    """
    auc, ap = follow(truth, scores, weights, Curve.auc, Curve.average_precision)
    return Drawn(auc, ap, metrics.f1_drawn(truth, present, weights))


def follow(
    truth: BoolArray, scores: ScoreArray, weights: Weights, *measures: Callable[[Curve], Values]
) -> tuple[Values, ...]:
    """Figures that are read off the curve, of every drawing; each of shape (resamplings,)."""
    blocks = np.array_split(weights, max(1, weights.size // _BLOCK), axis=1)
    curves = (metrics.curve(truth, scores, block) for block in blocks)
    parts = [[measure(curve) for measure in measures] for curve in curves]
    return tuple(np.concatenate(part) for part in zip(*parts, strict=True))


def mean_known(drawn: Values) -> Values:
    """Mean of each drawing over the labels that it could measure; NaN where it could measure none."""
    known = ~np.isnan(drawn)
    total = np.where(known, drawn, 0).sum(axis=1)
    means: Values = np.full(len(drawn), np.nan)
    np.divide(total, known.sum(axis=1), out=means, where=known.any(axis=1))
    return means


def interval(values: Values, level: float = 0.95) -> tuple[float, float]:
    """Percentile interval, ignoring drawings without a value; NaN when more than half are without one."""
    known = values[~np.isnan(values)]
    if 2 * known.size < values.size or not known.size:
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
