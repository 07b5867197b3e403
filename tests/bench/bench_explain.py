"""Time that heat maps add to the analysis of a film, with the default bundle on the CPU.

The baseline is the analysis itself, from pixels to scores, in the same process; the maps are those that the
node draws, with the same checks.
"""

from __future__ import annotations

import numpy as np
import pytest

from dicom_node.config.sections import ResultSettings, WorkerSettings
from models.bundles.predictor import Predictor
from models.explain.methods import draw_heatmaps
from models.processing.map_check import region_of
from models.processing.types import Film, Study
from tests.support import factories
from tests.support.benchmarks import Record, Target, few, seconds_of

SIDES = {"256 x 256": (256, 256), "2048 x 2048": (2048, 2048)}
RUNS = few(15, 3)
FEW = few(3, 1)
"""Runs of what takes seconds."""
TARGET = Target("at most", 0.25, "ratio")


@pytest.mark.parametrize("name", SIDES)
def test_maps_beside_reading(name: str, record: Record) -> None:
    predictor = Predictor.load(WorkerSettings().bundle)
    study = Study((Film("film", np.array(factories.chest(*SIDES[name]))),))
    keys = [label.key for label in predictor.labels][1 : 1 + ResultSettings().saliency_limit]
    (reading,) = predictor.trace([study])
    pixels = study.films[0].pixels

    def draw() -> None:
        region = region_of(pixels, "frontal")
        for one in draw_heatmaps(predictor, reading, keys):
            predictor.bundle.map_check.objection(one.preview, region, "frontal")

    read, drawn = (seconds_of(work, RUNS) for work in (lambda: predictor.trace([study]), draw))
    record(
        f"{len(keys)} heat maps and their check, {name}",
        "ms",
        [1000 * each for each in drawn],
        peer="reading the film",
        peer_samples=[1000 * each for each in read],
        target=TARGET,
    )


@pytest.mark.parametrize("method", ["ig", "occlusion"])
@pytest.mark.parametrize("count", [1, 8])
def test_slow_methods_beside_reading(method: str, count: int, record: Record) -> None:
    predictor = Predictor.load(WorkerSettings().bundle)
    study = Study((Film("film", np.array(factories.chest(2048, 2048))),))
    keys = [label.key for label in predictor.labels][1 : 1 + count]
    (reading,) = predictor.trace([study])
    read = seconds_of(lambda: predictor.trace([study]), RUNS)
    drawn = seconds_of(lambda: draw_heatmaps(predictor, reading, keys, method=method), FEW)
    record(
        f"{count} heat map{'s' * (count > 1)} by {method}",
        "s",
        drawn,
        peer="reading the film",
        peer_samples=read,
    )
