"""What is worked out of a reading for the page alone: the words of the text, and further heat maps.

A reading without them is better than none: what cannot be worked out is logged and left out.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from dicom_node.config.sections import ResultSettings
from dicom_node.errors import ConfigurationError
from dicom_node.store.analysis_records import KeptWords
from models.bundles.predictor import Predictor, Reading
from models.errors import ModelError, UsageError
from models.explain import heatmaps, methods_of
from models.explain.attribution import captum
from models.explain.heatmap import Heatmap
from models.explain.targets import best_film, reported
from models.explain.token_attribution import words

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Elaboration:
    """What no report holds.

    Attributes
    ----------
    words
        Of the text, weighed for the most certain findings.
    maps
        By further methods, of the findings and films that have a heat map already.
    """

    words: tuple[KeptWords, ...] = ()
    maps: tuple[Heatmap, ...] = ()


NOTHING: Final = Elaboration()


def check_methods(predictor: Predictor, settings: ResultSettings) -> None:
    """See that a bundle can be explained by the methods that the settings name for the page.

    Raises
    ------
    ConfigurationError
        When it cannot, or what a method needs is not installed.
    """
    there = methods_of(predictor)
    for name in settings.page_methods:
        if name not in there:
            model = predictor.identity.name
            raise ConfigurationError(
                f"results.page_methods: {model} has no {name}; it has {', '.join(there)}"
            )
    if {"ig", "occlusion"} & set(settings.page_methods):
        try:
            captum()
        except UsageError as error:
            raise ConfigurationError(f"results.page_methods: {error}") from None


def elaborate(
    predictor: Predictor, read: Reading, shown: Sequence[Heatmap], settings: ResultSettings
) -> Elaboration:
    """Work out what the settings ask for.

    Parameters
    ----------
    shown
        The heat maps of the report: the others lie on the same films, and what is withheld there is nowhere.
    """
    return Elaboration(_weigh(predictor, read, settings.word_limit), _draw(predictor, read, shown, settings))


def _weigh(predictor: Predictor, read: Reading, limit: int) -> tuple[KeptWords, ...]:
    if read.study.text is None:
        return ()
    found = []
    for key in reported(read.prediction, limit):
        try:
            weighed = words(predictor, read, key, film=best_film(read.prediction, key))
        except UsageError as error:
            _LOG.error("the words of the text are not weighed: %s", error)
            return ()
        found.append(KeptWords(key, tuple((word.text, round(word.weight, 6)) for word in weighed)))
    return tuple(found)


def _draw(
    predictor: Predictor, read: Reading, shown: Sequence[Heatmap], settings: ResultSettings
) -> tuple[Heatmap, ...]:
    found: list[Heatmap] = []
    for method in settings.page_methods:
        try:
            for place, film in enumerate(read.study.films):
                keys = [one.key for one in shown if one.film == film.identifier and one.method != method]
                if keys:
                    found += heatmaps(predictor, read, keys, films=[place], method=method)
        except ModelError as error:
            _LOG.error("no heat maps by %s: %s", method, error)
    return tuple(found)
