"""Predictions of a bundle for the labelled studies of a data set, read from their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from models.bundles.predictor import Predictor
from models.data.dataset import LabelledStudy
from models.labels.vocabulary import load_vocabulary
from models.processing.types import Prediction, Study
from models.text.study_text import readable

Progress = Callable[[int, int], None]

#: Number of studies predicted together: enough to use the processor, few enough for memory.
_STUDIES_AT_ONCE = 8


def predict_studies(
    predictor: Predictor,
    studies: tuple[LabelledStudy, ...],
    progress: Progress = lambda _done, _all: None,
    *,
    text: str = "none",
) -> list[Prediction]:
    """Predict every study, in order; films are read from their files.

    Parameters
    ----------
    text
        Kind of text read beside the films, one of :data:`models.text.study_text.TEXTS`.

    Raises
    ------
    DatasetError
        If a film cannot be read.
    PredictionError
        If the bundle requires text and a study has none.
    """
    predictions: list[Prediction] = []
    for start in range(0, len(studies), _STUDIES_AT_ONCE):
        batch = studies[start : start + _STUDIES_AT_ONCE]
        predictions += predictor.predict([_load(study, text) for study in batch])
        progress(len(predictions), len(studies))
    return predictions


def text_input(study: LabelledStudy, text: str) -> str | None:
    """Text of a labelled study that the model reads beside its films; None where there is none."""
    return readable(text, indication=study.indication, report=study.report, vocabulary=load_vocabulary())


def _load(study: LabelledStudy, text: str) -> Study:
    return replace(study.load(), text=text_input(study, text))
