"""Time that heat maps add to the analysis of a film, with the default bundle on the CPU.

The baseline is the analysis itself, from pixels to scores, in the same process; the maps are those that the
node draws, with the same checks.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest

from dicom_node.config.sections import ResultSettings, WorkerSettings
from models.bundles.predictor import Predictor
from models.explain.methods import draw_heatmaps
from models.processing.map_check import region_of
from models.processing.types import Film, Study
from tests.support import factories

SIDES = {"256 x 256": (256, 256), "2048 x 2048": (2048, 2048)}
RUNS = 15
FEW = 3
"""Runs of what takes seconds."""
TARGET = 0.25


def median(work: Callable[[], object], runs: int = RUNS) -> float:
    """Median seconds of a run, after one warm-up run."""
    work()
    seconds = []
    for _ in range(runs):
        before = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - before)
    return statistics.median(seconds)


@pytest.mark.parametrize("name", SIDES)
def test_maps_beside_reading(name: str) -> None:
    predictor = Predictor.load(WorkerSettings().bundle)
    study = Study((Film("film", np.array(factories.chest(*SIDES[name]))),))
    keys = [label.key for label in predictor.labels][1 : 1 + ResultSettings().saliency_limit]
    (reading,) = predictor.trace([study])
    pixels = study.films[0].pixels

    def draw() -> None:
        region = region_of(pixels, "frontal")
        for one in draw_heatmaps(predictor, reading, keys):
            predictor.bundle.map_check.objection(one.preview, region, "frontal")

    read, drawn = median(lambda: predictor.trace([study])), median(draw)
    print(
        f"\n{name}: read {1000 * read:.1f} ms, {len(keys)} maps {1000 * drawn:.1f} ms, "
        f"ratio {drawn / read:.2f}, target {TARGET}"
    )


@pytest.mark.parametrize("method", ["ig", "occlusion"])
@pytest.mark.parametrize("count", [1, 8])
def test_slow_methods_beside_reading(method: str, count: int) -> None:
    predictor = Predictor.load(WorkerSettings().bundle)
    study = Study((Film("film", np.array(factories.chest(2048, 2048))),))
    keys = [label.key for label in predictor.labels][1 : 1 + count]
    (reading,) = predictor.trace([study])
    read = median(lambda: predictor.trace([study]))
    drawn = median(lambda: draw_heatmaps(predictor, reading, keys, method=method), FEW)
    print(f"\n{method}, {count} maps of a film: {drawn:.2f} s, ratio to reading {drawn / read:.0f}")
