"""Import of a foreign network: checked, tried on three drawn films, and written as a bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.bundles.bundle import CALIBRATION, Bundle, write_files
from models.bundles.bundle_labels import dump_labels
from models.bundles.description import GRAPH_FAMILY, Manifest
from models.bundles.film_session import OUTPUTS
from models.bundles.lookup import LABELS
from models.bundles.manifest import CARD, GRAPH, WEIGHTS
from models.bundles.predictor import Predictor
from models.errors import ForeignModelError, UsageError
from models.foreign.exported_bundle import ExportedBundle
from models.foreign.graph import PROBABILITIES, BoundGraph, bind_graph
from models.foreign.onnx_file import OnnxNetwork
from models.foreign.recipes import RECIPES, normalisation
from models.labels.calibration import uncalibrated
from models.labels.vocabulary import Label
from models.processing.array_transforms import network_input, standardise
from models.processing.transforms import Preprocessing
from models.processing.types import Film, FloatArray, Study

_AGREEMENT = 1e-4
"""Largest difference of a score between the network as it came and the bundle."""
_FILMS = 3


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Options of an import.

    Attributes
    ----------
    name, version, summary
        As in :class:`models.bundles.bundle.Manifest`.
    preprocessing
        Recipe, one of :data:`models.foreign.recipes.RECIPES`.
    size
        Side of the input in pixels; None for what the network says.
    bounds, mean, std
        As in :func:`models.foreign.recipes.normalisation`.
    fit, window
        As in :class:`models.processing.transforms.Preprocessing`; an empty fit is the recipe's.
    output, output_name, layer
        As in :func:`models.foreign.graph.bind_graph`.
    """

    name: str
    version: str = "0.1.0"
    summary: str = ""
    preprocessing: str = "imagenet"
    size: int | None = None
    bounds: tuple[float, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    fit: str = ""
    window: str = "none"
    output: str = "auto"
    output_name: str = ""
    layer: str = "auto"


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """An imported bundle, and what the import found out about the network."""

    bundle: Bundle
    graph: BoundGraph


def import_network(
    network: OnnxNetwork,
    source: Path,
    labels: Sequence[Label | None],
    options: ImportOptions,
    folder: Path,
    *,
    thresholds: Sequence[float] | None = None,
    exported: ExportedBundle | None = None,
) -> Imported:
    """Write a bundle of a foreign network.

    Parameters
    ----------
    source
        File that it came from, for messages and the card.
    labels
        Label of each output; None for an output without one.
    folder
        Folder in which the bundle's folder is made.
    thresholds
        Operating points of TorchXRayVision, one for each output.
    exported
        Bundle that the file was exported from, whose preprocessing and calibration are taken; None for any
        other file.

    Raises
    ------
    UsageError
        If an option does not fit the network, or the folder exists.
    ForeignModelError
        If the network cannot be used, or the bundle gives other scores than it.
    """
    size = network.size or options.size
    if size is None:
        raise UsageError(f"{source} takes films of any size: say which by --size")
    if options.size not in (None, size):
        raise UsageError(f"--size {options.size}: {source} takes films of {size} pixels")
    normal = normalisation(
        options.preprocessing, network.channels, bounds=options.bounds, mean=options.mean, std=options.std
    )
    preprocessing = _preprocessing(options, size) if exported is None else exported.grey_preprocessing
    films = drawn_films(size)
    kept = [place for place, label in enumerate(labels) if label is not None]
    chosen = [label for label in labels if label is not None]
    graph = bind_graph(
        network,
        source,
        network_input(preprocessing, [standardise(preprocessing, film) for film in films])[:, None, 0],
        normal,
        kept,
        len(labels),
        output=options.output,
        output_name=options.output_name,
        layer=options.layer,
        thresholds=thresholds,
    )
    try:
        manifest = Manifest(
            name=options.name,
            version=options.version,
            summary=options.summary or f"Network imported from {source.name}",
            architecture=GRAPH_FAMILY,
            arguments={"output": graph.output, "mean": list(normal.mean), "std": list(normal.std)},
            text="none",
            preprocessing=preprocessing,
            embedding=graph.embedding,
            explanation="gradcam" if graph.draws else "none",
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    calibration = uncalibrated([label.key for label in chosen]) if exported is None else exported.calibration
    path = folder / manifest.folder
    if path.exists():
        raise UsageError(f"{path} exists: choose another --version or --out")

    def check(bundle: Bundle) -> None:
        predictor = Predictor(bundle)
        predictor.warm_up()
        for film, wanted in zip(films, graph.scores, strict=True):
            (prediction,) = predictor.predict([Study((Film("drawn", film),))])
            scores = np.array([finding.score for finding in prediction.findings])
            if np.abs(scores - wanted).max() > _AGREEMENT:
                raise ForeignModelError(f"{source}: the bundle gives other scores than the network")

    bundle = write_files(
        path,
        manifest,
        {
            WEIGHTS: graph.weights,
            GRAPH: graph.graph,
            LABELS: dump_labels(chosen),
            CALIBRATION: calibration.dump(),
            CARD: card_stub(manifest, chosen, f"Imported from `{source.name}` (sha256 `{network.sha256}`)."),
        },
        check,
    )
    return Imported(bundle, graph)


def import_exported(
    network: OnnxNetwork, source: Path, exported: ExportedBundle, options: ImportOptions, folder: Path
) -> Imported:
    """Write a bundle of a file that :func:`models.foreign.onnx_export.export_onnx` wrote.

    Parameters
    ----------
    options
        Name, version and summary; the rest is what the file says.

    Raises
    ------
    UsageError, ForeignModelError
        As :func:`import_network`.
    """
    kept = ImportOptions(
        name=options.name,
        version=options.version,
        summary=options.summary,
        preprocessing="plain",
        output=PROBABILITIES,
        output_name=OUTPUTS[0],
    )
    return import_network(network, source, exported.labels, kept, folder, exported=exported)


def _preprocessing(options: ImportOptions, size: int) -> Preprocessing:
    try:
        return Preprocessing(
            grid=size,
            size=size,
            channels=1,
            mean=0.0,
            std=1.0,
            fit=options.fit or RECIPES[options.preprocessing].fit,
            window=options.window,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error


def drawn_films(size: int) -> list[FloatArray]:
    """Three drawn films of different shapes, float32 in [0, 1], on which an import tries a network."""
    random = np.random.default_rng(18)
    films = []
    for number in range(_FILMS):
        rows, columns = size + 16 * number, size + 24 * (_FILMS - number)
        y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
        spot = np.exp(-((y - random.uniform(0.2, 0.8)) ** 2 + (x - random.uniform(0.2, 0.8)) ** 2) / 0.05)
        film = np.clip(0.5 * spot + 0.2 * x + 0.2 * random.random((rows, columns)), 0, 1)
        films.append(film.astype(np.float32))
    return films


def card_stub(manifest: Manifest, labels: Sequence[Label], origin: str) -> str:
    """Model card with what is known of an imported network; the rest is left to its authors."""
    rows = "\n".join(
        f"| {label.key} | {label.name} | {label.code.value} {label.code.scheme} |" for label in labels
    )
    return (
        f"# {manifest.name} {manifest.version}\n\n"
        "**Research use only. Not a medical device; never for diagnosis.**\n\n"
        f"{manifest.summary}. {origin}\n\n"
        f"| label | name | code |\n|---|---|---|\n{rows}\n\n"
        "## To be written by its authors\n\n"
        "Intended use, films it was trained on, figures on films it has not seen, and limits.\n"
    )
