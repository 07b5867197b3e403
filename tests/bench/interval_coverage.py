"""Coverage of the 95 % interval of a certainty: how often it holds the true probability.

Scores are drawn, and truths from a known curve over them; each calibration has as many studies as Open-i
`val`. Run by ``python -m tests.bench.interval_coverage``.
"""

from __future__ import annotations

import math

import numpy as np
from rich.console import Console
from rich.table import Table

from models.labels.calibration import calibrate
from tests.support.prediction_samples import calibration_sample

STUDIES = 302
CALIBRATIONS = 800
CURVES = ((1.2, -0.4), (1.0, 0.3), (0.7, -0.5), (1.6, 0.5))
SCORES = (0.02, 0.05, 0.2, 0.5)


def main() -> None:
    """Print coverage and positives of each curve."""
    table = Table("slope, intercept", "positives", *(f"score {score}" for score in SCORES))
    for slope, intercept in CURVES:
        held = np.zeros(len(SCORES))
        positives = []
        for seed in range(CALIBRATIONS):
            truth, scores = calibration_sample(STUDIES, slope, intercept, seed)
            positives.append(int(truth.sum()))
            found = calibrate(("normal",), truth[:, None], scores[:, None], dataset="drawn", split="val")
            for place, score in enumerate(SCORES):
                right = 1 / (1 + math.exp(-(slope * math.log(score / (1 - score)) + intercept)))
                low, high = found.labels["normal"].interval(score) or (1.0, 0.0)
                held[place] += low <= right <= high
        shares = (f"{share:.3f}" for share in held / CALIBRATIONS)
        table.add_row(f"{slope}, {intercept}", f"{np.median(positives):.0f}", *shares)
    Console().print(table)


if __name__ == "__main__":
    main()
