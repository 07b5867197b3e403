"""Pooled features of Open-i films, read once by a network and kept in a folder.

All four bundles of one training are one network with other heads, so its features give the scores of each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

from models.bundles.bundle import Bundle
from models.bundles.predictor import Predictor
from models.data.dataset import LabelledStudy
from models.processing.types import FloatArray

_STUDIES_AT_ONCE = 8


@dataclass(frozen=True, slots=True, eq=False)
class FilmFeatures:
    """Features of the films of some studies.

    Attributes
    ----------
    pooled
        Shape (films, channels), float32: the last feature map of each film, averaged over the film.
    study_of
        Shape (films,): place of each film's study.
    """

    pooled: FloatArray
    study_of: NDArray[np.int64]

    def by_study(self, values: FloatArray) -> FloatArray:
        """Means over the films of each study, of values with one row a film."""
        counts = np.bincount(self.study_of)
        sums = np.zeros((len(counts), values.shape[1]))
        np.add.at(sums, self.study_of, values)
        return np.asarray(sums / counts[:, None], np.float32)

    def scores(self, bundle: Bundle) -> FloatArray:
        """Scores of a bundle of the same network, shape (studies, labels), as its predictor gives them."""
        head = load_file(bundle.path / "weights.safetensors")
        logits = self.pooled @ head["head.weight"].astype(np.float32).T + head["head.bias"]
        return self.by_study(np.asarray(1 / (1 + np.exp(-logits)), np.float32))

    def embeddings(self, bundle: Bundle) -> FloatArray:
        """Image embeddings of a bundle with a joint space, shape (studies, width), at unit length."""
        state = load_file(bundle.path / "weights.safetensors")
        weight = state["image_projection.weight"].astype(np.float32)
        return unit(self.by_study(unit(self.pooled @ weight.T + state["image_projection.bias"])))


def unit(vectors: FloatArray) -> FloatArray:
    """Rows at unit length; a row of zeros stays one."""
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12), np.float32)


def film_features(bundle: str, studies: Sequence[LabelledStudy], kept: Path) -> FilmFeatures:
    """Features of films: from the file where it is kept, else read and kept there.

    Parameters
    ----------
    bundle
        Name of a bundle of a convolutional family.
    kept
        File, of the suffix ``.npz``; it names the weights and the films, and is made anew for others.
    """
    predictor = Predictor.load(bundle, runtime="auto", threads=1)
    names = np.array([path.name for study in studies for path in study.films])
    study_of = np.array([row for row, study in enumerate(studies) for _ in study.films], np.int64)
    if kept.is_file():
        with np.load(kept) as file:
            if str(file["weights"]) == predictor.identity.weights_sha256 and np.array_equal(
                file["names"], names
            ):
                return FilmFeatures(file["pooled"], study_of)
    rows: list[FloatArray] = []
    for start in range(0, len(studies), _STUDIES_AT_ONCE):
        some = [study.load() for study in studies[start : start + _STUDIES_AT_ONCE]]
        for traced in predictor.trace(some):
            if traced.features is None:
                raise SystemExit(f"bundle {bundle} keeps no feature map: name a convolutional one")
            rows.append(traced.features.mean(axis=(2, 3)))
    pooled = np.concatenate(rows).astype(np.float32)
    kept.parent.mkdir(parents=True, exist_ok=True)
    draft = kept.with_name(f".{kept.name}")
    with draft.open("wb") as file:
        np.savez(file, pooled=pooled, names=names, weights=np.array(predictor.identity.weights_sha256))
    draft.replace(kept)
    return FilmFeatures(pooled, study_of)
