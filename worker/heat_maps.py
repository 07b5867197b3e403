"""Heat maps of a study: those of the report, and those of the other findings for the reading room."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from models.bundles.predictor import StudyPredictor, TracedPrediction
from models.explain.heatmap import Heatmap
from models.explain.methods import draw_heatmaps
from models.explain.targets import NORMAL, best_film, reported_findings
from models.processing.map_check import region_of


@dataclass(frozen=True, slots=True)
class StudyHeatMaps:
    """Heat maps of the findings of one study, each on the film where its finding scores highest.

    Attributes
    ----------
    reported
        Maps of the most certain present findings, in that order: for the report, its pictures and the page.
    withheld
        Reason why a map of those is not shown, by the key of its finding.
    others
        Maps of all other findings, for readers who ask for them; in no object.
    """

    reported: tuple[Heatmap, ...]
    withheld: Mapping[str, str]
    others: tuple[Heatmap, ...]


def draw_study_heat_maps(
    predictor: StudyPredictor, read: TracedPrediction, views: Mapping[str, str], limit: int
) -> StudyHeatMaps:
    """Draw the heat maps of a study, and check each of them.

    The other findings have maps only where a map is one product with features that are there already
    (:mod:`models.explain.gradcam`): some thirty of them take a few milliseconds.

    Parameters
    ----------
    predictor
        Model that read the study.
    read
        Study and prediction.
    views
        View of each film by its identifier.
    limit
        Largest number of maps in the report; with 0 no map is drawn at all.
    """
    reported = reported_findings(read.prediction, limit)
    closed = read.features is not None and predictor.session.head_weights() is not None
    others = [
        entry.key
        for entry in read.prediction.findings
        if limit and closed and entry.key not in reported and entry.key != NORMAL
    ]
    shown: dict[str, Heatmap] = {}
    withheld: dict[str, str] = {}
    for heatmap, objection in _checked(predictor, read, views, reported, others):
        if not objection:
            shown[heatmap.key] = heatmap
        elif heatmap.key in reported:
            withheld[heatmap.key] = objection
    return StudyHeatMaps(
        tuple(shown[key] for key in reported if key in shown),
        withheld,
        tuple(shown[key] for key in others if key in shown),
    )


def _checked(
    predictor: StudyPredictor,
    read: TracedPrediction,
    views: Mapping[str, str],
    reported: Sequence[str],
    others: Sequence[str],
) -> Iterator[tuple[Heatmap, str]]:
    """Draw the maps film by film; yields each with what its check says against it."""
    by_film: dict[int, list[str]] = {}
    for key in (*reported, *others):
        by_film.setdefault(best_film(read.prediction, key), []).append(key)
    check = predictor.map_check
    for position, keys in by_film.items():
        film = read.study.films[position]
        view = views[film.identifier]
        region = region_of(film.pixels, view)
        for heatmap in draw_heatmaps(predictor, read, keys, films=[position]):
            # A map for the page alone is checked as it is kept: on its own grid.
            heat = heatmap.preview if heatmap.key in reported else heatmap.grid
            yield heatmap, check.objection(heat, region, view)
