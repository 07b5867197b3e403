"""``models``: what is installed, whether it is whole, and encoders to train from.

Heavy libraries are imported inside the commands, because the root command imports this module at every start.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicom_node.cli.evaluate import one_sentence
from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from models.bundles.bundle import Bundle
    from models.pretrained.encoders import Encoder

app = typer.Typer(help="List, show and verify models; pull encoders to train from.", no_args_is_help=True)

_MEGABYTE = 1_000_000
_PIPE_COLUMNS = 160

Cache = Annotated[
    Path | None,
    typer.Option("--cache", metavar="DIR", help="of the encoders; ~/.cache/dicom-node/encoders when absent"),
]
AsJson = Annotated[bool, typer.Option("--json", help="for scripts")]


@app.command("list")
def list_(cache: Cache = None, as_json: AsJson = False) -> None:
    """List the model bundles that come with the package, and the encoders to train from."""
    with one_sentence():
        bundles = [_bundle_row(path) for path in _shipped()]
        encoders = [_encoder_row(name, _cache(cache)) for name in _encoders(_cache(cache))]
    if as_json:
        typer.echo(json.dumps({"bundles": bundles, "encoders": encoders}, indent=2))
        return
    console = _console()
    columns = ("bundle", "architecture", "labels", "text", "MB", "test AUC", "state")
    console.print(_table(columns, (_bundle_cells(row) for row in bundles)))
    console.print(_table(("encoder", "recipe: tower", "kind", "MB", "state"), map(_encoder_cells, encoders)))
    console.print("Research use only.")


@app.command()
def show(
    bundle: Annotated[str, typer.Argument(help="name of a shipped bundle, or a folder")],
    as_json: AsJson = False,
) -> None:
    """Show a bundle: how it is built and fed, its labels, their calibration and what was measured."""
    with one_sentence():
        from models.bundles.bundle import find_bundle, read_bundle

        found = read_bundle(find_bundle(bundle))
        facts, labels = _facts(found), _labels(found)
    if as_json:
        typer.echo(json.dumps({**facts, "labels": labels}, indent=2))
        return
    console = _console()
    console.print(_table(("", ""), ((name, _said(value)) for name, value in facts.items()), header=False))
    cells = (tuple(_said(value) for value in label.values()) for label in labels)
    console.print(_table(("label", "name", "code", "curve", "threshold", "positive", "test AUC"), cells))
    console.print("Research use only: a score is no probability without a curve, and neither is a diagnosis.")


@app.command()
def verify(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME]...", help="bundles, folders, or encoders as OWNER/NAME; all when absent"
        ),
    ] = None,
    cache: Cache = None,
    as_json: AsJson = False,
) -> None:
    """Verify hashes, weights and labels. Exit code 1 when something is wrong, with what it is."""
    folder = _cache(cache)
    chosen = names or [*map(str, _shipped()), *(name for name in _encoders(folder) if _cached(name, folder))]
    results = {name: _problem(name, folder) for name in chosen}
    if as_json:
        typer.echo(json.dumps(results, indent=2))
    else:
        console = Console(highlight=False, soft_wrap=True)
        for name, problem in results.items():
            console.print(f"{name}: {problem or 'whole'}", markup=False)
    if any(results.values()):
        raise typer.Exit(1)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="of an encoder on the Hugging Face hub")],
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="folder that holds its files; nothing is downloaded then"),
    ] = None,
    revision: Annotated[
        str | None, typer.Option("--revision", help="branch, tag or commit of the hub; main when absent")
    ] = None,
    cache: Cache = None,
) -> None:
    """Keep an encoder for training, with its hashes beside it, in the layout of the Hugging Face hub.

    Only weights, configuration and tokenizer are kept. Mind the terms under which the encoder is published.
    """
    if source is not None and revision is not None:
        raise ConfigurationError("--revision is the hub's; a folder given with --from has none")
    with one_sentence():
        from dicom_node.cli import hub
        from models.pretrained.encoders import SUMS, adopt

        folder = _cache(cache)
        encoder = hub.pull(name, folder, revision) if source is None else adopt(source, name, folder)
    typer.echo(
        f"{name}: {encoder.kind}, {_megabytes(encoder.path)} MB in {encoder.path}, hashes in {SUMS}; "
        f"a recipe starts from it with hf:{name}"
    )


def _cache(given: Path | None) -> Path:
    from models.pretrained.encoders import encoders_folder

    return given or encoders_folder()


def _shipped() -> list[Path]:
    from models.bundles.bundle import MANIFEST
    from models.bundles.shipped import shipped_folder

    return sorted(file.parent for file in shipped_folder().glob(f"*/{MANIFEST}"))


def _encoders(cache: Path) -> list[str]:
    from models.pretrained.encoders import cached_names, recommended

    return list(dict.fromkeys([*recommended(), *cached_names(cache)]))


def _cached(name: str, cache: Path) -> bool:
    from models.pretrained.encoders import folder_of

    return folder_of(name, cache).is_dir()


def _problem(name: str, cache: Path) -> str:
    """Look at a bundle or an encoder as closely as possible; empty when it is whole."""
    from models.bundles.bundle import find_bundle, read_bundle
    from models.errors import ModelError
    from models.pretrained.encoders import cached_names, folder_of, read_encoder

    try:
        if name in cached_names(cache):
            encoder = read_encoder(folder_of(name, cache))
            encoder.state()
            encoder.tokenizer()
        else:
            read_bundle(find_bundle(name)).network()
    except ModelError as error:
        return str(error)
    return ""


def _bundle_row(path: Path) -> dict[str, Any]:
    from models.bundles.bundle import read_bundle
    from models.errors import ModelError

    try:
        bundle = read_bundle(path)
    except ModelError as error:
        return {"bundle": path.name, "path": str(path), "problem": str(error)}
    manifest = bundle.manifest
    return {
        "bundle": manifest.folder,
        "path": str(path),
        "summary": manifest.summary,
        "architecture": manifest.architecture,
        "labels": len(bundle.labels),
        "text": manifest.text,
        "bytes": _bytes(path),
        "test_auc": _measured(bundle, "macro").get("auc"),
        "problem": "",
    }


def _encoder_row(name: str, cache: Path) -> dict[str, Any]:
    from models.errors import ModelError
    from models.pretrained.encoders import folder_of, read_encoder, recommended

    row: dict[str, Any] = {"encoder": name, "recipe": recommended().get(name), "pulled": _cached(name, cache)}
    if not row["pulled"]:
        return {**row, "problem": ""}
    path = folder_of(name, cache)
    try:
        encoder: Encoder = read_encoder(path)
    except ModelError as error:
        return {**row, "path": str(path), "problem": str(error)}
    return {**row, "path": str(path), "kind": encoder.kind, "bytes": _bytes(path), "problem": ""}


def _facts(bundle: Bundle) -> dict[str, Any]:
    manifest, calibration = bundle.manifest, bundle.calibration
    macro = _measured(bundle, "macro")
    return {
        "bundle": manifest.folder,
        "summary": manifest.summary,
        "path": str(bundle.path),
        "architecture": manifest.architecture,
        "arguments": dict(manifest.arguments),
        "text": manifest.text,
        "preprocessing": manifest.preprocessing.table(),
        "embedding": manifest.embedding,
        "explanation": manifest.explanation,
        "weights_sha256": bundle.weights_sha256,
        "calibrated_on": f"{calibration.n_studies} studies of {calibration.dataset} {calibration.split}",
        "test_auc": macro.get("auc"),
        "test_auc_interval": [macro.get("auc_low"), macro.get("auc_high")],
        "test_labels": macro.get("n_labels"),
    }


def _labels(bundle: Bundle) -> list[dict[str, Any]]:
    measured = _measured(bundle, "labels")
    rows = []
    for label in bundle.labels:
        entry = bundle.calibration.labels[label.key]
        rows.append(
            {
                "key": label.key,
                "name": label.name,
                "code": f"{label.code.value} {label.code.scheme}",
                "curve": entry.method,
                "threshold": entry.threshold,
                "n_positive": entry.n_positive,
                "test_auc": measured.get(label.key, {}).get("auc"),
            }
        )
    return rows


def _measured(bundle: Bundle, part: str) -> Mapping[str, Any]:
    """One part of what was measured on the test split; empty for a bundle without figures."""
    from models.bundles.manifest import METRICS

    if METRICS not in bundle.hashes:
        return {}
    figures = json.loads((bundle.path / METRICS).read_text(encoding="utf-8"))
    found: Mapping[str, Any] = figures.get("test", {}).get(part, {})
    return found


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _megabytes(folder: Path) -> str:
    return f"{_bytes(folder) / _MEGABYTE:.1f}"


def _bundle_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    size = "" if "bytes" not in row else f"{row['bytes'] / _MEGABYTE:.1f}"
    said = (_said(row.get(name)) for name in ("bundle", "architecture", "labels", "text"))
    return (*said, size, _said(row.get("test_auc")), row["problem"] or "whole")


def _encoder_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    size = "" if "bytes" not in row else f"{row['bytes'] / _MEGABYTE:.1f}"
    state = row["problem"] or ("whole" if row["pulled"] else "-")
    return (row["encoder"], _said(row["recipe"]), _said(row.get("kind")), size, state)


def _said(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {entry}" for name, entry in value.items())
    if isinstance(value, list):
        return " to ".join(map(_said, value))
    return "-" if value is None else str(value)


def _console() -> Console:
    """Standard output; in a pipe as wide as the tables are."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_PIPE_COLUMNS)


def _table(columns: Iterable[str], rows: Iterable[tuple[str, ...]], *, header: bool = True) -> Table:
    table = Table(*columns, box=None, pad_edge=False, show_header=header)
    for column in table.columns[:-1]:
        column.no_wrap = True
    for row in rows:
        table.add_row(*map(escape, row))
    return table
