"""``models import`` and ``models calibrate``: a researcher's own network as a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.progress import Progress

from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.cli.checkpoint_process import read_checkpoint
from dicom_node.cli.labelled_data import read_own_films
from dicom_node.cli.options import BundleArgument, FilmTable
from dicom_node.cli.output import counted, stderr_console
from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.runtime.extras import missing_package

if TYPE_CHECKING:
    from models.foreign.importer import Imported

_Out: TypeAlias = Annotated[
    Path, typer.Option("--out", "-o", help="folder in which the folder of the bundle is made")
]


def import_(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE", exists=True, dir_okay=False, help="ONNX file, or weights with --architecture"
        ),
    ],
    *,
    name: Annotated[
        str,
        typer.Option(
            "--name", help="name of the bundle, such as our-chest; that of an exported bundle if absent"
        ),
    ] = "",
    labels: Annotated[
        str,
        typer.Option(
            "--labels",
            help="names of the outputs in order, with commas; - for one without a label; or a .toml file "
            "with keys and definitions; those of an exported bundle if absent",
        ),
    ] = "",
    architecture: Annotated[
        str,
        typer.Option(
            "--architecture", help="of weights: timm:NAME, torchvision:NAME or torchxrayvision:densenet121"
        ),
    ] = "",
    preprocessing: Annotated[
        str, typer.Option("--preprocessing", help="imagenet, torchxrayvision, clip or plain ([0, 1])")
    ] = "",
    size: Annotated[
        int | None, typer.Option("--size", min=8, max=4096, help="side of the input, in pixels")
    ] = None,
    bounds: Annotated[
        str, typer.Option("--range", help="values of black and white, such as -1024,1024")
    ] = "",
    mean: Annotated[str, typer.Option("--mean", help="mean of all channels, or of each, on that range")] = "",
    std: Annotated[str, typer.Option("--std", help="standard deviation, as the mean")] = "",
    fit: Annotated[
        str,
        typer.Option("--fit", help="film into the square: squash, pad or crop; that of the recipe if absent"),
    ] = "",
    window: Annotated[
        str,
        typer.Option(
            "--window", help="none, or percentiles: 0.5 and 99.5 % of the film's values become 0 and 1"
        ),
    ] = "none",
    output: Annotated[
        str, typer.Option("--output", help="what the network gives: logits, probabilities, or auto")
    ] = "auto",
    output_name: Annotated[
        str,
        typer.Option(
            "--output-name", help="name of the output that holds the labels, where there are several"
        ),
    ] = "",
    layer: Annotated[
        str, typer.Option("--heat-map-layer", help="name of the last feature map; auto, or none")
    ] = "auto",
    version: Annotated[
        str,
        typer.Option("--version", help="version of the bundle; 0.1.0, or that of an exported one if absent"),
    ] = "",
    summary: Annotated[str, typer.Option("--summary", help="what it is, in one line")] = "",
    out: _Out = Path(),
) -> None:
    """Make a bundle of a network of your own: an ONNX file, or weights of a known architecture.

    It is checked, tried on three drawn films, and written with its labels and a stub of a model card. A file
    that `models export --format onnx` wrote says itself what it is. RESEARCH USE ONLY.
    """
    if output not in ("auto", "logits", "probabilities"):
        raise ConfigurationError(f"--output {output}: use logits, probabilities or auto")
    xray = architecture.startswith("torchxrayvision:")
    try:
        with translated_model_errors():
            from models.foreign.importer import ImportOptions, import_network
            from models.foreign.label_names import read_labels
            from models.foreign.onnx_file import read_onnx

            if not labels and not architecture and source.suffix.lower() == ".onnx":
                _say(_import_exported(source, name, version, summary, out))
                return
            if not name or not labels:
                raise ConfigurationError(f"{source}: say by --name and --labels what it is")
            chosen = read_labels(labels)
            options = ImportOptions(
                name=name,
                version=version or "0.1.0",
                summary=summary,
                preprocessing=preprocessing or ("torchxrayvision" if xray else "imagenet"),
                size=size,
                bounds=_numbers("--range", bounds),
                mean=_numbers("--mean", mean),
                std=_numbers("--std", std),
                fit=fit,
                window=window,
                output=output,
                output_name=output_name,
                layer=layer,
            )
            thresholds = None
            if architecture:
                from models.foreign.state_dict import export_weights

                exported = export_weights(
                    source, architecture, len(chosen), size=size, unpickle=read_checkpoint
                )
                network, thresholds = exported.network, exported.thresholds
            elif source.suffix.lower() != ".onnx":
                raise ConfigurationError(
                    f"{source}: say by --architecture which network these weights are of"
                )
            else:
                network = read_onnx(source)
            done = import_network(network, source, chosen, options, out, thresholds=thresholds)
    except ModuleNotFoundError as error:
        raise ConfigurationError(missing_package(error, "import")) from None
    except OSError as error:
        raise NodeError(f"{out}: {error.strerror}; name a writable folder with --out") from error
    _say(done)


def _import_exported(source: Path, name: str, version: str, summary: str, out: Path) -> Imported:
    from models.foreign.exported_bundle import read_exported
    from models.foreign.importer import ImportOptions, import_exported
    from models.foreign.onnx_file import read_onnx

    network = read_onnx(source)
    exported = read_exported({entry.key: entry.value for entry in network.model.metadata_props}, source)
    if exported is None:
        raise ConfigurationError(f"{source}: say by --name and --labels what it is")
    options = ImportOptions(
        name=name or exported.name, version=version or exported.version, summary=summary or exported.summary
    )
    return import_exported(network, source, exported, options, out)


def calibrate(
    bundle: BundleArgument,
    *,
    table: FilmTable,
    split: Annotated[str, typer.Option("--split", help="split of the table to fit to")] = "val",
    version: Annotated[
        str, typer.Option("--version", help="version of the new bundle; the next one if absent")
    ] = "",
    out: _Out = Path(),
) -> None:
    """Fit calibration and thresholds to films of your own, and write them as a new version of the bundle."""
    try:
        with translated_model_errors():
            from models.bundles.predictor import Predictor
            from models.foreign.calibration import calibrate_bundle, uncalibrated_labels

            predictor = Predictor.load(bundle, runtime="auto")
            films = read_own_films(table, predictor.labels, split)
            with Progress(console=stderr_console, transient=True) as progress:
                task = progress.add_task("reading films", total=None)
                try:
                    made = calibrate_bundle(
                        predictor,
                        films,
                        out,
                        split=split,
                        version=version,
                        progress=lambda done, total: progress.update(task, completed=done, total=total),
                    )
                except OSError as error:
                    raise NodeError(f"{out}: {error.strerror}; name a writable folder with --out") from error
            left = uncalibrated_labels(made.calibration)
    except ModuleNotFoundError as error:
        raise ConfigurationError(missing_package(error, "import")) from None
    typer.echo(
        f"wrote {made.path}, fitted to {counted(made.calibration.n_studies, 'study', 'studies')} "
        f"of {table.name}"
    )
    if left:
        typer.echo(f"not calibrated, for fewer than 5 films with or without it: {', '.join(left)}")


def _numbers(option: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise ConfigurationError(f"{option} {text}: write numbers with commas between them") from None


def _say(done: Imported) -> None:
    from models.labels.vocabulary import load_vocabulary

    bundle, known = done.bundle, load_vocabulary().labels
    typer.echo(f"wrote {bundle.path}")
    for label in bundle.labels:
        where = "of the vocabulary" if label.key in known else "new, defined in the bundle"
        typer.echo(f"  {label.key}: {label.code.value} {label.code.scheme}, {where}")
    maps = "in closed form" if done.graph.draws else f"none: {done.graph.why_not}"
    typer.echo(f"output: {done.graph.output}; heat maps: {maps}")
    from models.foreign.calibration import uncalibrated_labels

    if len(uncalibrated_labels(bundle.calibration)) < len(bundle.labels):
        return
    typer.echo(
        "missing: calibration and thresholds (scores are no probabilities, 0.5 a guess; `dicom-node models "
        f"calibrate {bundle.path} --csv films.csv` fits them), and the text of README.md"
    )
