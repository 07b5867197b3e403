"""Supplementary explanations for the reading room: weights of the text's words, and further heat maps.

They are optional: one that fails is logged and left out, and the analysis goes on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from dicom_node.config.sections import ResultSettings
from dicom_node.errors import ConfigurationError
from models.bundles.predictor import Predictor, StudyPredictor, TracedPrediction
from models.errors import ModelError, UsageError
from models.explain.heatmap import Heatmap
from models.explain.methods import draw_heatmaps, objection
from models.explain.targets import best_film, reported_findings

if TYPE_CHECKING:
    from dicom_node.store.analysis_records import WordWeightsRecord

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class SupplementaryExplanations:
    """Explanations that are shown in the reading room but are in no report.

    Attributes
    ----------
    words
        Weights of the text's words for the most certain findings.
    maps
        Heat maps by further methods, of the findings and films that have one in the report.
    others
        Heat maps of the findings that have none in the report; kept on the grid of the network.
    """

    words: tuple[WordWeightsRecord, ...] = ()
    maps: tuple[Heatmap, ...] = ()
    others: tuple[Heatmap, ...] = ()


NO_EXPLANATIONS: Final = SupplementaryExplanations()


def check_page_methods(predictor: StudyPredictor, settings: ResultSettings) -> None:
    """Check that a bundle supports the methods of ``results.page_methods``.

    Raises
    ------
    ConfigurationError
        If it does not, or a package that a method needs is not installed.
    """
    for name in settings.page_methods:
        if reason := objection(predictor, name):
            raise ConfigurationError(f"results.page_methods: {name}: {reason}")
    if {"ig", "occlusion"} & set(settings.page_methods):
        from models.explain.attribution import import_captum  # noqa: PLC0415 - torch comes with it

        try:
            import_captum()
        except UsageError as error:
            raise ConfigurationError(f"results.page_methods: {error}") from None


def make_supplementary_explanations(
    predictor: StudyPredictor, read: TracedPrediction, shown: Sequence[Heatmap], settings: ResultSettings
) -> SupplementaryExplanations:
    """Make the explanations that the settings ask for.

    Parameters
    ----------
    predictor
        Loaded model bundle.
    read
        Study and prediction of the model.
    shown
        Heat maps of the report. Further maps cover the same findings and films only, so that a withheld map
        appears nowhere.
    settings
        Settings of the results.
    """
    return SupplementaryExplanations(
        _weigh(predictor, read, settings.word_limit), _draw(predictor, read, shown, settings)
    )


def _weigh(predictor: StudyPredictor, read: TracedPrediction, limit: int) -> tuple[WordWeightsRecord, ...]:
    if read.study.text is None or not isinstance(predictor, Predictor):
        return ()
    from dicom_node.store.analysis_records import WordWeightsRecord  # noqa: PLC0415 - SQLAlchemy comes with it
    from models.explain.token_attribution import attribute_words  # noqa: PLC0415 - torch comes with it

    found = []
    for key in reported_findings(read.prediction, limit):
        try:
            weighed = attribute_words(predictor, read, key, film=best_film(read.prediction, key))
        except UsageError as error:
            _LOG.error("no weights of the text's words: %s", error)
            return ()
        found.append(WordWeightsRecord(key, tuple((word.text, round(word.weight, 6)) for word in weighed)))
    return tuple(found)


def _draw(
    predictor: StudyPredictor, read: TracedPrediction, shown: Sequence[Heatmap], settings: ResultSettings
) -> tuple[Heatmap, ...]:
    found: list[Heatmap] = []
    for method in settings.page_methods:
        try:
            for position, film in enumerate(read.study.films):
                keys = [
                    heatmap.key
                    for heatmap in shown
                    if heatmap.film == film.identifier and heatmap.method != method
                ]
                if keys:
                    found += draw_heatmaps(predictor, read, keys, films=[position], method=method)
        except ModelError as error:
            _LOG.error("no heat maps by %s: %s", method, error)
    return tuple(found)
