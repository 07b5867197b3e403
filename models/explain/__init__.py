"""Where a model looked: one map for a finding on a film, in the film's own rows and columns.

What a method is called and the function that draws it stand in one table. The maps that the node sends
with its reports are Grad-CAM; the others are for comparison, and two of them need captum, which comes with
``dicom-node[explain]``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor

from models.bundles.predictor import Predictor, Reading
from models.errors import PredictionError, UsageError
from models.explain import attention, attribution, gradcam
from models.explain.heatmap import Heatmap

#: Predictor, reading, columns of the logits, positions of films -> maps of shape (findings, films, height,
#: width) on any grid over the whole film, 0 or more.
Draw: TypeAlias = Callable[[Predictor, Reading, Sequence[int], Sequence[int]], Tensor]

#: Method -> function. ``attention`` is for transformers; the others are for every network.
METHODS: dict[str, Draw] = {
    "gradcam": gradcam.draw,
    "attention": attention.draw,
    "ig": attribution.integrated_gradients,
    "occlusion": attribution.occlusion,
}


def methods_of(predictor: Predictor) -> tuple[str, ...]:
    """Methods that a bundle's network has."""
    transformer = attention.is_transformer(predictor.network)
    return tuple(name for name in METHODS if name != "attention" or transformer)


def heatmaps(
    predictor: Predictor,
    reading: Reading,
    keys: Sequence[str],
    *,
    films: Sequence[int] | None = None,
    method: str | None = None,
) -> tuple[Heatmap, ...]:
    """Draw maps of some findings on some films of a reading.

    The map is what speaks *for* the finding, divided by its largest value on that film: maps of two findings
    or two films cannot be compared in height, and a film with nothing for the finding gets zeros.

    Parameters
    ----------
    predictor
        That made the reading.
    reading
        From :meth:`models.bundles.predictor.Predictor.read`.
    keys
        Findings, any of the bundle's.
    films
        Positions in the study; None for all.
    method
        Of :data:`METHODS`; None for the bundle's own.

    Returns
    -------
    tuple of Heatmap
        Finding by finding, in the order of `keys`, and film by film; empty for a bundle without maps of its
        own when no method is named.

    Raises
    ------
    PredictionError
        If a key is none of the bundle's.
    UsageError
        If there is no such method, the network does not have it, or what it needs is not installed.
    """
    columns = {label.key: column for column, label in enumerate(predictor.labels)}
    unknown = [key for key in keys if key not in columns]
    if unknown:
        raise PredictionError(
            f"bundle {predictor.identity.name} has no finding {', '.join(unknown)} to explain"
        )
    name = method or predictor.explanation
    chosen = range(len(reading.study.films)) if films is None else films
    if name == "none" or not keys or not chosen:
        return ()
    if name not in methods_of(predictor):
        known = "" if name in METHODS else "there is no such method; "
        raise UsageError(
            f"method {name}: {known}bundle {predictor.identity.name} has {', '.join(methods_of(predictor))}"
        )
    grids = METHODS[name](predictor, reading, [columns[key] for key in keys], chosen).cpu()
    maps = []
    for key, rows in zip(keys, grids, strict=True):
        for position, grid in zip(chosen, rows, strict=True):
            film = reading.study.films[position]
            highest = float(grid.max())
            share = (grid / highest if highest > 0 else grid).numpy()
            rows_columns = (film.pixels.shape[0], film.pixels.shape[1])
            maps.append(Heatmap(key, film.identifier, name, share, rows_columns))
    return tuple(maps)
