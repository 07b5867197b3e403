"""Registry of the heat-map methods, and the function that draws maps with one of them.

The maps that the node sends with its reports are Grad-CAM; the others are for comparison. They need torch,
and two of them captum too, which comes with ``dicom-node[explain]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from models.bundles.predictor import Predictor, StudyPredictor, TracedPrediction
from models.bundles.runtime import NEEDS_TORCH, TORCH
from models.errors import PredictionError, UsageError
from models.explain import gradcam
from models.explain.heatmap import Heatmap
from models.processing.transforms import over_film
from models.processing.types import FloatArray

#: Function of a method: predictor, traced prediction, columns of the logits, positions of films -> maps of
#: shape (findings, films, height, width), on any grid over the whole film, with values of 0 or more.
DrawMaps: TypeAlias = Callable[[Predictor, TracedPrediction, Sequence[int], Sequence[int]], FloatArray]


def _attention(
    predictor: Predictor, traced: TracedPrediction, columns: Sequence[int], films: Sequence[int]
) -> FloatArray:
    from models.explain import attention  # noqa: PLC0415 - torch comes with it

    return attention.draw(predictor, traced, columns, films).cpu().numpy()


def _integrated_gradients(
    predictor: Predictor, traced: TracedPrediction, columns: Sequence[int], films: Sequence[int]
) -> FloatArray:
    from models.explain import attribution  # noqa: PLC0415 - torch comes with it

    return attribution.integrated_gradients(predictor, traced, columns, films).cpu().numpy()


def _occlusion(
    predictor: Predictor, traced: TracedPrediction, columns: Sequence[int], films: Sequence[int]
) -> FloatArray:
    from models.explain import attribution  # noqa: PLC0415 - torch comes with it

    return attribution.occlusion(predictor, traced, columns, films).cpu().numpy()


#: Functions by the name of the method. ``attention`` is for transformers; the others suit every network.
METHODS: dict[str, DrawMaps] = {
    "gradcam": gradcam.draw,
    "attention": _attention,
    "ig": _integrated_gradients,
    "occlusion": _occlusion,
}


GIVEN = "given"
"""Method of a model that draws its maps itself and gives them with its prediction."""


def available_methods(predictor: StudyPredictor) -> tuple[str, ...]:
    """Names of the methods that suit a bundle's network and its runtime."""
    if not isinstance(predictor, Predictor):
        return () if predictor.explanation == "none" else (predictor.explanation,)
    if predictor.runtime != TORCH:
        return () if predictor.session.head_weights() is None else ("gradcam",)
    from models.explain.attention import is_transformer  # noqa: PLC0415 - torch comes with it

    transformer = is_transformer(predictor.network)
    return tuple(name for name in METHODS if name != "attention" or transformer)


def objection(predictor: StudyPredictor, name: str) -> str:
    """Say in one clause why a bundle cannot draw by a method; empty where it can."""
    there = available_methods(predictor)
    if name in there:
        return ""
    if not isinstance(predictor, Predictor):
        draws = "gives its own heat maps alone" if there else "gives no heat maps"
        return f"model {predictor.identity.name} runs elsewhere and {draws}"
    bundle = f"bundle {predictor.identity.name}"
    if predictor.bundle.manifest.graph_alone:
        return f"{bundle} was imported as an ONNX graph and draws {', '.join(there) or 'no heat maps'}"
    if name in METHODS and predictor.runtime != TORCH:
        return f"it needs torch, and {bundle} runs in ONNX Runtime; {NEEDS_TORCH}"
    return f"{bundle} has {', '.join(there)}"


def draw_heatmaps(
    predictor: StudyPredictor,
    traced: TracedPrediction,
    keys: Sequence[str],
    *,
    films: Sequence[int] | None = None,
    method: str | None = None,
) -> tuple[Heatmap, ...]:
    """Draw heat maps of some findings on some films of a study.

    A map holds the evidence *for* the finding, divided by its largest value on that film: the values of two
    findings or two films cannot be compared, and a film without evidence for the finding gets zeros.

    Parameters
    ----------
    predictor
        Predictor that made the prediction.
    traced
        Result of :meth:`models.bundles.predictor.Predictor.trace`.
    keys
        Keys of findings of the bundle.
    films
        Positions in the study; None for all.
    method
        One of :data:`METHODS`, or :data:`GIVEN`; None for the bundle's own.

    Returns
    -------
    tuple of Heatmap
        Maps by finding, in the order of `keys`, then by film; empty for a bundle without maps of its
        own when no method is named. A model that draws its own may leave out some.

    Raises
    ------
    PredictionError
        If the bundle has no finding of a key.
    UsageError
        If there is no such method, it does not suit the network, or captum is not installed.
    """
    columns = {label.key: column for column, label in enumerate(predictor.labels)}
    unknown = [key for key in keys if key not in columns]
    if unknown:
        raise PredictionError(
            f"bundle {predictor.identity.name} has no finding {', '.join(unknown)} to explain"
        )
    name = method or predictor.explanation
    chosen = range(len(traced.study.films)) if films is None else films
    if name == "none" or not keys or not chosen:
        return ()
    if reason := objection(predictor, name):
        raise UsageError(f"method {name}: {reason}")
    if not isinstance(predictor, Predictor):
        return _given_maps(traced, keys, chosen)
    grids = METHODS[name](predictor, traced, [columns[key] for key in keys], chosen)
    maps = []
    for key, rows in zip(keys, grids, strict=True):
        for position, grid in zip(chosen, rows, strict=True):
            film = traced.study.films[position]
            rows_columns = (film.pixels.shape[0], film.pixels.shape[1])
            share = over_film(_shares(grid), rows_columns, predictor.preprocessing.fit)
            maps.append(Heatmap(key, film.identifier, name, share, rows_columns))
    return tuple(maps)


def _given_maps(traced: TracedPrediction, keys: Sequence[str], films: Sequence[int]) -> tuple[Heatmap, ...]:
    maps = []
    for key in keys:
        for position in films:
            film, grid = traced.study.films[position], traced.given[position].get(key)
            if grid is not None:
                shape = (film.pixels.shape[0], film.pixels.shape[1])
                maps.append(Heatmap(key, film.identifier, GIVEN, _shares(grid), shape))
    return tuple(maps)


def _shares(grid: FloatArray) -> FloatArray:
    """Map divided by its largest value."""
    highest = float(grid.max())
    return grid / np.float32(highest) if highest > 0 else grid
