"""Summary of all metrics of labelled predictions, as one table for JSON.

A metric that cannot be measured is None. Each metric has its baseline beside it, and the main ones their 95 %
interval.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from models.evaluation import metrics
from models.evaluation.bootstrap import (
    ResampledMetrics,
    mean_ignoring_nan,
    percentile_interval,
    resample_curve,
    resample_metrics,
)
from models.evaluation.metrics import FEWEST_POSITIVES, BoolArray, ScoreArray, ThresholdCurve, Values, Weights
from models.evaluation.predictions import LabelColumn, LabelledPredictions
from models.labels.vocabulary import load_vocabulary

#: Operating points: sensitivity is given at each of these specificities, and the other way round.
OPERATING_POINTS = (0.80, 0.90, 0.95)

#: Recall of the normal studies at which the recall of the abnormal ones is given.
NORMAL_RECALL = 0.86


def summarize_metrics(sample: LabelledPredictions, weights: Weights) -> dict[str, Any]:
    """Compute all metrics of a sample.

    Parameters
    ----------
    weights
        Weights of the bootstrap, shape (studies, resamplings).

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
        column.key: resample_metrics(column.truth, column.scores, column.present, weights[column.rows])
        for column in sample.columns
    }
    labels = {column.key: _label(column, drawn[column.key]) for column in sample.columns}
    fewest = FEWEST_POSITIVES
    return {
        "n_studies": len(sample.studies),
        "n_patients": int(sample.patients.max()) + 1,
        "resamplings": weights.shape[1],
        "macro": _macro(labels, drawn, measurable_labels(sample.columns, fewest)),
        "macro_all": _macro(labels, drawn, measurable_labels(sample.columns, 1)),
        "accuracy": _accuracy(sample.columns),
        "abnormal": abnormality_metrics(sample, weights),
        "rare": [column.key for column in sample.columns if column.truth.sum() < fewest],
        "not_in_dataset": list(sample.unknown_labels),
        "labels": labels,
    }


def measurable_labels(columns: Iterable[LabelColumn], fewest: int = FEWEST_POSITIVES) -> list[str]:
    """Keys of the labels with at least `fewest` positives and one negative."""
    return [column.key for column in columns if fewest <= column.truth.sum() < len(column.truth)]


def abnormality_metrics(
    sample: LabelledPredictions, weights: Weights, chosen: BoolArray | None = None
) -> dict[str, Any] | None:
    """Metrics of abnormal against normal studies; None for a bundle without such a label.

    Parameters
    ----------
    chosen
        Subset of the sample, shape (studies,); None for all.

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

    def recall(curve: ThresholdCurve) -> Values:
        return curve.sensitivity_at(NORMAL_RECALL)

    curve = metrics.threshold_curve(truth, scores)
    drawn_auc, drawn_recall = resample_curve(truth, scores, weights[column.rows], ThresholdCurve.auc, recall)
    return {
        "score": vocabulary.contrary if direct else f"1 - {vocabulary.sole}",
        "n_abnormal": int(truth.sum()),
        "n_normal": int((~truth).sum()),
        **with_interval("auc", float(curve.auc()[0]), drawn_auc),
        "auc_random": 0.5,
        "normal_recall": NORMAL_RECALL,
        **with_interval("recall", float(recall(curve)[0]), drawn_recall),
        "recall_random": 1 - NORMAL_RECALL,
    }


def _label(column: LabelColumn, drawn: ResampledMetrics) -> dict[str, Any]:
    truth, present = column.truth, column.present
    some = bool(truth.any())
    prevalence = float(truth.mean())
    curve = metrics.threshold_curve(truth, column.scores)
    probabilities = column.probabilities
    return {
        "n_studies": len(truth),
        "n_positive": int(truth.sum()),
        "prevalence": prevalence,
        **with_interval("auc", float(curve.auc()[0]), drawn.auc),
        "auc_random": 0.5,
        **with_interval("ap", float(curve.average_precision()[0]), drawn.ap),
        "ap_random": prevalence,
        **with_interval("f1", metrics.f1(truth, present) if some else math.nan, drawn.f1),
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
        "brier": None if probabilities is None else metrics.brier_score(truth, probabilities),
        "brier_prevalence": prevalence * (1 - prevalence),
    }


def _reliability(truth: BoolArray, probabilities: ScoreArray) -> list[dict[str, float]]:
    """Observed share of positives in each bin of probability, with its 95 % interval."""
    found = metrics.reliability(truth, probabilities)
    low, high = metrics.wilson_interval(found.observed, found.count)
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
    return {f"{point:.2f}": nan_to_none(float(measure(point)[0])) for point in OPERATING_POINTS}


def _macro(
    labels: Mapping[str, Mapping[str, Any]], drawn: Mapping[str, ResampledMetrics], keys: Sequence[str]
) -> dict[str, Any]:
    chosen = [labels[key] for key in keys]
    calibrated = [label for label in chosen if label["calibrated"]]
    columns = [drawn[key] for key in keys]
    return {
        "n_labels": len(chosen),
        **with_interval("auc", _mean(chosen, "auc"), macro_mean([column.auc for column in columns])),
        "auc_random": 0.5,
        **with_interval("ap", _mean(chosen, "ap"), macro_mean([column.ap for column in columns])),
        "ap_random": nan_to_none(_mean(chosen, "ap_random")),
        **with_interval("f1", _mean(chosen, "f1"), macro_mean([column.f1 for column in columns])),
        "f1_always": nan_to_none(_mean(chosen, "f1_always")),
        "n_calibrated": len(calibrated),
        "ece": nan_to_none(_mean(calibrated, "ece")),
        "brier": nan_to_none(_mean(calibrated, "brier")),
        "brier_prevalence": nan_to_none(_mean(calibrated, "brier_prevalence")),
    }


def macro_mean(drawn: Sequence[Values]) -> Values:
    """Mean over labels in each resampling, shape (resamplings,); empty for no label."""
    return mean_ignoring_nan(np.stack(drawn, axis=1)) if drawn else np.empty(0)


def _accuracy(columns: Sequence[LabelColumn]) -> dict[str, float]:
    """Accuracy over all labels of all studies; the most common answers are those of this split."""
    answers = sum(len(column.truth) for column in columns)
    right = {
        "model": sum(int((column.truth == column.present).sum()) for column in columns),
        "predicting_nothing": sum(int((~column.truth).sum()) for column in columns),
        "most_common": sum(max(int(column.truth.sum()), int((~column.truth).sum())) for column in columns),
    }
    return {name: count / answers for name, count in right.items()}


def with_interval(name: str, value: float, drawn: Values) -> dict[str, float | None]:
    """Value of a metric with its 95 % interval over the resamplings; NaN becomes None."""
    low, high = percentile_interval(drawn)
    return {name: nan_to_none(value), f"{name}_low": nan_to_none(low), f"{name}_high": nan_to_none(high)}


def _mean(labels: Sequence[Mapping[str, Any]], name: str) -> float:
    values = [label[name] for label in labels if label[name] is not None]
    return float(np.mean(values)) if values else math.nan


def nan_to_none(value: float) -> float | None:
    """Value, or None for NaN, which JSON does not have."""
    return None if math.isnan(value) else value
