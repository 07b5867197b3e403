"""Ablation of the training: the recipe openi-findings, built up one technique at a time.

    .venv/bin/python tests/bench/training_ablation.py --data FOLDER_OF_OPEN_I --run-dir FOLDER

``--epochs`` (3) and ``--size`` (112) set the length of the runs and the image size.

Short runs at a small size, measured on ``val``: enough to compare techniques, far from the released bundle.
Interrupted runs are resumed, finished ones are only read. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import models
from models.data.readers import read_dataset
from models.labels.vocabulary import load_vocabulary
from models.training.fit import fit
from models.training.history import read_history
from models.training.recipe import Recipe, Stage
from models.training.recipe_file import read_recipe

RECIPE = Path(models.__file__).parent / "recipes" / "openi-findings.toml"

#: Lever -> what it changes in the recipe; each row keeps the changes of those above.
LEVERS = (
    ("plain: 35 findings, film by film", {}),
    (
        "MeSH headings and qualifiers with 15 reports; groups, normality, NIH labels",
        {"auxiliary_reports": 15, "beside": ("groups", "normality", "nih")},
    ),
    ("687 NIH films", {"further": True}),
    ("half of the loss on the study's mean", {"study_weight": 0.5}),
    ("alignment with reports", {"alignment": True}),
    ("mixup", {"mixup": 0.4}),
    ("moving average of the weights", {"averaged": True}),
)


def variant(full: Recipe, changes: dict[str, object], stage: Stage) -> Recipe:
    """Plain recipe with some techniques enabled."""
    size = full.preprocessing.model_copy(update={"size": stage.size})
    decay = full.optimizer.average_decay if changes.get("averaged") else 0.0
    optimizer = full.optimizer.model_copy(update={"average_decay": decay})
    augmentation = full.augmentation.model_copy(update={"mixup": changes.get("mixup", 0.0)})
    return full.model_copy(
        update={
            "augmentation": augmentation,
            "also": (),
            "stages": (stage,),
            "preprocessing": size,
            "optimizer": optimizer,
            "auxiliary_reports": changes.get("auxiliary_reports", 0),
            "beside": changes.get("beside", ()),
            "study_weight": changes.get("study_weight", 0.0),
            "further": full.further if changes.get("further") else (),
            "alignment": full.alignment if changes.get("alignment") else None,
        }
    )


def main() -> None:
    """Train the missing variants and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--size", type=int, default=112)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    vocabulary = load_vocabulary()
    full = read_recipe(RECIPE)
    dataset = read_dataset(full.dataset, given.data, vocabulary)
    nih = tuple(read_dataset(entry.dataset, given.data / entry.folder, vocabulary) for entry in full.further)
    changes: dict[str, object] = {}
    print(f"| lever, each on top of those above | macro AUC on val after {given.epochs} epochs | change |")
    print("|---|---|---|")
    before = None
    for number, (name, change) in enumerate(LEVERS):
        changes |= change
        recipe = variant(full, changes, Stage(epochs=given.epochs, size=given.size))
        run = given.run_dir / f"{number}"
        fit(recipe, dataset, vocabulary, run=run, further=nih if recipe.further else ())
        auc = read_history(run)[-1].val_auc
        gain = "" if before is None else f"{auc - before:+.3f}"
        print(f"| {name} | {auc:.3f} | {gain} |", flush=True)
        before = auc


if __name__ == "__main__":
    main()
