"""Predictions of labelled studies: what a bundle says of a data set's films, read from their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from models.bundles.predictor import Predictor
from models.data.dataset import LabelledStudy
from models.labels.vocabulary import load_vocabulary
from models.processing.types import Prediction, Study
from models.text.study_text import readable

Progress = Callable[[int, int], None]

#: Studies that are read at a time: enough to fill the processor, few enough to keep in memory.
_STUDIES_AT_ONCE = 8


def predict_all(
    predictor: Predictor,
    studies: tuple[LabelledStudy, ...],
    progress: Progress = lambda _done, _all: None,
    *,
    text: str = "none",
) -> list[Prediction]:
    """Read every study from its files, in order.

    Parameters
    ----------
    text
        Of :data:`models.text.study_text.TEXTS`: what is read beside the films.

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


def text_of(study: LabelledStudy, text: str) -> str | None:
    """What a model reads of a labelled study beside its films; None where there is nothing."""
    return readable(text, indication=study.indication, report=study.report, vocabulary=load_vocabulary())


def _load(study: LabelledStudy, text: str) -> Study:
    return replace(study.load(), text=text_of(study, text))
