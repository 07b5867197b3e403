"""Where a model looked: one map for a finding on a film, in the film's own rows and columns.

The logits are linear in the averaged features, so the gradient that Grad-CAM (Selvaraju et al. 2017) averages
is a row of the head's weights, and a map costs one product with features that the prediction left behind.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from models.errors import PredictionError
from models.predictor import Predictor, Reading
from models.transforms import to_source
from models.types import Heatmap


def heatmaps(
    predictor: Predictor, reading: Reading, keys: Sequence[str], *, films: Sequence[int] | None = None
) -> tuple[Heatmap, ...]:
    """Draw maps of some findings on some films of a reading.

    The map is what speaks *for* the finding (ReLU), divided by its largest value on that film: maps of two
    findings or two films cannot be compared in height, and a film with nothing for the finding gets zeros.

    Parameters
    ----------
    predictor
        That made the reading.
    reading
        From :meth:`models.predictor.Predictor.read`.
    keys
        Findings, any of the bundle's.
    films
        Positions in the study; None for all.

    Returns
    -------
    tuple of Heatmap
        Finding by finding, in the order of `keys`, and film by film; empty for a bundle without maps.

    Raises
    ------
    PredictionError
        If a key is none of the bundle's.
    """
    columns = {label.key: column for column, label in enumerate(predictor.labels)}
    unknown = [key for key in keys if key not in columns]
    if unknown:
        raise PredictionError(
            f"bundle {predictor.identity.name} has no finding {', '.join(unknown)} to explain"
        )
    if predictor.explanation == "none" or reading.features is None:
        return ()
    chosen = range(len(reading.study.films)) if films is None else films
    head = predictor.network.head.weight.detach().cpu()
    maps = []
    for key in keys:
        for position in chosen:
            grid = torch.einsum("c,chw->hw", head[columns[key]], reading.features[position]).clamp(min=0)
            film = reading.study.films[position]
            rows, columns_of_film = film.pixels.shape
            values = to_source(grid / grid.max().clamp(min=1e-12), (rows, columns_of_film))
            maps.append(Heatmap(key, film.identifier, predictor.explanation, values))
    return tuple(maps)
