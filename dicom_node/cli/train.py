"""``train`` and ``evaluate``: make a model bundle from films, and measure one.

Heavy libraries are imported inside the commands, because the root command imports this module at every start.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dicom_node.errors import ConfigurationError, NodeError

if TYPE_CHECKING:
    from models.training.dataset import FilmDataset

#: Of the command line alone; every message goes there, so that standard output stays machine readable.
_console = Console(stderr=True)


@contextmanager
def _one_sentence() -> Iterator[None]:
    """Turn the models' errors into the node's: a wrong recipe or name is wrong usage, the rest has failed."""
    from models.errors import ModelError, RecipeError, UsageError

    try:
        yield
    except (RecipeError, UsageError) as error:
        raise ConfigurationError(str(error)) from error
    except ModelError as error:
        raise NodeError(str(error)) from error


def train(
    recipe: Annotated[Path, typer.Argument(help="TOML file that says what is trained and how")],
    data: Annotated[Path, typer.Option("--data", help="folder of the data set that the recipe names")],
    out: Annotated[
        Path | None,
        typer.Option("--out", help="folder of the bundle; models/bundles/NAME-VERSION when absent"),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", help="checkpoints and logs; runs/NAME-VERSION when absent"),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="torch threads; all cores when absent")
    ] = None,
) -> None:
    """Train a bundle, calibrate it on val, measure it on test and write its model card.

    A training that was interrupted goes on from its last whole epoch when the same command is given again.
    """
    with _one_sentence():
        from models.training.recipe import read_recipe
        from models.vocabulary import load_vocabulary

        chosen = read_recipe(recipe)
        dataset = _dataset(chosen.dataset, data)
        further = tuple(_dataset(entry.dataset, data / entry.folder) for entry in chosen.further)

        # Only now the libraries that take seconds: a wrong word is answered at once.
        from models.training.fit import fit
        from models.training.progress import EpochLine
        from models.training.release import release

        _quieten()
        folder = f"{chosen.name}-{chosen.version}"
        with Progress(console=_console, transient=True) as progress:
            reading = progress.add_task("reading films", total=None)
            network, outputs = fit(
                chosen,
                dataset,
                load_vocabulary(),
                further=further,
                run=run_dir or Path("runs") / folder,
                threads=threads,
                callbacks=[EpochLine(progress, _console.print)],
                caching=lambda done, total: progress.update(reading, completed=done, total=total),
            )
            measuring = progress.add_task("calibrating and measuring", total=None)
            bundle = release(
                chosen,
                outputs,
                network,
                dataset,
                path=out or _bundles() / folder,
                progress=lambda done, total: progress.update(measuring, completed=done, total=total),
            )
        _show(json.loads((bundle.path / "metrics.json").read_text(encoding="utf-8"))["test"])
        _console.print(f"bundle written to {bundle.path}; research use only", highlight=False)


def evaluate(
    bundle: Annotated[str, typer.Argument(help="name of a shipped bundle, or a folder")],
    root: Annotated[Path, typer.Option("--root", help="folder of the data set")],
    dataset: Annotated[str, typer.Option("--dataset", help="name of the data set")] = "openi",
    split: Annotated[str, typer.Option("--split", help="any that the data set names")] = "test",
    text: Annotated[str, typer.Option("--text", help="text that the model may read: none")] = "none",
    json_: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="write the figures there; - for standard output"),
    ] = None,
) -> None:
    """Measure a bundle on labelled films, straight from the image files. Research use only."""
    with _one_sentence():
        from models.errors import UsageError
        from models.evaluation.evaluate import evaluate as measure
        from models.predictor import Predictor

        if text != "none":
            raise UsageError(f"--text {text}: no data set here has text that a model may read; use none")
        with Progress(console=_console, transient=True) as progress:
            task = progress.add_task("reading films", total=None)
            figures = measure(
                Predictor.load(bundle),
                _dataset(dataset, root),
                split=split,
                text=text,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )
    written = json.dumps(figures, indent=2)
    if json_ == Path("-"):
        typer.echo(written)
        return
    if json_ is not None:
        try:
            json_.write_text(written + "\n", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"--json {json_}: {error.strerror}") from error
    _show(figures)


def _quieten() -> None:
    """Keep Lightning's advice off the terminal; warnings of the project's own code still show."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning\..*")


def _dataset(name: str, root: Path) -> FilmDataset:
    from models.training.datasets import read_dataset
    from models.vocabulary import load_vocabulary

    return read_dataset(name, root, load_vocabulary())


def _bundles() -> Path:
    from models.bundle import bundles_folder

    return bundles_folder()


def _show(figures: dict[str, Any]) -> None:
    """Print the figures as a table: a person reads it, so the interval stands beside the figure."""
    table = Table(
        title=f"{figures['bundle']} on {figures['dataset']} {figures['split']}, text: {figures['text']}"
    )
    for column in ("label", "positive", "AUC", "95 % interval", "AP", "F1", "threshold"):
        table.add_column(column, justify="left" if column == "label" else "right")
    for key, label in figures["labels"].items():
        interval = f"{_number(label['auc_low'])} to {_number(label['auc_high'])}"
        cells = (label["auc"], interval, label["ap"], label["f1"], label["threshold"])
        table.add_row(
            key, str(label["n_positive"]), *(c if isinstance(c, str) else _number(c) for c in cells)
        )
    macro = figures["macro"]
    table.add_section()
    table.add_row(
        f"macro over {macro['n_labels']}",
        "",
        _number(macro["auc"]),
        f"{_number(macro['auc_low'])} to {_number(macro['auc_high'])}",
        _number(macro["ap"]),
        _number(macro["f1"]),
        "",
    )
    Console().print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
