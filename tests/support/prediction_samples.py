"""Samples with given truths and scores, for the tests of metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.data.dataset import LabelledStudy
from models.evaluation.predictions import LabelColumn, LabelledPredictions


def labelled_study(number: int, keys: Sequence[str] = (), **facts) -> LabelledStudy:
    """Study without film files; each is of another patient."""
    return LabelledStudy(
        identifier=str(number),
        patient=str(number),
        films=(Path(f"{number}.png"),),
        keys=frozenset(keys),
        headings=None,
        **facts,
    )


def labelled_predictions(
    truth: Mapping[str, Sequence[bool]],
    scores: Mapping[str, Sequence[float]],
    *,
    calibrated: Sequence[str] = (),
    threshold: float = 0.5,
    studies: Sequence[LabelledStudy] | None = None,
    patients: Sequence[int] | None = None,
    rows: Mapping[str, Sequence[int]] | None = None,
) -> LabelledPredictions:
    """Sample of the given labels; a calibrated label has its scores as probabilities."""
    count = max(len(column) for column in truth.values())
    columns = []
    for key, column in truth.items():
        values = np.array(scores[key], dtype=float)
        columns.append(
            LabelColumn(
                key=key,
                rows=np.array((rows or {}).get(key, range(count)), dtype=np.intp),
                truth=np.array(column, dtype=bool),
                present=values >= threshold,
                scores=values,
                probabilities=values if key in calibrated else None,
                threshold=threshold,
            )
        )
    return LabelledPredictions(
        studies=tuple(studies or (labelled_study(number) for number in range(count))),
        patients=np.array(range(count) if patients is None else patients, dtype=np.intp),
        columns=tuple(columns),
        unknown_labels=(),
    )


def calibration_sample(
    n: int, slope: float, intercept: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Truths and scores of `n` studies: P(truth) = sigmoid(slope * logit(score) + intercept)."""
    random = np.random.default_rng(seed)
    logit = random.normal(-2, 1.5, n)
    truth = random.random(n) < 1 / (1 + np.exp(-(slope * logit + intercept)))
    return truth, 1 / (1 + np.exp(-logit))
