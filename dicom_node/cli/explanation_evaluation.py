"""Evaluation of heat maps: ``evaluate --explanations``.

Heavy libraries are imported inside the functions: the root command imports this module at every start.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.progress import Progress

from dicom_node.cli.output import Terminal

if TYPE_CHECKING:
    from models.data.dataset import FilmDataset


def evaluate_explanations(
    bundle: str,
    dataset: FilmDataset,
    root: Path,
    split: str,
    methods: Sequence[str],
    *,
    maps: int,
    fit_check: bool,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measure the heat maps of a bundle.

    Parameters
    ----------
    bundle
        Name of a shipped bundle, or a folder.
    dataset
        Labelled films.
    root
        Folder of the data set, with the boxes.
    split
        Split whose films are explained.
    methods
        Methods of heat maps; all methods of the bundle when empty.
    maps
        Number of studies of the split whose heat maps are measured, besides the films with boxes.
    fit_check
        Whether to fit first, on ``val``, which heat maps are withheld, and to save this in the bundle.
    device
        Device of torch.

    Returns
    -------
    dict
        Figures of :func:`models.evaluation.explanations.measure_explanations`.

    Raises
    ------
    models.errors.UsageError
        If the bundle does not have a method.
    """
    from models.bundles.predictor import Predictor
    from models.errors import UsageError
    from models.evaluation.explanations import fit_bundle_map_check as fit
    from models.evaluation.explanations import measure_explanations
    from models.explain.methods import available_methods

    predictor = Predictor.load(bundle, device=device)
    available = available_methods(predictor)
    for method in methods:
        if method not in available:
            raise UsageError(
                f"--method {method}: bundle {predictor.identity.name} has {', '.join(available)}"
            )
    with Progress(console=Terminal(stderr=True), transient=True) as progress:
        if fit_check:
            fitting = progress.add_task("fitting the check", total=None)
            predictor.bundle = fit(
                predictor,
                dataset,
                progress=lambda done, total: progress.update(fitting, completed=done, total=total),
            )
        drawing = progress.add_task("drawing", total=None)
        return measure_explanations(
            predictor,
            dataset,
            root,
            split=split,
            methods=methods,
            maps=maps,
            progress=lambda done, total: progress.update(drawing, completed=done, total=total),
        )


def record_in_bundle(bundle: str, figures: dict[str, Any]) -> None:
    """Add the figures to the bundle and its model card."""
    from models.bundles.bundle import find_bundle, read_bundle
    from models.evaluation import card

    card.record_metrics(read_bundle(find_bundle(bundle)), card.EXPLANATIONS, figures["dataset"], figures)


def write_explanations(folder: Path, figures: dict[str, Any]) -> None:
    """Write the figures to ``explanations.json`` and their tables to ``explanations.md`` in a folder."""
    from models.evaluation.explanations import explanations_markdown

    (folder / "explanations.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (folder / "explanations.md").write_text(explanations_markdown(figures), encoding="utf-8")


def print_explanations(figures: dict[str, Any]) -> None:
    """Print the figures as Markdown tables."""
    from models.evaluation.explanations import explanations_markdown

    typer.echo("RESEARCH USE ONLY: not for diagnosis\n")
    typer.echo(explanations_markdown(figures))
