"""Evaluation of a bundle on a labelled split: one table for JSON, from which every document is made."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from models.bundles.predictor import Predictor
from models.bundles.study_predictions import Progress, predict_studies, text_input
from models.data.dataset import FilmDataset, LabelledStudy
from models.errors import UsageError
from models.evaluation.bootstrap import resampling_weights
from models.evaluation.metrics_summary import summarize_metrics
from models.evaluation.predictions import LabelledPredictions, join_predictions
from models.evaluation.report_text_statistics import summarize_report_text
from models.evaluation.subgroups import subgroup_metrics
from models.processing.types import Prediction
from models.text.study_text import TEXTS

_FROM_REPORT = (
    "The labels come from the very report that was read, freed of their terms: these are no figures of what "
    "can be seen on the films, nor of what is known before they are read."
)
_FITTED_HERE = "Calibration and thresholds were fitted to this split: its F1, Brier score and ECE flatter."
_FITTED_ELSEWHERE = "Calibration and thresholds were fitted to {}: they may not suit these films."
_NOT_FITTED = "The bundle is not calibrated: its scores are no probabilities, and its thresholds are a guess."
_TRAINED_HERE = "The bundle may have been trained on these films: the figures say nothing of others."


def evaluate_with_predictions(
    predictor: Predictor,
    dataset: FilmDataset,
    *,
    split: str,
    text: str = "none",
    progress: Progress = lambda _done, _all: None,
) -> tuple[LabelledPredictions, dict[str, Any]]:
    """Evaluate as :func:`evaluate` does; return the labelled predictions, too."""
    check_text_input(predictor, text)
    studies = dataset.split(split)
    readable = tuple(study for study in studies if text == "none" or text_input(study, text))
    if not readable:
        raise UsageError(f"--text {text}: no study of {dataset.name} {split} has such a text")
    if predictor.text != "required":
        readable = studies
    predictions = predict_studies(predictor, readable, progress, text=text)
    return evaluate_predictions(predictor, dataset, readable, predictions, split=split, text=text)


def evaluate_predictions(
    predictor: Predictor,
    dataset: FilmDataset,
    studies: tuple[LabelledStudy, ...],
    predictions: Sequence[Prediction],
    *,
    split: str,
    text: str = "none",
) -> tuple[LabelledPredictions, dict[str, Any]]:
    """Evaluate existing predictions; return as :func:`evaluate_with_predictions` does.

    Parameters
    ----------
    studies
        Studies of the split that were predicted.
    predictions
        One prediction for each study.

    Raises
    ------
    DatasetError
        If there is no study, or the data set has none of the labels.
    """
    whole = dataset.split(split)
    keys = tuple(label.key for label in predictor.labels)
    sample = join_predictions(keys, studies, predictions)
    weights = resampling_weights(sample.patients)
    return sample, {
        "bundle": f"{predictor.identity.name} {predictor.identity.version}",
        "weights_sha256": predictor.identity.weights_sha256,
        "dataset": dataset.name,
        "split": split,
        "text": text,
        "warnings": list(_warnings(predictor, dataset, split, text)),
        "n_left_out": len(whole) - len(studies),
        "n_without_text": sum(text != "none" and not text_input(study, text) for study in whole),
        **summarize_metrics(sample, weights),
        "subgroups": subgroup_metrics(sample, weights),
        "words": summarize_report_text(sample),
    }


def evaluate(
    predictor: Predictor,
    dataset: FilmDataset,
    *,
    split: str,
    text: str = "none",
    progress: Progress = lambda _done, _all: None,
) -> dict[str, Any]:
    """Evaluate a bundle.

    Parameters
    ----------
    split
        Split of the data set.
    text
        Kind of text read beside the films, one of :data:`models.text.study_text.TEXTS`; named in every table.
    progress
        Called with the number of studies predicted and the number in all.

    Returns
    -------
    dict
        As :func:`models.evaluation.metrics_summary.summarize_metrics` describes it, with ``bundle``,
        ``dataset``, ``split``, ``text`` and ``warnings``; ``n_left_out`` studies that a bundle which requires
        text could not read; ``subgroups`` and ``words`` of their modules.

    Raises
    ------
    UsageError
        If the bundle does not read this kind of text, or requires another, or no study has it.
    DatasetError
        If there is no such split, a film cannot be read, or the data set has none of the labels.
    """
    return evaluate_with_predictions(predictor, dataset, split=split, text=text, progress=progress)[1]


def check_text_input(predictor: Predictor, text: str) -> None:
    """Check that the bundle accepts a kind of text.

    Raises
    ------
    UsageError
        If there is no such kind of text, the bundle reads none, or requires one.
    """
    name = f"{predictor.identity.name} {predictor.identity.version}"
    if text not in TEXTS:
        raise UsageError(f"--text {text}: there is no such text; use one of {', '.join(TEXTS)}")
    if text != "none" and predictor.text == "none":
        raise UsageError(f"--text {text}: bundle {name} reads films alone; use --text none")
    if text == "none" and predictor.text == "required":
        raise UsageError(f"--text none: bundle {name} requires text; use --text indication")


def _warnings(predictor: Predictor, dataset: FilmDataset, split: str, text: str) -> Iterable[str]:
    calibration = predictor.bundle.calibration
    if text == "report":
        yield _FROM_REPORT
    if not any(label.method == "platt" for label in calibration.labels.values()):
        yield _NOT_FITTED
    elif dataset.name != calibration.dataset:
        yield _FITTED_ELSEWHERE.format(calibration.dataset)
    elif split == calibration.split or dataset.undivided:
        yield _FITTED_HERE
    if split == "train":  # of any data set: a training may have had several
        yield _TRAINED_HERE
