"""``evaluate``: measure a model bundle on labelled films.

Heavy libraries are imported inside the command, because the root command imports this module at every start.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table as Cells

from dicom_node.cli import explanations as heat
from dicom_node.cli import gate, through_pacs
from dicom_node.errors import ConfigurationError, NodeError

if TYPE_CHECKING:
    from models.data.dataset import FilmDataset

#: For a person; standard output stays machine readable.
console = Console(stderr=True)


#: Columns that a table may have on the terminal, and how many are left of a wider one.
_WIDEST, _NARROWED = 6, 5
#: Characters of a label that are never broken.
_NAME_WIDTH = 28


@contextmanager
def one_sentence() -> Iterator[None]:
    """Turn the models' errors into the node's: a wrong recipe or name is wrong usage, the rest has failed."""
    from models.errors import ModelError, RecipeError, UsageError

    try:
        yield
    except (RecipeError, UsageError) as error:
        raise ConfigurationError(str(error)) from error
    except ModelError as error:
        raise NodeError(str(error)) from error


def labelled(name: str, root: Path) -> FilmDataset:
    """Data set of that name in a folder; what it lacks is said."""
    from dicom_node.cli.films import read_film
    from models.data.readers import read_dataset
    from models.labels.vocabulary import load_vocabulary

    films = read_dataset(name, root, load_vocabulary(), read_film)
    for note in films.notes:
        console.print(f"{films.name}: {note}", markup=False, highlight=False, soft_wrap=True)
    return films


def evaluate(
    bundle: Annotated[str, typer.Argument(help="name of a shipped bundle, or a folder")],
    *,
    root: Annotated[Path, typer.Option("--root", help="folder of the data set")],
    dataset: Annotated[str, typer.Option("--dataset", help="openi or nih")] = "openi",
    split: Annotated[str, typer.Option("--split", help="any that the data set names")] = "test",
    text: Annotated[
        str,
        typer.Option(
            "--text",
            help="what is read beside the films: none, indication, or report (freed of the labels' terms)",
        ),
    ] = "none",
    explanations: Annotated[
        bool, typer.Option("--explanations", help="measure the heat maps, and not the answers")
    ] = False,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="of heat maps, again for more; all that the bundle has when absent"),
    ] = None,
    maps: Annotated[
        int, typer.Option("--maps", min=1, help="heat maps of the split that are measured beside the boxes")
    ] = 30,
    fit_check: Annotated[
        bool,
        typer.Option(
            "--fit-check", help="first fit to val which heat maps are withheld, and keep it in the bundle"
        ),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="enter the figures of the heat maps in the bundle and its card")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="folder for metrics.json, report.html, table.md and the plots; "
            "with --explanations for explanations.json and explanations.md",
        ),
    ] = None,
    json_: Annotated[
        Path | None,
        typer.Option("--json", metavar="FILE", help="write the figures there; - for standard output"),
    ] = None,
    through: Annotated[
        Path | None,
        typer.Option(
            "--through-pacs",
            metavar="FOLDER",
            help="measure what comes back: films go as DICOM into a real Orthanc over this folder, a node "
            "reads them, and the reports are read back by DICOMweb",
        ),
    ] = None,
    most: Annotated[
        int | None,
        typer.Option("--films", min=1, help="with --through-pacs: so many films at most"),
    ] = None,
) -> None:
    """Measure a bundle on labelled films, straight from the image files. RESEARCH USE ONLY."""
    check_targets(out, json_)
    if through is not None and (text != "none" or out is not None):
        raise ConfigurationError(
            "--through-pacs measures films alone, and writes with --json: leave out --text and --out"
        )
    if not explanations and (method or fit_check or keep):
        raise ConfigurationError("--method, --fit-check and --keep are of --explanations: name that too")
    with one_sentence():
        if explanations:
            found = heat.measured(
                bundle, labelled(dataset, root), root, split, method or (), maps=maps, fit_check=fit_check
            )
            if keep:
                heat.keep(bundle, found)
            _put_maps(found, out, json_)
            return
        if gate.is_gate(bundle):
            put(gate.measured(bundle, labelled(dataset, root), root, split), json_, gate.show)
            return
        from models.bundles.predictor import Predictor
        from models.evaluation.evaluate import check_text, measure
        from models.evaluation.report import write_report

        predictor = Predictor.load(bundle)
        check_text(predictor, text)
        films = labelled(dataset, root)
        if through is not None:
            figures = through_pacs.measured(predictor, films, root, split=split, most=most, folder=through)
            put(figures, json_, through_pacs.show)
            return
        with Progress(console=console, transient=True) as progress:
            reading = progress.add_task("reading films", total=None)
            sample, figures = measure(
                predictor,
                films,
                split=split,
                text=text,
                progress=lambda done, total: progress.update(reading, completed=done, total=total),
            )
            if out is not None:
                drawing = progress.add_task("drawing", total=None)
                with writing("--out", out):
                    write_report(
                        out,
                        sample,
                        figures,
                        lambda done, total: progress.update(drawing, completed=done, total=total),
                    )
    put(figures, json_, show)


def _put_maps(figures: dict[str, Any], out: Path | None, json_: Path | None) -> None:
    if out is not None:
        with writing("--out", out):
            heat.write(out, figures)
    put(figures, json_, heat.show)


def put(figures: dict[str, Any], json_: Path | None, show: Callable[[dict[str, Any]], None]) -> None:
    """Write figures where they are asked for, and show them unless that is standard output."""
    written = json.dumps(figures, indent=2)
    if json_ == Path("-"):
        typer.echo(written)
        return
    if json_ is not None:
        with writing("--json", json_):
            json_.write_text(written + "\n", encoding="utf-8")
    show(figures)


def show(figures: Mapping[str, Any]) -> None:
    """Print the tables, as far as a terminal is wide."""
    from models.evaluation import tables

    terminal = Console(highlight=False)
    terminal.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    for remark in tables.remarks(figures):
        terminal.print(f"caution: {remark}", markup=False)
    shown = (tables.overall, tables.accuracy, tables.abnormal, tables.labels, tables.rare, tables.subgroups)
    for table in (make(figures) for make in shown):
        if table is None or not table.rows:
            continue
        # The columns of a wide table beyond these are for the report.
        header = table.header if len(table.header) <= _WIDEST else table.header[:_NARROWED]
        cells = Cells(title=table.title, title_justify="left", box=None, padding=(0, 1), pad_edge=False)
        for number, name in enumerate(header):
            if number:
                cells.add_column(name, justify="right", overflow="fold")
            else:
                longest = max(len(row[0]) for row in table.rows)
                cells.add_column(name, min_width=min(longest, _NAME_WIDTH), overflow="fold")
        for row in table.rows:
            cells.add_row(*map(escape, row[: len(header)]))
        terminal.print(cells, "")


def check_targets(out: Path | None, json_: Path | None) -> None:
    """Find out before the films are read whether what is measured can be kept."""
    if json_ is not None and json_ != Path("-") and not json_.parent.is_dir():
        raise ConfigurationError(f"--json {json_}: there is no folder {json_.parent}")
    if out is not None:
        with writing("--out", out):
            out.mkdir(parents=True, exist_ok=True)
        try:
            import matplotlib.figure  # noqa: F401
        except ImportError as error:
            raise ConfigurationError("--out draws with matplotlib: install dicom-node[train]") from error


@contextmanager
def writing(option: str, path: Path) -> Iterator[None]:
    """Turn a failure to write into one sentence that names the option."""
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{option} {path}: {error.strerror}; name another place") from error
