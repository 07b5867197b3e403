"""Calibration of a bundle on a site's own films, written as a new version of the bundle."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.bundles.bundle import CALIBRATION, Bundle, write_files
from models.bundles.manifest import CARD, METRICS, read_verified
from models.bundles.predictor import Predictor
from models.bundles.study_predictions import predict_studies
from models.data.dataset import FilmDataset, targets
from models.errors import UsageError
from models.foreign.importer import card_stub
from models.labels.calibration import Calibration, calibrate


def calibrate_bundle(
    predictor: Predictor,
    films: FilmDataset,
    folder: Path,
    *,
    split: str,
    version: str = "",
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Bundle:
    """Fit calibration and thresholds, and write the bundle with them under a new version.

    The figures of the old version are not taken over: they were measured with other thresholds.

    Parameters
    ----------
    films
        Labelled films.
    folder
        Folder in which the bundle's folder is made.
    split
        Split of the films to fit to.
    version
        Version of the new bundle; the next one if empty.

    Raises
    ------
    UsageError
        If the new folder exists, or the version is none.
    DatasetError
        If a film cannot be read, or there is no such split.
    """
    old = predictor.bundle
    try:
        manifest = replace(old.manifest, version=version or next_version(old.manifest.version))
    except ValueError as error:
        raise UsageError(str(error)) from error
    path = folder / manifest.folder
    if path.exists():
        raise UsageError(f"{path} exists: choose another --version or --out")
    keys = tuple(label.key for label in old.labels)
    studies = films.split(split)
    predictions = predict_studies(predictor, studies, progress)
    scores = np.array([[finding.score for finding in each.findings] for each in predictions])
    known = np.array([[study.knows(key) for key in keys] for study in studies], bool)
    fitted = calibrate(keys, targets(studies, keys), scores, dataset=films.name, split=split, known=known)
    left_out = (CALIBRATION, METRICS, CARD)
    files: dict[str, str | bytes] = {
        name: read_verified(old.path, name, sha256)
        for name, sha256 in old.hashes.items()
        if name not in left_out
    }
    origin = f"{old.manifest.folder}, calibrated on {len(studies)} studies of `{films.name}` {split}."
    return write_files(
        path,
        manifest,
        {**files, CALIBRATION: fitted.dump(), CARD: card_stub(manifest, old.labels, origin)},
        lambda bundle: Predictor(bundle).warm_up(),
    )


def next_version(version: str) -> str:
    """Version whose last number is one higher."""
    return re.sub(r"\d+$", lambda last: str(int(last[0]) + 1), version)


def uncalibrated_labels(calibration: Calibration) -> tuple[str, ...]:
    """Keys of the labels that have no probability."""
    return tuple(key for key, label in calibration.labels.items() if label.method == "none")
