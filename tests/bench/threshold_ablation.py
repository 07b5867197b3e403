"""Ways to choose a threshold, compared on studies that it was not chosen on: halves of ``val``.

    python -m tests.bench.threshold_ablation BUNDLE --data FOLDER_OF_OPEN_I --write

The calibration of the project is fitted to one half and applied to the other, and so are thresholds of the
highest F1 alone and of a quantile alone. Prints a Markdown table of mean F1; ``--write`` writes the figures
and puts the table into its document.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundles.predictor import Predictor
from models.bundles.study_predictions import predict_studies
from models.data.dataset import targets
from models.data.readers import read_dataset
from models.evaluation.metrics import f1
from models.labels.calibration import FEWEST_POSITIVES, LabelCalibration, best_threshold, calibrate
from models.labels.vocabulary import load_vocabulary
from tests.bench.marked_document import measure_bundle, with_passage, write_measured
from tests.support.peers import ROOT

DOCUMENT = ROOT / "docs" / "levers.md"
FIGURES = ROOT / "docs" / "threshold-ablation.json"
COMMAND = "python -m tests.bench.threshold_ablation"
REPEATS = 20
QUANTILE = 0.99
Truth = NDArray[np.bool_]
Scores = NDArray[np.float64]


def released(truth: Truth, scores: Scores) -> LabelCalibration:
    """Calibration as in released bundles."""
    table = calibrate(("label",), truth[:, None], scores[:, None], dataset="openi", split="val")
    return table.labels["label"]


def above(threshold: float) -> Callable[[float], bool]:
    """Function that tells whether a score reaches a threshold."""
    return lambda score: score >= threshold


WAYS: dict[str, Callable[[Truth, Scores], Callable[[float], bool]]] = {
    "highest F1": lambda truth, scores: above(best_threshold(truth, scores)),
    f"{QUANTILE:.0%} quantile": lambda _truth, scores: above(float(np.quantile(scores, QUANTILE))),
    "as released": lambda truth, scores: released(truth, scores).present,
}


def measure(predictor: Predictor, root: Path) -> dict[str, Any]:
    """Mean F1 of each way to choose a threshold, of labels with enough positives and of others."""
    studies = read_dataset("openi", root, load_vocabulary()).split("val")
    truth = targets(studies, tuple(label.key for label in predictor.labels))
    scores = np.array(
        [[entry.score for entry in read.findings] for read in predict_studies(predictor, studies)]
    )
    found: dict[tuple[str, bool], list[float]] = {}
    random = np.random.default_rng(0)
    for _ in range(REPEATS):
        halves = np.array_split(random.permutation(len(scores)), 2)
        for fitted, applied in (halves, halves[::-1]):
            for column in range(truth.shape[1]):
                there, then = truth[fitted, column], truth[applied, column]
                if then.sum() < 2:  # of a single study it is 0 or 1
                    continue
                rare = bool(there.sum() < FEWEST_POSITIVES)
                for name, way in WAYS.items():
                    present = way(there, scores[fitted, column])
                    said = np.array([present(score) for score in scores[applied, column]])
                    found.setdefault((name, rare), []).append(f1(then, said))
    return {
        "bundle": predictor.identity.name,
        "version": predictor.identity.version,
        "studies": len(studies),
        "positives": FEWEST_POSITIVES,
        "thresholds": [
            {
                "way": name,
                "f1": round(float(np.mean(found[name, False])), 4),
                "f1_rare": round(float(np.mean(found[name, True])), 4),
            }
            for name in WAYS
        ],
    }


def table(found: dict[str, Any]) -> list[str]:
    """Lines of the Markdown table."""
    return [
        f"| threshold, n = {found['studies']} | labels with {found['positives']} positives | with fewer |",
        "|---|---|---|",
        *(f"| {row['way']} | {row['f1']:.3f} | {row['f1_rare']:.3f} |" for row in found["thresholds"]),
    ]


def document(text: str, found: dict[str, Any]) -> str:
    """Text of the document with the table."""
    return with_passage(text, COMMAND, table(found))


if __name__ == "__main__":
    measure_bundle(__doc__, measure, table, lambda found: write_measured(found, FIGURES, DOCUMENT, document))
