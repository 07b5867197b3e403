"""``evaluate --explanations``; the command itself is in ``evaluate.py``.

Heavy libraries are imported inside the functions, because the root command imports what these import.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.progress import Progress

if TYPE_CHECKING:
    from models.data.dataset import FilmDataset


def measured(
    bundle: str,
    dataset: FilmDataset,
    root: Path,
    split: str,
    methods: Sequence[str],
    *,
    maps: int,
    fit_check: bool,
) -> dict[str, Any]:
    """Measure the heat maps of a bundle, and fit before that which of them are withheld."""
    from models.bundles.predictor import Predictor
    from models.errors import UsageError
    from models.evaluation.explanations import fit_check as fit
    from models.evaluation.explanations import measure_explanations
    from models.explain import methods_of

    predictor = Predictor.load(bundle)
    for method in methods:
        if method not in methods_of(predictor):
            raise UsageError(
                f"--method {method}: bundle {predictor.identity.name} has {', '.join(methods_of(predictor))}"
            )
    with Progress(console=Console(stderr=True), transient=True) as progress:
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


def keep(bundle: str, figures: dict[str, Any]) -> None:
    """Enter the figures in the bundle and its card."""
    from models.bundles.bundle import find_bundle, read_bundle
    from models.evaluation import card

    card.keep(read_bundle(find_bundle(bundle)), card.EXPLANATIONS, figures["dataset"], figures)


def write(folder: Path, figures: dict[str, Any]) -> None:
    """Write the figures and their tables."""
    from models.evaluation.explanations import markdown

    (folder / "explanations.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (folder / "explanations.md").write_text(markdown(figures), encoding="utf-8")


def show(figures: dict[str, Any]) -> None:
    """Print the tables."""
    from models.evaluation.explanations import markdown

    typer.echo("RESEARCH USE ONLY: not for diagnosis\n")
    typer.echo(markdown(figures))
