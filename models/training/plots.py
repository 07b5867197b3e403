"""Pictures of a run: how it learnt, and what there was to learn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.data.dataset import SPLITS, FilmDataset
from models.training.history import Epoch

LEARNING_CURVES = "learning-curves.png"
CLASS_DISTRIBUTION = "class-distribution.png"


def draw_learning_curves(history: Sequence[Epoch], path: Path) -> None:
    """Losses above, validation AUC below, by epoch."""
    figure = Figure(figsize=(7, 6), layout="constrained")
    losses, aucs = figure.subplots(2, 1, sharex=True)
    epochs = [row.epoch for row in history]
    losses.plot(epochs, [row.loss for row in history], label="train, last batch", color="tab:gray")
    losses.plot(epochs, [row.val_loss for row in history], label="val", color="tab:blue")
    losses.set_ylabel("loss")
    losses.legend()
    aucs.plot(epochs, [row.val_auc for row in history], color="tab:blue", marker="o", markersize=3)
    aucs.set_ylabel("macro AUC on val")
    aucs.set_xlabel("epoch")
    aucs.xaxis.get_major_locator().set_params(integer=True)
    _save(figure, path)


def draw_class_distribution(dataset: FilmDataset, keys: Sequence[str], path: Path) -> None:
    """Positive studies of each label by split, on a logarithmic axis."""
    splits = [split for split in SPLITS if dataset.studies.get(split)]
    figure = Figure(figsize=(8, max(2.5, 0.28 * len(keys) + 1)), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / max(1, len(splits))
    for offset, split in enumerate(splits):
        studies = dataset.studies[split]
        counts = [sum(key in study.keys for study in studies) for key in keys]
        places = [row + offset * height for row in range(len(keys))]
        axes.barh(places, counts, height, label=f"{split} ({len(studies)})")
    axes.set_yticks([row + 0.4 - height / 2 for row in range(len(keys))], keys)
    axes.invert_yaxis()
    axes.set_xscale("symlog", linthresh=1)
    axes.set_xlabel("positive studies")
    axes.legend()
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure).print_figure(path, dpi=120)
