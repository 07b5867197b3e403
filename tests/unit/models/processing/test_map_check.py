"""Where the lungs are, and which maps are withheld."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from models.bundles.bundle import MAPS, Bundle, amend_bundle, read_bundle
from models.errors import BundleError
from models.processing.lungs import GRID, find_body, find_lungs
from models.processing.map_check import (
    MapCheck,
    coarse,
    fit_map_check,
    parse_map_check,
    region_of,
    share_inside,
)
from tests.support.factories import chest

FITTED = MapCheck("drawn", "val", 90, 40, 0.3, 0.6)


def ellipses(rows: int, columns: int) -> np.ndarray:
    """The lungs that :func:`tests.support.factories.chest` draws."""
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    return np.minimum(*(((x - cx) / 0.33) ** 2 + ((y + 0.05) / 0.68) ** 2 for cx in (-0.45, 0.45))) < 1


@pytest.mark.parametrize("seed", range(3))
def test_the_lungs_of_a_drawn_chest_are_found(seed: int):
    film = chest(300, 260, seed=seed)
    found = find_lungs(film)
    # Without the heart, which is drawn over the left lung.
    truth = ellipses(GRID, GRID) & (np.asarray(chest(GRID, GRID, seed=seed)) < 0.45)
    dice = 2 * (found.lungs & truth).sum() / (found.lungs.sum() + truth.sum())
    assert dice > 0.85
    assert found.guessed == 0
    assert (found.chest | ~found.lungs).all(), "the chest holds the lungs"
    assert found.chest[GRID // 2, GRID // 2 - 4 : GRID // 2 + 4].all(), "and what is between them"
    assert not found.chest[:, 0].any()


def test_a_film_without_lungs_gets_the_usual_place():
    noise = np.random.default_rng(0).uniform(0.4, 0.6, (640, 640)).astype(np.float32)
    found = find_lungs(noise)
    assert found.guessed == 2
    assert 0.1 < found.lungs.mean() < 0.4
    assert np.array_equal(found.lungs, found.lungs[:, ::-1])


def test_the_body_is_more_than_air_at_the_edge():
    film = np.zeros((128, 128), np.float32)
    film[20:, 40:100] = 0.6
    film[60:80, 60:80] = 0.02  # air in the body is no air around it
    body = find_body(film)
    assert body[40, 25]
    assert body[35, 35]
    assert not body[:, :14].any()
    assert not body[:8].any()


def test_a_share_is_that_of_the_energy():
    heat = np.zeros((200, 100), np.float32)
    heat[:100] = 0.3
    heat[100:] = 0.1
    region = np.zeros((GRID, GRID), bool)
    region[: GRID // 2] = True
    assert share_inside(heat, region) == pytest.approx(0.75)
    assert share_inside(np.zeros_like(heat), region) == 0
    assert coarse(heat).shape == (GRID, GRID)


def spot(row: float, column: float) -> np.ndarray:
    y, x = np.mgrid[0:1:200j, 0:1:180j]
    return np.exp(-((y - row) ** 2 + (x - column) ** 2) / 0.002).astype(np.float32)


def test_a_map_beside_the_chest_is_withheld_with_its_share():
    film = chest(200, 180)
    region = region_of(film, "frontal")
    assert FITTED.objection(spot(0.5, 0.7), region, "frontal") == ""
    said = FITTED.objection(spot(0.03, 0.97), region, "frontal")
    assert said.startswith(
        "0 % of it lies on the chest, less than the 30 % of all but 1 % of the maps of drawn"
    )


def test_a_flat_map_is_withheld_also_by_a_bundle_without_a_fitted_check():
    region = region_of(chest(200, 180), "")
    for flat in (np.zeros((200, 180), np.float32), np.full((200, 180), 0.7, np.float32)):
        assert MapCheck().objection(flat, region, "") == "it is flat"
    assert MapCheck().objection(spot(0.03, 0.97), region, "frontal") == ""


def test_the_least_share_is_what_all_but_one_in_a_hundred_reach():
    shares = [("frontal", share) for share in np.linspace(0.4, 0.9, 201)]
    found = fit_map_check([*shares, ("lateral", 0.8), ("", 0.7)], dataset="drawn", split="val")
    assert (found.n_frontal, found.n_lateral) == (201, 2)
    assert sum(share < found.frontal for _, share in shares) == 2
    assert 0.7 <= found.lateral < 0.71
    assert parse_map_check(found.dump()) == found


def test_nothing_fitted_withholds_nothing():
    assert fit_map_check([], dataset="drawn", split="val").frontal == 0


def test_the_check_travels_in_the_bundle(bundle: Bundle):
    assert bundle.map_check == MapCheck()
    amended = amend_bundle(bundle, {MAPS: FITTED.dump()})
    assert amended.map_check == read_bundle(bundle.path).map_check == FITTED
    assert amended.identity == bundle.identity, "no score depends on it"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frontal": 1.5}, "not within 0 and 1"),
        ({"n_frontal": -1}, "no whole numbers"),
        ({"sideways": 0.5}, "unknown entry"),
    ],
)
def test_a_check_that_is_none_is_refused(bundle: Bundle, changes: dict[str, float], message: str):
    text = json.dumps({**json.loads(FITTED.dump()), **changes})
    with pytest.raises(BundleError, match=f"{MAPS}: .*{message}"):
        amend_bundle(bundle, {MAPS: text})


def test_an_altered_check_is_refused(bundle: Bundle):
    amend_bundle(bundle, {MAPS: FITTED.dump()})
    path = Path(bundle.path) / MAPS
    path.write_text(path.read_text().replace("0.3", "0.2"))
    with pytest.raises(BundleError, match=MAPS):
        read_bundle(bundle.path)
