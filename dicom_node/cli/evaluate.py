"""``evaluate``: measures a model bundle on labelled films.

Heavy libraries are imported inside the functions: the root command imports this module at every start.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer
from rich.progress import Progress

from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.cli import explanation_evaluation, gate, through_pacs
from dicom_node.cli.evaluation_tables import print_evaluation
from dicom_node.cli.labelled_data import read_labelled_data, read_own_films
from dicom_node.cli.options import (
    AsJson,
    BundleArgument,
    DatasetName,
    Device,
    FiguresFile,
    OptionalFilmTable,
    torch_device,
)
from dicom_node.cli.output import (
    check_output_targets,
    stderr_console,
    translated_write_errors,
    write_figures,
)
from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from models.data.dataset import FilmDataset
    from models.labels.vocabulary import Label

_Root: TypeAlias = Annotated[
    Path | None, typer.Option("--data", help="folder of the data set; or give --csv")
]
_Split: TypeAlias = Annotated[
    str, typer.Option("--split", help="split to measure on, such as val or test; any that the data set has")
]
_Text: TypeAlias = Annotated[
    str,
    typer.Option(
        "--text",
        help="text that is read beside the films: none, indication, or report (without the terms that name "
        "a label)",
    ),
]
_Explanations: TypeAlias = Annotated[
    bool, typer.Option("--explanations", help="measure the heat maps instead of the answers")
]
_Methods: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        help="with --explanations: method of heat maps, may be repeated; all methods of the bundle if absent",
    ),
]
_Maps: TypeAlias = Annotated[
    int,
    typer.Option(
        "--maps",
        min=1,
        help="with --explanations: number of studies of the split whose heat maps are measured, besides the "
        "films with bounding boxes",
    ),
]
_FitCheck: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--fit-check",
        help="with --explanations: first fit on the split val which heat maps are withheld, and save this in "
        "the bundle",
    ),
]
_Keep: TypeAlias = Annotated[
    bool,
    typer.Option("--keep", help="with --explanations: add the figures to the bundle and its model card"),
]
_Out: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--out",
        help="folder for metrics.json, report.html, table.md and the plots; "
        "with --explanations for explanations.json and explanations.md",
    ),
]
_ThroughPacs: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--through-pacs",
        metavar="FOLDER",
        help="measure the whole way through a PACS: the films are sent as DICOM to a real Orthanc that runs "
        "in this folder, a node analyses them, and the reports are read back by DICOMweb",
    ),
]
_Films: TypeAlias = Annotated[
    int | None,
    typer.Option("--films", min=1, help="with --through-pacs: largest number of films; all if absent"),
]


_Measured: TypeAlias = tuple[dict[str, Any], Callable[[dict[str, Any]], None]]
"""Figures, and the function that prints them as tables."""


def evaluate(
    bundle: BundleArgument,
    *,
    root: _Root = None,
    table: OptionalFilmTable = None,
    dataset: DatasetName = "openi",
    split: _Split = "test",
    text: _Text = "none",
    explanations: _Explanations = False,
    method: _Methods = None,
    maps: _Maps = 30,
    fit_check: _FitCheck = False,
    keep: _Keep = False,
    out: _Out = None,
    figures_file: FiguresFile = None,
    device: Device = None,
    as_json: AsJson = False,
    through: _ThroughPacs = None,
    most: _Films = None,
) -> None:
    """Measure a bundle on labelled films, read from their image files. RESEARCH USE ONLY."""
    check_output_targets(out, figures_file)
    if (root is None) == (table is None):
        raise ConfigurationError("name the films: --data with --dataset, or --csv with a table of your own")
    if table is not None and (explanations or through is not None or gate.is_gate(bundle)):
        raise ConfigurationError(
            "--csv measures the answers of a bundle: leave out what asks for something else"
        )
    if through is not None and (text != "none" or out is not None):
        raise ConfigurationError(
            "--through-pacs measures films alone, and writes with --figures: leave out --text and --out"
        )
    if not explanations and (method or fit_check or keep):
        raise ConfigurationError("--method, --fit-check and --keep need --explanations: give that too")
    if device is not None and (through is not None or gate.is_gate(bundle)):
        raise ConfigurationError("--device is for the answers and heat maps of a bundle: leave it out")
    with translated_model_errors():
        if table is not None:
            figures, show = _evaluate_films(
                bundle, lambda labels: read_own_films(table, labels, split), split, text, out, device
            )
        elif explanations:
            assert root is not None
            figures, show = _evaluate_explanations(
                bundle, dataset, root, split, method or (), maps, out, device, fit_check=fit_check, keep=keep
            )
        elif gate.is_gate(bundle):
            assert root is not None
            figures = gate.evaluate_gate(bundle, read_labelled_data(dataset, root), root, split)
            show = gate.print_gate_figures
        elif through is not None:
            assert root is not None
            figures, show = _evaluate_through_pacs(bundle, dataset, root, split, most, through)
        else:
            assert root is not None
            data = root
            figures, show = _evaluate_films(
                bundle, lambda _: read_labelled_data(dataset, data), split, text, out, device
            )
    write_figures(figures, figures_file, show, as_json=as_json)


def _evaluate_explanations(
    bundle: str,
    dataset: str,
    root: Path,
    split: str,
    methods: Sequence[str],
    maps: int,
    out: Path | None,
    device: str | None,
    *,
    fit_check: bool,
    keep: bool,
) -> _Measured:
    films = read_labelled_data(dataset, root)
    figures = explanation_evaluation.evaluate_explanations(
        bundle, films, root, split, methods, maps=maps, fit_check=fit_check, device=torch_device(device)
    )
    if keep:
        explanation_evaluation.record_in_bundle(bundle, figures)
    if out is not None:
        with translated_write_errors("--out", out):
            explanation_evaluation.write_explanations(out, figures)
    return figures, explanation_evaluation.print_explanations


def _evaluate_through_pacs(
    bundle: str, dataset: str, root: Path, split: str, most: int | None, folder: Path
) -> _Measured:
    from models.bundles.predictor import Predictor
    from models.evaluation.evaluate import check_text_input

    predictor = Predictor.load(bundle)
    check_text_input(predictor, "none")
    films = read_labelled_data(dataset, root)
    figures = through_pacs.evaluate_through_pacs(
        predictor, films, root, split=split, most=most, folder=folder
    )
    return figures, through_pacs.print_through_pacs


def _evaluate_films(
    bundle: str,
    read: Callable[[Sequence[Label]], FilmDataset],
    split: str,
    text: str,
    out: Path | None,
    device: str | None,
) -> _Measured:
    from models.bundles.predictor import Predictor
    from models.evaluation.evaluate import check_text_input, evaluate_with_predictions
    from models.evaluation.report import write_report

    predictor = Predictor.load(bundle, device=torch_device(device))
    check_text_input(predictor, text)
    films = read(predictor.labels)
    with Progress(console=stderr_console, transient=True) as progress:
        reading = progress.add_task("reading films", total=None)
        sample, figures = evaluate_with_predictions(
            predictor,
            films,
            split=split,
            text=text,
            progress=lambda done, total: progress.update(reading, completed=done, total=total),
        )
        if out is not None:
            drawing = progress.add_task("drawing", total=None)
            with translated_write_errors("--out", out):
                write_report(
                    out,
                    sample,
                    figures,
                    lambda done, total: progress.update(drawing, completed=done, total=total),
                )
    return figures, print_evaluation
