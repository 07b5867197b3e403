"""Tables of ``models``: bundles, encoders and labels as rows for JSON and for the terminal."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from models.bundles.bundle import Bundle
    from models.pretrained.encoders import Encoder

BUNDLE_COLUMNS = ("bundle", "architecture", "labels", "text", "MB", "test AUC", "used", "state")
ENCODER_COLUMNS = ("encoder", "recipe: tower", "kind", "MB", "state")
LABEL_COLUMNS = ("label", "name", "code", "calibration", "threshold", "positive", "test AUC")

_BYTES_PER_MEGABYTE = 1_000_000


def bundle_row(path: Path) -> dict[str, Any]:
    """Return the row of a bundle in ``models list``; with ``problem`` if it is damaged."""
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


def configured_roles(settings: Settings) -> dict[Path, str]:
    """Return the folders of the bundles that a node reads with, and their roles; missing ones are left out.

    Parameters
    ----------
    settings
        Settings of the node.
    """
    from models.bundles.bundle import find_bundle
    from models.errors import BundleError

    roles: dict[Path, list[str]] = {}
    for served in settings.served_models:
        if served.bundle is not None:
            with contextlib.suppress(BundleError):
                roles.setdefault(find_bundle(served.bundle).resolve(), []).append(served.role.value)
    return {path: ", ".join(found) for path, found in roles.items()}


def encoder_row(name: str, cache: Path) -> dict[str, Any]:
    """Return the row of an encoder in ``models list``; with ``problem`` if it is damaged.

    Parameters
    ----------
    name
        Name on the Hugging Face hub, OWNER/NAME.
    cache
        Folder of the downloaded encoders.
    """
    from models.errors import ModelError
    from models.pretrained.encoder_cache import encoder_folder, recommended_encoders

    row: dict[str, Any] = {
        "encoder": name,
        "recipe": recommended_encoders().get(name),
        "pulled": encoder_folder(name, cache).is_dir(),
    }
    if not row["pulled"]:
        return {**row, "problem": ""}
    from models.pretrained.encoders import read_encoder

    path = encoder_folder(name, cache)
    try:
        encoder: Encoder = read_encoder(path)
    except ModelError as error:
        return {**row, "path": str(path), "problem": str(error)}
    return {**row, "path": str(path), "kind": encoder.kind, "bytes": _bytes(path), "problem": ""}


def bundle_facts(bundle: Bundle) -> dict[str, Any]:
    """Return the facts of a bundle in ``models show``."""
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
        "calibrated_on": f"{calibration.n_studies} studies of {calibration.dataset} {calibration.split}"
        if calibration.n_studies
        else "nothing yet: scores are no probabilities",
        "test_auc": macro.get("auc"),
        "test_auc_interval": [macro.get("auc_low"), macro.get("auc_high")],
        "test_labels": macro.get("n_labels"),
    }


def label_rows(bundle: Bundle) -> list[dict[str, Any]]:
    """Return the rows of a bundle's labels in ``models show``."""
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
    """Return one part of the figures on the test split; empty for a bundle without figures."""
    from models.bundles.manifest import METRICS

    if METRICS not in bundle.hashes:
        return {}
    figures = json.loads((bundle.path / METRICS).read_text(encoding="utf-8"))
    found: Mapping[str, Any] = figures.get("test", {}).get(part, {})
    return found


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def megabytes(folder: Path) -> str:
    """Return the size of a folder's files in megabytes, as text."""
    return f"{_bytes(folder) / _BYTES_PER_MEGABYTE:.1f}"


def bundle_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the table cells of :func:`bundle_row`, in the order of `BUNDLE_COLUMNS`."""
    size = "" if "bytes" not in row else f"{row['bytes'] / _BYTES_PER_MEGABYTE:.1f}"
    cells = (as_text(row.get(name)) for name in ("bundle", "architecture", "labels", "text"))
    used = row.get("used") or "-"
    return (*cells, size, as_text(row.get("test_auc")), used, row["problem"] or "whole")


def encoder_cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the table cells of :func:`encoder_row`, in the order of `ENCODER_COLUMNS`."""
    size = "" if "bytes" not in row else f"{row['bytes'] / _BYTES_PER_MEGABYTE:.1f}"
    state = row["problem"] or ("whole" if row["pulled"] else "-")
    return (row["encoder"], as_text(row["recipe"]), as_text(row.get("kind")), size, state)


def as_text(value: Any) -> str:
    """Return a value as the text of a table cell."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} = {entry}" for name, entry in value.items())
    if isinstance(value, list):
        return " to ".join(map(as_text, value))
    return "-" if value is None else str(value)


def make_table(columns: Iterable[str], rows: Iterable[tuple[str, ...]], *, header: bool = True) -> Table:
    """Return a table without lines; only its last column wraps."""
    table = Table(*columns, box=None, pad_edge=False, show_header=header)
    for column in table.columns[:-1]:
        column.no_wrap = True
    for row in rows:
        table.add_row(*map(escape, row))
    return table
