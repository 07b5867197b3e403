"""Whether a heat map may be shown: one that is flat, or that lies beside the patient's chest, is withheld.

How much of a map lies on the chest depends on the network, so that the least share is fitted for each bundle:
it is what all but one in a hundred of the maps reach that it draws on films that no choice was made on but
calibration, ``val``. It travels in the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np
import torch

from models.processing.lungs import GRID, BoolArray, find_body, find_lungs, thinned
from models.processing.transforms import resample
from models.processing.types import FloatArray

#: Of the maps of ``val``, that may fall short.
QUANTILE = 0.01
#: A map between whose highest and lowest values lies less than this says nothing.
_FLAT = 1e-3


@dataclass(frozen=True, slots=True)
class MapCheck:
    """Least shares, and what they were fitted to.

    Attributes
    ----------
    dataset, split
        Of the films; empty for a bundle whose maps were never looked at.
    n_frontal, n_lateral
        Maps of each view.
    frontal
        Least share of a map, in [0, 1], on the chest (:func:`models.processing.lungs.find_lungs`).
    lateral
        Least share on the body: on a lateral film, or one of unknown view, there is no such estimate.

    Raises
    ------
    ValueError
        If a share or a number is out of range.
    """

    dataset: str = ""
    split: str = ""
    n_frontal: int = 0
    n_lateral: int = 0
    frontal: float = 0.0
    lateral: float = 0.0

    def __post_init__(self) -> None:
        shares, numbers = (self.frontal, self.lateral), (self.n_frontal, self.n_lateral)
        if not all(type(share) is float and 0 <= share < 1 for share in shares):
            raise ValueError(f"least shares {shares} are not within 0 and 1")
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"numbers of maps {numbers} are no whole numbers of 0 or more")

    def objection(self, heat: FloatArray, region: BoolArray, view: str) -> str:
        """Say why a map is withheld, in one clause; empty when it may be shown.

        Parameters
        ----------
        heat
            Shape (rows, columns) of the film.
        region
            Of the film, from :func:`region_of` with the same view.
        view
            ``frontal``, ``lateral`` or empty.
        """
        if float(heat.max()) - float(heat.min()) < _FLAT:
            return "it is flat"
        least = self.frontal if view == "frontal" else self.lateral
        share = share_inside(heat, region)
        if share >= least:
            return ""
        place = "chest" if view == "frontal" else "body"
        return (
            f"{100 * share:.0f} % of it lies on the {place}, less than the {100 * least:.0f} % of all but "
            f"{100 * QUANTILE:.0f} % of the maps of {self.dataset} {self.split}"
        )

    def dump(self) -> str:
        """As the text of ``maps.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"


def parse_map_check(text: str) -> MapCheck:
    """Read what :meth:`MapCheck.dump` wrote.

    Raises
    ------
    ValueError
        If it is no such text, or an entry is missing, unknown or wrong.
    """
    try:
        return MapCheck(**json.loads(text))
    except TypeError as error:
        raise ValueError(f"missing or unknown entry: {error}") from error


def region_of(pixels: FloatArray, view: str) -> BoolArray:
    """Chest of a frontal film, body of another; shape (GRID, GRID)."""
    return find_lungs(pixels).chest if view == "frontal" else find_body(pixels)


def share_inside(heat: FloatArray, region: BoolArray) -> float:
    """Share of a map's energy in a region of shape (GRID, GRID); 0 for a map of zeros."""
    cells = coarse(heat)
    return float(cells[region].sum() / max(float(cells.sum()), 1e-12))


def coarse(heat: FloatArray) -> FloatArray:
    """A map on the grid of :mod:`models.processing.lungs`, each cell the mean of what it covers."""
    cells: FloatArray = resample(torch.from_numpy(thinned(heat))[None, None], (GRID, GRID))[0, 0].numpy()
    return cells


def fit_map_check(shares: Iterable[tuple[str, float]], *, dataset: str, split: str) -> MapCheck:
    """Fit the least shares.

    Parameters
    ----------
    shares
        View of the film and :func:`share_inside` of each map.
    """
    found: dict[str, list[float]] = {"frontal": [], "lateral": []}
    for view, share in shares:
        found["frontal" if view == "frontal" else "lateral"].append(share)
    least = {
        # To four places: what is written is what is compared with.
        view: min(0.9999, float(np.floor(1e4 * np.quantile(values, QUANTILE)) / 1e4)) if values else 0.0
        for view, values in found.items()
    }
    return MapCheck(
        dataset,
        split,
        n_frontal=len(found["frontal"]),
        n_lateral=len(found["lateral"]),
        frontal=least["frontal"],
        lateral=least["lateral"],
    )
