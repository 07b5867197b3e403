"""Measure a bundle on a labelled split: one table for JSON, from which every document is written."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from models.bundles.predictor import Predictor
from models.bundles.study_predictions import Progress, predict_all, text_of
from models.data.dataset import FilmDataset, LabelledStudy
from models.errors import UsageError
from models.evaluation.bootstrap import draw
from models.evaluation.metrics_summary import figures
from models.evaluation.predictions import Sample, join
from models.evaluation.report_text_statistics import count_words
from models.evaluation.subgroups import subgroups
from models.processing.types import Prediction
from models.text.study_text import TEXTS

_FROM_REPORT = (
    "The labels come from the very report that was read, freed of their terms: these are no figures of what "
    "can be seen on the films, nor of what is known before they are read."
)
_FITTED_HERE = "Calibration and thresholds were fitted to this split: its F1, Brier score and ECE flatter."
_FITTED_ELSEWHERE = "Calibration and thresholds were fitted to {}: they may not suit these films."
_TRAINED_HERE = "The bundle may have been trained on these films: the figures say nothing of others."


def measure(
    predictor: Predictor,
    dataset: FilmDataset,
    *,
    split: str,
    text: str = "none",
    progress: Progress = lambda _done, _all: None,
) -> tuple[Sample, dict[str, Any]]:
    """As :func:`evaluate`, with the sample that the figures come from."""
    check_text(predictor, text)
    studies = dataset.split(split)
    reading = tuple(study for study in studies if text == "none" or text_of(study, text))
    if not reading:
        raise UsageError(f"--text {text}: no study of {dataset.name} {split} has such a text")
    if predictor.text != "required":
        reading = studies
    predictions = predict_all(predictor, reading, progress, text=text)
    return measure_predictions(predictor, dataset, reading, predictions, split=split, text=text)


def measure_predictions(
    predictor: Predictor,
    dataset: FilmDataset,
    studies: tuple[LabelledStudy, ...],
    predictions: Sequence[Prediction],
    *,
    split: str,
    text: str = "none",
) -> tuple[Sample, dict[str, Any]]:
    """As :func:`measure`, of predictions that are there already.

    Parameters
    ----------
    studies
        Of the split, those that were read.
    predictions
        One a study.

    Raises
    ------
    DatasetError
        If there is no study, or the data set knows none of the labels.
    """
    whole = dataset.split(split)
    keys = tuple(label.key for label in predictor.labels)
    sample = join(keys, studies, predictions)
    weights = draw(sample.patients)
    return sample, {
        "bundle": f"{predictor.identity.name} {predictor.identity.version}",
        "weights_sha256": predictor.identity.weights_sha256,
        "dataset": dataset.name,
        "split": split,
        "text": text,
        "warnings": list(_warnings(predictor, dataset.name, split, text)),
        "n_left_out": len(whole) - len(studies),
        "n_without_text": sum(text != "none" and not text_of(study, text) for study in whole),
        **figures(sample, weights),
        "subgroups": subgroups(sample, weights),
        "words": count_words(sample),
    }


def evaluate(
    predictor: Predictor,
    dataset: FilmDataset,
    *,
    split: str,
    text: str = "none",
    progress: Progress = lambda _done, _all: None,
) -> dict[str, Any]:
    """Measure a bundle.

    Parameters
    ----------
    split
        Of the data set.
    text
        Of :data:`models.text.study_text.TEXTS`: what the model reads beside the films; named in every table.
    progress
        Called with studies read and studies in all.

    Returns
    -------
    dict
        As :func:`models.evaluation.metrics_summary.figures` describes it, with ``bundle``, ``dataset``,
        ``split``, ``text`` and ``warnings``; ``n_left_out`` studies that a bundle which requires
        text could not read;
        ``subgroups`` and ``words`` of their modules.

    Raises
    ------
    UsageError
        If the bundle does not read such a text, or requires one, or no study has it.
    DatasetError
        If there is no such split, a film cannot be read, or the data set knows none of the labels.
    """
    return measure(predictor, dataset, split=split, text=text, progress=progress)[1]


def check_text(predictor: Predictor, text: str) -> None:
    """Refuse a text that the bundle cannot take.

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


def _warnings(predictor: Predictor, dataset: str, split: str, text: str) -> Iterable[str]:
    calibration = predictor.bundle.calibration
    if text == "report":
        yield _FROM_REPORT
    if dataset != calibration.dataset:
        yield _FITTED_ELSEWHERE.format(calibration.dataset)
    elif split == calibration.split:
        yield _FITTED_HERE
    if (dataset, split) == (calibration.dataset, "train"):
        yield _TRAINED_HERE
