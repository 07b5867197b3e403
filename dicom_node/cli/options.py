"""Command line options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer

AsJson: TypeAlias = Annotated[bool, typer.Option("--json", help="print JSON, for scripts")]

FiguresFile: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--figures", metavar="FILE", help="write the figures to this file as JSON, and print them too"
    ),
]

BundleArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="name of a shipped model bundle, or a folder")
]

ConfiguredBundle: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        "-b",
        help="name or folder of a model bundle; the first primary one of the settings if absent",
    ),
]

ConfiguredDevice: TypeAlias = Annotated[
    str | None,
    typer.Option("--device", help="auto, cpu, cuda or cuda:N; the configured one (worker.device) if absent"),
]

Device: TypeAlias = Annotated[
    str | None, typer.Option("--device", help="auto, cpu, cuda or cuda:N; cpu if absent")
]

DatasetRoot: TypeAlias = Annotated[Path, typer.Option("--data", help="folder of the data set")]

_FILM_TABLE = typer.Option(
    "--csv",
    help="table of films of your own: path, a column of 0, 1 or nothing for each label, and perhaps "
    "patient and split",
)
FilmTable: TypeAlias = Annotated[Path, _FILM_TABLE]
OptionalFilmTable: TypeAlias = Annotated[Path | None, _FILM_TABLE]

DatasetName: TypeAlias = Annotated[
    str, typer.Option("--dataset", help="format of the data set: openi, nih or collections")
]


def torch_device(device: str | None) -> str:
    """Return the device of torch that ``--device`` names; the processor if it is absent.

    Raises
    ------
    ConfigurationError
        If there is no such device.
    """
    if device is None:
        return "cpu"
    from worker.model_loading import resolve_device

    return resolve_device(device, "torch")
