"""Exported bundle: what the metadata of an exported ONNX file say, so that it can be imported again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from models.bundles.bundle import Bundle
from models.bundles.bundle_labels import dump_labels, parse_labels
from models.errors import BundleError, ForeignModelError, VocabularyError
from models.labels.calibration import Calibration, parse_calibration
from models.labels.vocabulary import Label
from models.processing.transforms import Preprocessing

RESEARCH_USE: Final = "Research use only. Not a medical device; never for diagnosis."
_FORMAT: Final = "dicom-node bundle 1"


@dataclass(frozen=True, slots=True)
class ExportedBundle:
    """Bundle that a file was exported from.

    Attributes
    ----------
    name, version, summary
        As in :class:`models.bundles.description.Manifest`.
    labels
        Labels of the scores, in order.
    preprocessing
        Preprocessing of the bundle.
    calibration
        Calibration of these labels.
    """

    name: str
    version: str
    summary: str
    labels: tuple[Label, ...]
    preprocessing: Preprocessing
    calibration: Calibration

    @property
    def grey_preprocessing(self) -> Preprocessing:
        """Preprocessing without channels and normalisation, which the exported graph does itself."""
        return replace(self.preprocessing, channels=1, mean=0.0, std=1.0)


def describe_bundle(bundle: Bundle) -> dict[str, str]:
    """Metadata of an exported file, as texts; labels, preprocessing and calibration are JSON."""
    manifest = bundle.manifest
    return {
        "format": _FORMAT,
        "name": manifest.name,
        "version": manifest.version,
        "summary": manifest.summary,
        "use": RESEARCH_USE,
        "bundle_weights_sha256": bundle.weights_sha256,
        "labels": json.dumps(tomllib.loads(dump_labels(bundle.labels))),
        "preprocessing": json.dumps(manifest.preprocessing.table()),
        "calibration": bundle.calibration.dump(),
    }


def read_exported(said: Mapping[str, str], path: Path) -> ExportedBundle | None:
    """Read the metadata of a file; None for one that was exported by something else.

    Parameters
    ----------
    said
        Metadata by name.
    path
        File, for messages.

    Raises
    ------
    ForeignModelError
        If they are damaged.
    """
    if said.get("format") != _FORMAT:
        return None
    try:
        tables: dict[str, Any] = {entry: json.loads(said[entry]) for entry in ("labels", "preprocessing")}
        labels = parse_labels(tables["labels"])
        return ExportedBundle(
            said["name"],
            said["version"],
            said["summary"],
            labels,
            Preprocessing.from_table(tables["preprocessing"]),
            parse_calibration(said["calibration"], [label.key for label in labels]),
        )
    except (KeyError, TypeError, AttributeError, ValueError, BundleError, VocabularyError) as error:
        raise ForeignModelError(f"{path}: its metadata are damaged: {error}") from error
