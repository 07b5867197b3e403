"""Check of heat maps before they are shown: a flat map, or one beside the patient's chest, is withheld.

The share of a map on the chest depends on the network, so the smallest accepted share is fitted for each
bundle: all but 1 % of its maps on ``val``, the split of the calibration, reach it. The bundle stores it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import numpy as np

from models.processing.lungs import GRID, BoolArray, find_body, find_lungs, thinned
from models.processing.resampling import resample
from models.processing.types import FloatArray

#: Share of the maps of ``val`` that may fall short.
QUANTILE = 0.01
#: A map whose highest and lowest values differ by less than this is flat.
_FLAT = 1e-3


@dataclass(frozen=True, slots=True)
class MapCheck:
    """Smallest accepted shares of a heat map, and the films that they were fitted to.

    Attributes
    ----------
    dataset, split
        Data set and split of the films; empty for a bundle without fitted shares.
    n_frontal, n_lateral
        Number of maps of each view.
    frontal
        Smallest share of a map, in [0, 1), on the chest (:func:`models.processing.lungs.find_lungs`).
    lateral
        Smallest share on the body, in [0, 1), for a lateral film or an unknown view, which get no estimate of
        lungs.

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
            Heat map, shape (rows, columns) of the film.
        region
            Region of the film, from :func:`region_of` with the same view.
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
        """Text of ``maps.json``."""
        return json.dumps(asdict(self), indent=2) + "\n"


def parse_map_check(text: str) -> MapCheck:
    """Read what :meth:`MapCheck.dump` wrote.

    Raises
    ------
    ValueError
        If the text is not valid JSON, or an entry is missing, unknown or wrong.
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
    """Heat map on the grid of :mod:`models.processing.lungs`; each cell is the mean of its pixels."""
    return resample(thinned(heat), (GRID, GRID))


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
        # Rounded to four decimals, so that the value in the file is the value that is used.
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
