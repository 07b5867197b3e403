"""Measure a bundle on a labelled split: one JSON table, from which card and documents are written."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import DatasetError
from models.evaluation import metrics
from models.predictor import Predictor
from models.training.dataset import FilmDataset, LabelledStudy, targets
from models.types import Prediction

#: Studies that are read at a time: enough to fill the processor, few enough to keep in memory.
_STUDIES_AT_ONCE = 8

#: Of the bootstrap; fixed, so that the same bundle and films give the same intervals.
_SEED = 0


def predict_all(
    predictor: Predictor,
    studies: tuple[LabelledStudy, ...],
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> list[Prediction]:
    """Read every study from its files, in order.

    Raises
    ------
    DatasetError
        If a film cannot be read.
    """
    predictions: list[Prediction] = []
    for start in range(0, len(studies), _STUDIES_AT_ONCE):
        batch = studies[start : start + _STUDIES_AT_ONCE]
        predictions += predictor.predict([study.load() for study in batch])
        progress(len(predictions), len(studies))
    return predictions


def evaluate(
    predictor: Predictor,
    dataset: FilmDataset,
    *,
    split: str,
    text: str = "none",
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> dict[str, Any]:
    """Measure a bundle.

    Parameters
    ----------
    split
        Of the data set.
    text
        Which text the model read beside the films; named in every table.
    progress
        Called with studies read and studies in all.

    Returns
    -------
    dict
        As :func:`figures` describes it, with ``bundle``, ``dataset``, ``split`` and ``text``.

    Raises
    ------
    DatasetError
        If there is no such split, or a film cannot be read.
    """
    studies = dataset.split(split)
    predictions = predict_all(predictor, studies, progress)
    keys = tuple(label.key for label in predictor.labels)
    numbers = {patient: number for number, patient in enumerate({study.patient: None for study in studies})}
    return {
        "bundle": f"{predictor.identity.name} {predictor.identity.version}",
        "weights_sha256": predictor.identity.weights_sha256,
        "dataset": dataset.name,
        "split": split,
        "text": text,
        **figures(
            keys,
            targets(studies, keys),
            predictions,
            np.array([numbers[study.patient] for study in studies], dtype=np.intp),
        ),
    }


def figures(
    keys: tuple[str, ...],
    truth: NDArray[np.bool_],
    predictions: list[Prediction],
    patients: NDArray[np.intp],
) -> dict[str, Any]:
    """Everything that is reported of one split; what cannot be measured is None.

    Parameters
    ----------
    truth
        Shape (studies, keys).
    patients
        Number of each study's patient, from 0; the unit of the bootstrap.

    Returns
    -------
    dict
        ``n_studies``, ``n_patients``; ``labels`` by key with positives, AUC and its 95 % interval, AP beside
        prevalence, F1 beside that of reporting every study, threshold and calibration error; ``macro`` over
        the labels with enough positives and ``macro_all`` over all that can be measured; ``accuracy`` label
        by label beside that of predicting nothing.

    Raises
    ------
    DatasetError
        If there is no study.
    """
    if not predictions:
        raise DatasetError("there is no study to measure")
    scores = np.array([[finding.score for finding in prediction.findings] for prediction in predictions])
    present = np.array([[finding.present for finding in prediction.findings] for prediction in predictions])
    drawn = metrics.bootstrap_auc(truth, scores, patients, seed=_SEED)
    labels = {
        key: _label(
            truth[:, column], scores[:, column], present[:, column], drawn[:, column], predictions, column
        )
        for column, key in enumerate(keys)
    }
    return {
        "n_studies": len(truth),
        "n_patients": int(patients.max()) + 1,
        "macro": _macro(labels, keys, drawn, metrics.counted(truth)),
        "macro_all": _macro(labels, keys, drawn, metrics.counted(truth, fewest=1)),
        "accuracy": {"model": float((present == truth).mean()), "predicting_nothing": float((~truth).mean())},
        "labels": labels,
    }


def _label(
    truth: NDArray[np.bool_],
    scores: NDArray[np.float64],
    present: NDArray[np.bool_],
    drawn: NDArray[np.float64],
    predictions: list[Prediction],
    column: int,
) -> dict[str, Any]:
    low, high = metrics.interval(drawn)
    findings = [prediction.findings[column] for prediction in predictions]
    calibrated = findings[0].probability is not None
    probabilities = np.array([finding.probability or 0.0 for finding in findings])
    return {
        "n_positive": int(truth.sum()),
        "prevalence": float(truth.mean()),
        "auc": _known(metrics.auc(truth, scores)),
        "auc_low": _known(low),
        "auc_high": _known(high),
        "ap": _known(metrics.average_precision(truth, scores)),
        "f1": metrics.f1(truth, present) if truth.any() else None,
        "f1_always": metrics.f1(truth, np.ones_like(truth)) if truth.any() else None,
        "n_reported": int(present.sum()),
        "threshold": findings[0].threshold,
        "calibrated": calibrated,
        "ece": metrics.calibration_error(truth, probabilities) if calibrated else None,
    }


def _macro(
    labels: dict[str, dict[str, Any]],
    keys: tuple[str, ...],
    drawn: NDArray[np.float64],
    columns: NDArray[np.intp],
) -> dict[str, Any]:
    chosen = [labels[keys[column]] for column in columns]
    low, high = metrics.interval(metrics.mean_known(drawn[:, columns]))
    return {
        "n_labels": len(chosen),
        "auc": _mean(chosen, "auc"),
        "auc_low": _known(low),
        "auc_high": _known(high),
        "ap": _mean(chosen, "ap"),
        "ap_random": _mean(chosen, "prevalence"),
        "f1": _mean(chosen, "f1"),
        "f1_always": _mean(chosen, "f1_always"),
        "ece": _mean(chosen, "ece"),
    }


def _mean(labels: list[dict[str, Any]], name: str) -> float | None:
    values = [label[name] for label in labels if label[name] is not None]
    return float(np.mean(values)) if values else None


def _known(value: float) -> float | None:
    # JSON has no NaN.
    return None if math.isnan(value) else value
