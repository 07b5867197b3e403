"""Registry of the heat-map methods, and the function that draws maps with one of them.

The maps that the node sends with its reports are Grad-CAM; the others are for comparison, and two of them
need captum, which comes with ``dicom-node[explain]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor

from models.bundles.predictor import Predictor, TracedPrediction
from models.errors import PredictionError, UsageError
from models.explain import attention, attribution, gradcam
from models.explain.heatmap import Heatmap

#: Function of a method: predictor, traced prediction, columns of the logits, positions of films -> maps of
#: shape (findings, films, height, width), on any grid over the whole film, with values of 0 or more.
DrawMaps: TypeAlias = Callable[[Predictor, TracedPrediction, Sequence[int], Sequence[int]], Tensor]

#: Functions by the name of the method. ``attention`` is for transformers; the others suit every network.
METHODS: dict[str, DrawMaps] = {
    "gradcam": gradcam.draw,
    "attention": attention.draw,
    "ig": attribution.integrated_gradients,
    "occlusion": attribution.occlusion,
}


def available_methods(predictor: Predictor) -> tuple[str, ...]:
    """Names of the methods that suit a bundle's network."""
    transformer = attention.is_transformer(predictor.network)
    return tuple(name for name in METHODS if name != "attention" or transformer)


def draw_heatmaps(
    predictor: Predictor,
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
        One of :data:`METHODS`; None for the bundle's own.

    Returns
    -------
    tuple of Heatmap
        Maps by finding, in the order of `keys`, then by film; empty for a bundle without maps of its
        own when no method is named.

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
    if name not in available_methods(predictor):
        known = "" if name in METHODS else "there is no such method; "
        raise UsageError(
            f"method {name}: {known}bundle {predictor.identity.name} has "
            f"{', '.join(available_methods(predictor))}"
        )
    grids = METHODS[name](predictor, traced, [columns[key] for key in keys], chosen).cpu()
    maps = []
    for key, rows in zip(keys, grids, strict=True):
        for position, grid in zip(chosen, rows, strict=True):
            film = traced.study.films[position]
            highest = float(grid.max())
            share = (grid / highest if highest > 0 else grid).numpy()
            rows_columns = (film.pixels.shape[0], film.pixels.shape[1])
            maps.append(Heatmap(key, film.identifier, name, share, rows_columns))
    return tuple(maps)
