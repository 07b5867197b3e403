"""``train``: make a model bundle from films.

Heavy libraries are imported inside the command, because the root command imports this module at every start.
"""

from __future__ import annotations

import json
import logging
import warnings
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from rich.progress import Progress

from dicom_node.cli.evaluate import console, labelled, one_sentence, show
from dicom_node.cli.gate import train_gate


def train(  # noqa: PLR0917 - Typer passes by keyword
    recipe: Annotated[Path, typer.Argument(help="TOML file that says what is trained and how")],
    data: Annotated[Path, typer.Option("--data", help="folder of the data set that the recipe names")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="folder of the bundle, further ones go beside it; models/bundles/NAME-VERSION when absent",
        ),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", help="checkpoints and logs; runs/NAME-VERSION when absent"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="torch threads; all cores when absent")
    ] = None,
    accelerator: Annotated[str, typer.Option("--accelerator", help="cpu, gpu or auto")] = "cpu",
    devices: Annotated[int, typer.Option("--devices", min=1, help="GPUs, or processes on the CPU")] = 1,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="hosts that train together")] = 1,
    precision: Annotated[
        str, typer.Option("--precision", help="32-true, bf16-mixed or 16-mixed")
    ] = "32-true",
) -> None:
    """Train a bundle, calibrate it on val, measure it on test and write its model card.

    A training that was interrupted goes on from its last whole epoch when the same command is given again.
    The run folder keeps the logs (CSV and TensorBoard), the learning curves and the class distribution.
    """
    with one_sentence():
        from models.labels.vocabulary import load_vocabulary
        from models.training.recipe import GateRecipe
        from models.training.recipe_file import read_any_recipe

        chosen = read_any_recipe(recipe)
        dataset = labelled(chosen.dataset, data)
        further = tuple(labelled(entry.dataset, data / entry.folder) for entry in chosen.further)

        if isinstance(chosen, GateRecipe):
            path = out or _bundles() / f"{chosen.name}-{chosen.version}"
            train_gate(chosen, (dataset, *further), data, path, threads=threads)
            return

        # Only now the libraries that take seconds: a wrong word is answered at once.
        from models.training.export import release
        from models.training.fit import Engine, fit
        from models.training.folds import search_epochs
        from models.training.history import read_history
        from models.training.plots import (
            CLASS_DISTRIBUTION,
            LEARNING_CURVES,
            draw_class_distribution,
            draw_learning_curves,
        )
        from models.training.progress import EpochLine

        _quieten()
        folder = f"{chosen.name}-{chosen.version}"
        run = run_dir or Path("runs") / folder
        first = out or _bundles() / folder
        with Progress(console=console, transient=True) as progress:
            reading = progress.add_task("reading films", total=None)
            how: dict[str, Any] = {
                "further": further,
                "engine": Engine(accelerator, devices, nodes, _precision(precision), threads),
                "callbacks": [EpochLine(progress, console.print)],
                "caching": lambda done, total: progress.update(reading, completed=done, total=total),
            }
            vocabulary = load_vocabulary()
            if chosen.folds is not None:
                epochs = search_epochs(chosen, dataset, vocabulary, run=run, say=console.print, **how)
                chosen, run = chosen.lasting(epochs), run / "final"
            trained = fit(chosen, dataset, vocabulary, run=run, **how)
            draw_learning_curves(read_history(run), run / LEARNING_CURVES)
            draw_class_distribution(dataset, trained.outputs.keys, run / CLASS_DISTRIBUTION)
            measuring = progress.add_task("calibrating and measuring", total=None)
            sets = {each.name: each for each in (dataset, *further)}
            written = [
                release(
                    chosen,
                    trained,
                    sets[bundle.dataset or dataset.name],
                    path=first
                    if bundle.name == chosen.name
                    else first.parent / f"{bundle.name}-{chosen.version}",
                    also=bundle,
                    calibration_set=dataset,
                    progress=lambda done, total: progress.update(measuring, completed=done, total=total),
                )
                for bundle in chosen.bundles
            ]
        for bundle in written:
            show(json.loads((bundle.path / "metrics.json").read_text(encoding="utf-8"))["test"])
            console.print(f"bundle written to {bundle.path}; research use only", highlight=False)


def _precision(name: str) -> Any:
    from models.errors import UsageError
    from models.training.fit import Precision

    if name not in get_args(Precision):
        raise UsageError(f"--precision {name!r} is none of {', '.join(get_args(Precision))}")
    return name


def _quieten() -> None:
    """Keep Lightning's advice off the terminal; warnings of the project's own code still show."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")


def _bundles() -> Path:
    from models.bundles.shipped import shipped_folder

    return shipped_folder()
