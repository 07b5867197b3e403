"""``models export``: a bundle's ONNX graph, or the bundle in the form of another framework."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.runtime.extras import missing_package

_FORMATS = ("onnx", "monai")


def export(
    name: Annotated[
        str,
        typer.Argument(
            metavar="BUNDLE", help="folder of a bundle or of a gate, or the name of a shipped one"
        ),
    ],
    *,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="onnx: one file with weights, labels, preprocessing and thresholds; monai: a MONAI bundle; "
            "if absent, the graph is written into the bundle",
        ),
    ] = "",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="folder in which the file or the folder is made")
    ] = None,
) -> None:
    """Write the ONNX graph of a bundle beside its weights, or the bundle for other frameworks.

    The graph holds no weights of its own: it computes with those of the bundle. Only bundles of convolutional
    families, which read films alone, have one; a training writes it when it releases such a bundle. With a
    format and a folder, what other frameworks need is written there, and compared with the bundle on drawn
    films. RESEARCH USE ONLY.
    """
    if form and form not in _FORMATS:
        raise ConfigurationError(f"--format {form}: use {' or '.join(_FORMATS)}")
    if bool(form) != bool(out):
        raise ConfigurationError("--format and --out go together: give both, or neither")
    if out is None:
        _write_graph(name)
        return
    try:
        with translated_model_errors():
            typer.echo(f"wrote {_export(name, form, out)}")
    except ModuleNotFoundError as error:
        raise ConfigurationError(missing_package(error, "import")) from None
    except OSError as error:
        raise NodeError(f"{out}: {error.strerror}; name a writable folder with --out") from error


def _export(name: str, form: str, out: Path) -> Path:
    from models.bundles.bundle import find_bundle, read_bundle

    bundle = read_bundle(find_bundle(name))
    if form == "onnx":
        from models.foreign.onnx_export import export_onnx

        return export_onnx(bundle, out)
    from models.foreign.monai_export import export_monai

    return export_monai(bundle, out)


def _write_graph(name: str) -> None:
    with translated_model_errors():
        from models.bundles.lookup import GATE_MANIFEST, MANIFEST, find_bundle_folder
        from models.errors import UnknownBundle

        try:
            folder = find_bundle_folder(name, MANIFEST)
        except UnknownBundle:
            folder = find_bundle_folder(name, GATE_MANIFEST)
            from models.gate.graph import write_gate_graph
            from models.gate.model import Gate

            write_gate_graph(Gate.load(folder))
        else:
            from models.bundles.bundle import read_bundle
            from models.bundles.onnx_graph import write_graph

            write_graph(read_bundle(folder))
        from models.bundles.manifest import GRAPH
    typer.echo(f"{folder.name}: wrote {folder / GRAPH}")
