"""Ablation of inference for a trained bundle: views, aggregation, size, augmentation; on ``val``.

    python -m tests.bench.inference_ablation BUNDLE --data FOLDER_OF_OPEN_I --write

The films that are read, the way their scores are combined, the image size, and test-time augmentation with
shifted copies. Prints a Markdown table; ``--write`` writes the figures and puts the table into its document.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from numpy.typing import NDArray
from torch import Tensor

from models.architectures.interface import Batch
from models.bundles.predictor import Predictor
from models.data.dataset import targets
from models.data.readers import read_dataset
from models.evaluation.metrics import macro_auc
from models.labels.vocabulary import load_vocabulary
from models.training.film_batches import CachedFilms
from tests.bench.marked_document import measure_bundle, with_passage, write_measured
from tests.support.peers import ROOT

DOCUMENT = ROOT / "docs" / "levers.md"
FIGURES = ROOT / "docs" / "inference-ablation.json"
COMMAND = "python -m tests.bench.inference_ablation"
AT_ONCE = 32
Scores = NDArray[np.float64]


def moved(films: Tensor) -> list[Tensor]:
    """Film and four copies, shifted by a thirtieth of its size to each side."""
    shift = films.shape[-1] // 30
    padded = F.pad(films[:, None], (shift,) * 4, mode="replicate")[:, 0]
    places = [(shift, shift), (0, shift), (2 * shift, shift), (shift, 0), (shift, 2 * shift)]
    side = films.shape[-1]
    return [padded[:, row : row + side, column : column + side] for row, column in places]


@torch.inference_mode()
def logits(predictor: Predictor, films: CachedFilms, size: int, *, copies: bool) -> Scores:
    """Logits, one row per film."""
    preprocessing = predictor.preprocessing.resized(size)
    rows = []
    for start in range(0, len(films), AT_ONCE):
        batch = films.films[start : start + AT_ONCE].float()
        answers = [
            predictor.network(Batch(preprocessing.tensor(each))).logits
            for each in (moved(batch) if copies else [batch])
        ]
        rows.append(torch.stack(answers).mean(dim=0))
    return torch.cat(rows).double().numpy()


def by_study(values: Scores, study: NDArray[np.int64], put: Callable[[Scores], Scores]) -> Scores:
    """Rows of the films combined to one row per study."""
    return np.stack([put(values[study == number]) for number in np.unique(study)])


def sigmoid(values: Scores) -> Scores:
    return np.asarray(1 / (1 + np.exp(-values)))


def measure(predictor: Predictor, root: Path) -> dict[str, Any]:
    """Macro AUC on ``val`` of each way to read a study."""
    studies = read_dataset("openi", root, load_vocabulary()).split("val")
    truth = targets(studies, tuple(label.key for label in predictor.labels))
    films = CachedFilms(studies, predictor.preprocessing)
    study = films.study_of.numpy()
    view = np.array([view for each in studies for view in each.views])
    size = predictor.preprocessing.size
    plain = logits(predictor, films, size, copies=False)

    def mean(values: Scores) -> Scores:
        return np.asarray(sigmoid(values).mean(axis=0))

    rows: list[tuple[str, Scores, NDArray[np.int64], Callable[[Scores], Scores]]] = [
        ("mean score of all films (as served)", plain, study, mean),
        ("mean logit of all films", plain, study, lambda values: np.asarray(values.mean(axis=0))),
        ("highest score of all films", plain, study, lambda values: np.asarray(values.max(axis=0))),
        ("frontal films alone", plain[view == "frontal"], study[view == "frontal"], mean),
        ("lateral films alone", plain[view == "lateral"], study[view == "lateral"], mean),
        ("mean of five moved copies", logits(predictor, films, size, copies=True), study, mean),
    ]
    grid = predictor.preprocessing.grid
    if grid != size:
        rows.append((f"read at {grid} pixels", logits(predictor, films, grid, copies=False), study, mean))
    found = []
    for name, values, of, put in rows:
        there = truth[np.unique(of)]
        auc = macro_auc(there, by_study(values, of, put))
        found.append({"reading": name, "studies": len(there), "macro_auc": round(float(auc), 4)})
    return {"bundle": predictor.identity.name, "version": predictor.identity.version, "readings": found}


def table(found: dict[str, Any]) -> list[str]:
    """Lines of the Markdown table."""
    return [
        f"| {found['bundle']} {found['version']} on val | studies | macro AUC |",
        "|---|---|---|",
        *(f"| {row['reading']} | {row['studies']} | {row['macro_auc']:.3f} |" for row in found["readings"]),
    ]


def document(text: str, found: dict[str, Any]) -> str:
    """Text of the document with the table."""
    return with_passage(text, COMMAND, table(found))


if __name__ == "__main__":
    measure_bundle(__doc__, measure, table, lambda found: write_measured(found, FIGURES, DOCUMENT, document))
