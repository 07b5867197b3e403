"""``train``: trains a model bundle on labelled films.

Heavy libraries are imported inside the functions: the root command imports this module at every start.
"""

from __future__ import annotations

import json
import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast

import typer
from rich.progress import Progress

from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.cli.evaluation_tables import print_evaluation
from dicom_node.cli.gate import train_gate
from dicom_node.cli.labelled_data import read_labelled_data
from dicom_node.cli.output import stderr_console

if TYPE_CHECKING:
    from models.bundles.bundle import Bundle
    from models.data.dataset import FilmDataset
    from models.training.fit import Trained
    from models.training.hardware import Precision, TrainingHardware
    from models.training.recipe import Recipe

_Recipe: TypeAlias = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="TOML file that says what is trained, on what and how")
]
_Data: TypeAlias = Annotated[
    Path, typer.Option("--data", help="folder of the data set that the recipe names")
]
_Out: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="folder of the bundle; further bundles of the recipe go beside it; NAME-VERSION in the present "
        "folder if absent",
    ),
]
_RunDir: TypeAlias = Annotated[
    Path | None,
    typer.Option("--run-dir", help="folder of checkpoints and logs; runs/NAME-VERSION if absent"),
]
_Threads: TypeAlias = Annotated[
    int | None, typer.Option("--threads", min=1, help="number of torch threads; all cores if absent")
]
_Accelerator: TypeAlias = Annotated[str, typer.Option("--accelerator", help="device: cpu, gpu or auto")]
_Devices: TypeAlias = Annotated[
    int, typer.Option("--devices", min=1, help="number of GPUs, or of processes on the CPU")
]
_Nodes: TypeAlias = Annotated[int, typer.Option("--nodes", min=1, help="number of hosts that train together")]
_Precision: TypeAlias = Annotated[
    str, typer.Option("--precision", help="numeric precision: 32-true, bf16-mixed or 16-mixed")
]


def train(  # noqa: PLR0917 - Typer passes by keyword
    recipe: _Recipe,
    data: _Data,
    out: _Out = None,
    run_dir: _RunDir = None,
    threads: _Threads = None,
    accelerator: _Accelerator = "cpu",
    devices: _Devices = 1,
    nodes: _Nodes = 1,
    precision: _Precision = "32-true",
) -> None:
    """Train a bundle, calibrate it on val, measure it on test and write its model card.

    Give the same command again to continue an interrupted training from its last whole epoch. The run folder
    keeps the logs (CSV and TensorBoard), the learning curves and the class distribution.
    """
    with translated_model_errors():
        from models.training.hardware import TrainingHardware
        from models.training.recipe import GateRecipe
        from models.training.recipe_file import check_names, read_any_recipe

        chosen = read_any_recipe(recipe)
        engine = TrainingHardware(accelerator, devices, nodes, cast("Precision", precision), threads)
        if not isinstance(chosen, GateRecipe):
            check_names(chosen, recipe)
        datasets = (
            read_labelled_data(chosen.dataset, data),
            *(read_labelled_data(entry.dataset, data / entry.folder) for entry in chosen.further),
        )
        folder = f"{chosen.name}-{chosen.version}"
        path = out or Path(folder)
        if isinstance(chosen, GateRecipe):
            train_gate(chosen, datasets, data, path, threads=threads)
            return

        # torch and Lightning take seconds to import: only now, so that a mistake is answered at once.
        from models.evaluation.card import main_evaluation
        from models.training import export, plots  # noqa: F401 - a missing package is reported before training

        _silence_lightning()
        bundles = _Training(chosen, datasets, engine, run_dir or Path("runs") / folder, path).run()
        for bundle in bundles:
            metrics = json.loads((bundle.path / "metrics.json").read_text(encoding="utf-8"))
            print_evaluation(main_evaluation(metrics))
            stderr_console.print(f"bundle written to {bundle.path}; research use only", highlight=False)


@dataclass(frozen=True, slots=True)
class _Training:
    """One training, from the films to the written bundles.

    Attributes
    ----------
    recipe
        Recipe of the training.
    datasets
        Data set of the recipe, and its further ones.
    engine
        Hardware and precision.
    run_dir
        Folder of checkpoints and logs.
    path
        Folder of the first bundle.
    """

    recipe: Recipe
    datasets: tuple[FilmDataset, ...]
    engine: TrainingHardware
    run_dir: Path
    path: Path

    def run(self) -> list[Bundle]:
        """Train, draw the plots of the run folder, and write the bundles."""
        with Progress(console=stderr_console, transient=True) as progress:
            recipe, run_dir, trained = self._fit(progress)
            self._draw(run_dir, trained)
            return self._release(progress, recipe, trained)

    def _fit(self, progress: Progress) -> tuple[Recipe, Path, Trained]:
        """Train; a recipe with folds first searches the number of epochs."""
        from models.labels.vocabulary import load_vocabulary
        from models.training.fit import fit
        from models.training.folds import search_epochs
        from models.training.progress import EpochLine

        dataset, *further = self.datasets
        recipe, run_dir, vocabulary = self.recipe, self.run_dir, load_vocabulary()
        reading = progress.add_task("reading films", total=None)
        options: dict[str, Any] = {
            "further": tuple(further),
            "engine": self.engine,
            "callbacks": [EpochLine(progress, stderr_console.print)],
            "caching": lambda done, total: progress.update(reading, completed=done, total=total),
        }
        if recipe.folds is not None:
            epochs = search_epochs(
                recipe, dataset, vocabulary, run=run_dir, say=stderr_console.print, **options
            )
            recipe, run_dir = recipe.lasting(epochs), run_dir / "final"
        return recipe, run_dir, fit(recipe, dataset, vocabulary, run=run_dir, **options)

    def _draw(self, run_dir: Path, trained: Trained) -> None:
        from models.training.history import read_history
        from models.training.plots import (
            CLASS_DISTRIBUTION,
            LEARNING_CURVES,
            draw_class_distribution,
            draw_learning_curves,
        )

        draw_learning_curves(read_history(run_dir), run_dir / LEARNING_CURVES)
        draw_class_distribution(self.datasets[0], trained.outputs.keys, run_dir / CLASS_DISTRIBUTION)

    def _release(self, progress: Progress, recipe: Recipe, trained: Trained) -> list[Bundle]:
        """Calibrate, measure and write each bundle of the recipe."""
        from models.training.export import export_bundle

        task = progress.add_task("calibrating and measuring", total=None)
        by_name = {each.name: each for each in self.datasets}
        return [
            export_bundle(
                recipe,
                trained,
                by_name[bundle.dataset or self.datasets[0].name],
                path=self.path
                if bundle.name == recipe.name
                else self.path.parent / f"{bundle.name}-{recipe.version}",
                also=bundle,
                calibration_set=self.datasets[0],
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
            for bundle in recipe.bundles
        ]


def _silence_lightning() -> None:
    """Keep Lightning's advice off the terminal; warnings of the project's own code still show."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")
