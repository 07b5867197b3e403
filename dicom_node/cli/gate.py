"""Training and evaluation of a gate, for the commands ``train`` and ``evaluate``.

Heavy libraries are imported inside the functions: the root command imports this module at every start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import Progress

from dicom_node.cli.output import Terminal

if TYPE_CHECKING:
    from models.data.dataset import FilmDataset
    from models.training.recipe import GateRecipe

NEGATIVES = "negatives"
"""Folder beside the data set, with images that are no chest radiographs."""


def train_gate(
    recipe: GateRecipe, datasets: tuple[FilmDataset, ...], data: Path, path: Path, *, threads: int | None
) -> None:
    """Fit a gate, measure it on ``test`` and on held-out negatives, and write its model card.

    Parameters
    ----------
    recipe
        Recipe of the gate.
    datasets
        Films; the first data set is the one of the recipe.
    data
        Folder of the first data set.
    path
        Folder of the gate that is written.
    threads
        Number of torch threads; all cores when None.
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
    with Progress(console=Terminal(stderr=True), transient=True) as progress:
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
    print_gate_figures(metrics)


def is_gate(name_or_path: str) -> bool:
    """Return whether a gate has this name or folder."""
    from models.bundles.lookup import find_bundle_folder
    from models.errors import BundleError
    from models.gate.model import MANIFEST

    try:
        find_bundle_folder(name_or_path, MANIFEST)
    except BundleError:
        return False
    return True


def evaluate_gate(name_or_path: str, dataset: FilmDataset, root: Path, split: str) -> dict[str, Any]:
    """Measure a gate on films, on drawn images, and on the negatives that it was not fitted to.

    Parameters
    ----------
    name_or_path
        Name of a shipped gate, or a folder.
    dataset
        Films.
    root
        Folder of the films; the negatives are beside it.
    split
        Split of the films.
    """
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
    with Progress(console=Terminal(stderr=True), transient=True) as progress:
        task = progress.add_task("reading films", total=None)
        return measure_gate(
            gate,
            [dataset],
            negatives,
            split=split,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )


def print_gate_figures(metrics: dict[str, Any]) -> None:
    """Print the figures of a gate as tables."""
    from models.gate.card import tables

    typer.echo("RESEARCH USE ONLY: not for diagnosis")
    for table in tables(metrics):
        typer.echo("\n" + table)
