"""``models check``: whether a remote model answers as the contract says."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Annotated

import typer

from dicom_node.cli.options import AsJson
from dicom_node.cli.output import Terminal
from dicom_node.runtime.printable import printable


def check(
    url: Annotated[
        str,
        typer.Argument(metavar="URL", help="address of a remote model, such as https://models.example:8443"),
    ],
    *,
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="file with the token that the model asks for")
    ] = None,
    tls_ca: Annotated[
        Path | None,
        typer.Option("--tls-ca", help="certificates to trust, as PEM; those of the system if absent"),
    ] = None,
    seconds: Annotated[
        float, typer.Option("--seconds", min=1, max=600, help="most seconds of one answer")
    ] = 60,
    film: Annotated[
        list[Path] | None,
        typer.Option("--film", help="DICOM file to try a model on that reads those; may be repeated"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check that a remote model answers as the contract says (docs/remote-models.md), on drawn films.

    Exit code 1 when it does not. RESEARCH USE ONLY.
    """
    from models.remote.conformance_check import check_model
    from models.remote.predictor import RemotePredictor
    from models.remote.transport import TransportLimits

    def connect() -> RemotePredictor:
        limits = TransportLimits(seconds=seconds, retries=0)
        return RemotePredictor(url, token_file=token_file, tls_ca=tls_ca, limits=limits)

    done = []
    console = Terminal(highlight=False, soft_wrap=True)
    for each in check_model(connect, {str(path): path for path in film or ()}):
        done.append(each)
        if not as_json:
            mark = {True: "ok", False: "FAILED", None: "note"}[each.ok]
            console.print(f"{mark:<6}  {each.name}: {printable(each.found)}", markup=False)
    conforms = all(each.ok is True for each in done)
    if as_json:
        table = {"conforms": conforms, "checks": [dataclasses.asdict(each) for each in done]}
        typer.echo(json.dumps(table, indent=2))
    if not conforms:
        raise typer.Exit(1)
