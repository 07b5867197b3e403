"""From a sample to everything that is reported of it, as one table that JSON can hold.

What cannot be measured is None. Each figure has its baseline beside it, and those that are headlined their
interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from models.evaluation import metrics
from models.evaluation.bootstrap import Drawn, follow, interval, mean_known, resample
from models.evaluation.metrics import FEWEST_POSITIVES, BoolArray, Curve, ScoreArray, Values, Weights
from models.evaluation.predictions import Column, Sample
from models.labels.vocabulary import load_vocabulary

#: Operating points: sensitivity is given at each of these specificities, and the other way round.
OPERATING_POINTS = (0.80, 0.90, 0.95)

#: Share of the normal studies that must be kept while the abnormal ones are counted.
NORMAL_RECALL = 0.86


def figures(sample: Sample, weights: Weights) -> dict[str, Any]:
    """Measure a sample.

    Parameters
    ----------
    weights
        Of the bootstrap, shape (studies, resamplings).

    Returns
    -------
    dict
        ``labels`` by key with positives, AUC, AP and F1 with their 95 % intervals and baselines, operating
        points, confusion, threshold and calibration; ``macro`` over the labels with at least
        :data:`FEWEST_POSITIVES` positives and ``macro_all`` over all that can be measured; ``rare`` and
        ``not_in_dataset`` name the labels that are left out of the first and of everything; ``accuracy`` over
        all answers, beside those of two answers that need no film; ``abnormal`` as :func:`abnormality` gives
        it.
    """
    drawn = {
        column.key: resample(column.truth, column.scores, column.present, weights[column.rows])
        for column in sample.columns
    }
    labels = {column.key: _label(column, drawn[column.key]) for column in sample.columns}
    fewest = FEWEST_POSITIVES
    return {
        "n_studies": len(sample.studies),
        "n_patients": int(sample.patients.max()) + 1,
        "resamplings": weights.shape[1],
        "macro": _macro(labels, drawn, enough(sample.columns, fewest)),
        "macro_all": _macro(labels, drawn, enough(sample.columns, 1)),
        "accuracy": _accuracy(sample.columns),
        "abnormal": abnormality(sample, weights),
        "rare": [column.key for column in sample.columns if column.truth.sum() < fewest],
        "not_in_dataset": list(sample.unspoken),
        "labels": labels,
    }


def enough(columns: Iterable[Column], fewest: int = FEWEST_POSITIVES) -> list[str]:
    """Keys of the labels with so many positives and a negative."""
    return [column.key for column in columns if fewest <= column.truth.sum() < len(column.truth)]


def abnormality(sample: Sample, weights: Weights, chosen: BoolArray | None = None) -> dict[str, Any] | None:
    """How well abnormal studies are told from normal ones; None for a bundle that does not say.

    Parameters
    ----------
    chosen
        Shape (studies,): a part of the sample; None for all.

    Returns
    -------
    dict
        ``score``: the label it comes from, or one minus it; AUC; ``recall`` of the abnormal studies where
        :data:`NORMAL_RECALL` of the normal ones are kept, beside ``recall_random``; each with its interval.
    """
    vocabulary = load_vocabulary()
    direct, opposite = sample.column(vocabulary.contrary), sample.column(vocabulary.sole)
    column = direct or opposite
    if column is None:
        return None
    if chosen is not None:
        column = column.within(chosen)
    truth, scores = column.truth, column.scores
    if direct is None:
        truth, scores = ~truth, 1 - scores

    def recall(curve: Curve) -> Values:
        return curve.sensitivity_at(NORMAL_RECALL)

    curve = metrics.curve(truth, scores)
    drawn_auc, drawn_recall = follow(truth, scores, weights[column.rows], Curve.auc, recall)
    return {
        "score": vocabulary.contrary if direct else f"1 - {vocabulary.sole}",
        "n_abnormal": int(truth.sum()),
        "n_normal": int((~truth).sum()),
        **measured("auc", float(curve.auc()[0]), drawn_auc),
        "auc_random": 0.5,
        "normal_recall": NORMAL_RECALL,
        **measured("recall", float(recall(curve)[0]), drawn_recall),
        "recall_random": 1 - NORMAL_RECALL,
    }


def _label(column: Column, drawn: Drawn) -> dict[str, Any]:
    truth, present = column.truth, column.present
    some = bool(truth.any())
    prevalence = float(truth.mean())
    curve = metrics.curve(truth, column.scores)
    probabilities = column.probabilities
    return {
        "n_studies": len(truth),
        "n_positive": int(truth.sum()),
        "prevalence": prevalence,
        **measured("auc", float(curve.auc()[0]), drawn.auc),
        "auc_random": 0.5,
        **measured("ap", float(curve.average_precision()[0]), drawn.ap),
        "ap_random": prevalence,
        **measured("f1", metrics.f1(truth, present) if some else math.nan, drawn.f1),
        "f1_always": metrics.f1(truth, np.ones_like(truth)) if some else None,
        "accuracy": float((truth == present).mean()),
        "accuracy_nothing": 1 - prevalence,
        "sensitivity_at_specificity": _points(curve.sensitivity_at),
        "specificity_at_sensitivity": _points(curve.specificity_at),
        "confusion": _confusion(truth, present),
        "n_reported": int(present.sum()),
        "threshold": column.threshold,
        "calibrated": probabilities is not None,
        "ece": None if probabilities is None else metrics.calibration_error(truth, probabilities),
        "reliability": None if probabilities is None else _reliability(truth, probabilities),
        "brier": None if probabilities is None else metrics.brier(truth, probabilities),
        "brier_prevalence": prevalence * (1 - prevalence),
    }


def _reliability(truth: BoolArray, probabilities: ScoreArray) -> list[dict[str, float]]:
    """What was observed where the model was so certain, with its 95 % interval."""
    found = metrics.reliability(truth, probabilities)
    low, high = metrics.wilson(found.observed, found.count)
    columns = {"predicted": found.predicted, "observed": found.observed, "low": low, "high": high}
    return [
        {"count": int(count), **{name: float(values[place]) for name, values in columns.items()}}
        for place, count in enumerate(found.count)
    ]


def _confusion(truth: BoolArray, present: BoolArray) -> dict[str, int]:
    return {
        "true_positive": int((truth & present).sum()),
        "false_positive": int((~truth & present).sum()),
        "false_negative": int((truth & ~present).sum()),
        "true_negative": int((~truth & ~present).sum()),
    }


def _points(measure: Callable[[float], Values]) -> dict[str, float | None]:
    return {f"{point:.2f}": known(float(measure(point)[0])) for point in OPERATING_POINTS}


def _macro(
    labels: Mapping[str, Mapping[str, Any]], drawn: Mapping[str, Drawn], keys: Sequence[str]
) -> dict[str, Any]:
    chosen = [labels[key] for key in keys]
    calibrated = [label for label in chosen if label["calibrated"]]
    columns = [drawn[key] for key in keys]
    return {
        "n_labels": len(chosen),
        **measured("auc", _mean(chosen, "auc"), macro([column.auc for column in columns])),
        "auc_random": 0.5,
        **measured("ap", _mean(chosen, "ap"), macro([column.ap for column in columns])),
        "ap_random": known(_mean(chosen, "ap_random")),
        **measured("f1", _mean(chosen, "f1"), macro([column.f1 for column in columns])),
        "f1_always": known(_mean(chosen, "f1_always")),
        "n_calibrated": len(calibrated),
        "ece": known(_mean(calibrated, "ece")),
        "brier": known(_mean(calibrated, "brier")),
        "brier_prevalence": known(_mean(calibrated, "brier_prevalence")),
    }


def macro(drawn: Sequence[Values]) -> Values:
    """Mean over labels of every drawing, shape (resamplings,); empty for no label."""
    return mean_known(np.stack(drawn, axis=1)) if drawn else np.empty(0)


def _accuracy(columns: Sequence[Column]) -> dict[str, float]:
    """Of all answers, label by label; the most common answer is that of this very split."""
    answers = sum(len(column.truth) for column in columns)
    right = {
        "model": sum(int((column.truth == column.present).sum()) for column in columns),
        "predicting_nothing": sum(int((~column.truth).sum()) for column in columns),
        "most_common": sum(max(int(column.truth.sum()), int((~column.truth).sum())) for column in columns),
    }
    return {name: count / answers for name, count in right.items()}


def measured(name: str, value: float, drawn: Values) -> dict[str, float | None]:
    """A figure and its 95 % interval over the drawings; what is NaN is None."""
    low, high = interval(drawn)
    return {name: known(value), f"{name}_low": known(low), f"{name}_high": known(high)}


def _mean(labels: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [label[name] for label in labels if label[name] is not None]
    return float(np.mean(values)) if values else math.nan


def known(value: float) -> float | None:
    """None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value
