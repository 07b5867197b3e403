"""``train`` and ``evaluate`` of a gate; the commands themselves are in ``train.py`` and ``evaluate.py``.

Heavy libraries are imported inside the functions, because the root command imports what these import.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from models.data.dataset import FilmDataset
    from models.training.recipe import GateRecipe

#: Beside the films: pictures that are no chest films.
NEGATIVES = "negatives"


def train_gate(
    recipe: GateRecipe, datasets: tuple[FilmDataset, ...], data: Path, path: Path, *, threads: int | None
) -> None:
    """Fit a gate, measure it on ``test`` and on what it was not fitted to, and write its card.

    Parameters
    ----------
    data
        Folder of the first data set.
    path
        Of the gate.
    """
    import torch

    from models.bundles.manifest import CARD, METRICS
    from models.gate.card import write_gate_card
    from models.gate.evaluate import measure_gate
    from models.gate.fit import fit_gate
    from models.gate.model import amend_gate
    from models.gate.negatives import read_negatives

    if threads is not None:
        torch.set_num_threads(threads)
    fitted, held_out = read_negatives(data / recipe.negatives.folder).split(recipe.negatives.held_out)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        reading = progress.add_task("reading films", total=None)
        gate = fit_gate(
            recipe,
            datasets,
            fitted,
            path=path,
            progress=lambda done, total: progress.update(reading, completed=done, total=total),
        )
        measuring = progress.add_task("measuring", total=None)
        metrics = measure_gate(
            gate,
            datasets,
            held_out,
            progress=lambda done, total: progress.update(measuring, completed=done, total=total),
        )
    metrics["fitted_to"] = fitted.counts()
    files = {METRICS: json.dumps(metrics, indent=2) + "\n", CARD: write_gate_card(gate, metrics)}
    amend_gate(path, gate.manifest, files)
    show(metrics)


def is_gate(name_or_path: str) -> bool:
    """Whether a gate has this name."""
    from models.bundles.shipped import find_folder
    from models.errors import BundleError
    from models.gate.model import MANIFEST

    try:
        find_folder(name_or_path, MANIFEST)
    except BundleError:
        return False
    return True


def measured(name_or_path: str, dataset: FilmDataset, root: Path, split: str) -> dict[str, Any]:
    """Measure a gate on films, drawings, and the negatives beside the films that it was not fitted to."""
    from models.gate.evaluate import measure_gate
    from models.gate.model import Gate
    from models.gate.negatives import Negatives, read_negatives

    gate = Gate.load(name_or_path)
    negatives = None
    if (root / ".." / NEGATIVES).is_dir():
        sources = read_negatives(root / ".." / NEGATIVES).sources
        negatives = Negatives(
            {source: files for source, files in sources.items() if source not in gate.manifest.fitted_to}
        )
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading films", total=None)
        return measure_gate(
            gate,
            [dataset],
            negatives,
            split=split,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def show(metrics: dict[str, Any]) -> None:
    """Print the shares."""
    from models.gate.card import tables

    typer.echo("RESEARCH USE ONLY: not for diagnosis")
    for table in tables(metrics):
        typer.echo("\n" + table)
