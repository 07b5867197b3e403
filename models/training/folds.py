"""Number of training epochs, found by cross-validation over the patients.

Each fold of ``train`` and ``val`` is left out once, a network is trained on the rest, and its AUC on the fold
is recorded after each epoch. The bundle is trained up to the epoch with the highest mean AUC; ``test`` is not
used.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from models.data.dataset import FilmDataset
from models.errors import RecipeError
from models.labels.vocabulary import Vocabulary
from models.training.fit import fit
from models.training.hardware import TrainingHardware
from models.training.history import read_history
from models.training.recipe import Recipe

FILE = "folds.json"


def split_folds(dataset: FilmDataset, count: int, *, seed: int) -> tuple[FilmDataset, ...]:
    """Cut ``train`` and ``val`` into folds; all studies of a patient are in one.

    Returns
    -------
    tuple of FilmDataset
        Each with one fold as ``val`` and the others as ``train``.

    Raises
    ------
    RecipeError
        If there are fewer patients than folds.
    """
    studies = (*dataset.split("train"), *dataset.split("val"))
    patients = sorted({study.patient for study in studies})
    if len(patients) < count:
        raise RecipeError(f"[folds]: {dataset.name} has {len(patients)} patients, too few for {count} folds")
    order = np.random.default_rng(seed).permutation(len(patients))
    fold_of = {patients[number]: place % count for place, number in enumerate(order)}
    return tuple(
        FilmDataset(
            dataset.name,
            dataset.title,
            dataset.terms,
            {
                "train": tuple(study for study in studies if fold_of[study.patient] != fold),
                "val": tuple(study for study in studies if fold_of[study.patient] == fold),
            },
        )
        for fold in range(count)
    )


def search_epochs(
    recipe: Recipe,
    dataset: FilmDataset,
    vocabulary: Vocabulary,
    *,
    run: Path,
    further: tuple[FilmDataset, ...] = (),
    engine: TrainingHardware | None = None,
    say: Callable[[str], None] = lambda _line: None,
    **options: Any,
) -> int:
    """Train every fold and pick the epoch; an interrupted search is resumed.

    Parameters
    ----------
    run
        Folder for the runs of the folds and for the result, ``folds.json``.
    say
        Function that receives a line on the outcome of each fold.
    options
        Further arguments of :func:`models.training.fit.fit`.

    Returns
    -------
    int
        Number of epochs, from 1 to that of the recipe.

    Raises
    ------
    ModelError
        As :func:`models.training.fit.fit`.
    """
    if recipe.folds is None:
        return recipe.epochs
    alone = recipe.model_copy(update={"folds": None, "patience": 0})
    curves = []
    for number, fold in enumerate(split_folds(dataset, recipe.folds.count, seed=recipe.seed), start=1):
        folder = run / f"fold-{number}"
        fit(alone, fold, vocabulary, run=folder, further=further, engine=engine, **options)
        curves.append([epoch.val_auc for epoch in read_history(folder)])
        say(f"fold {number} of {recipe.folds.count}: best AUC {max(curves[-1]):.3f}")
    mean = np.mean(curves, axis=0)
    best = int(mean.argmax()) + 1
    found = {"epochs": best, "mean_auc": mean.tolist(), "fold_auc": curves}
    (run / FILE).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return best
