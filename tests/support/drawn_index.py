"""Indexes of reference cases with random vectors, and a tiny bundle that embeds films and reports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from models.bundles.bundle import write_bundle
from models.bundles.predictor import Predictor
from models.processing.types import Identity
from models.retrieval.index import CaseIndex, EmbeddingOrigin, ReferenceCase
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network

IDENTITY = Identity("drawn", "1.0.0", "a" * 64, "b" * 16, "")
LABELS = (frozenset({"normal"}), frozenset({"cardiomegaly"}), frozenset({"nodule", "pleural_effusion"}))
REPORTS = ("The lungs are clear.", "The heart is enlarged.", "Small left effusion. A nodule.")

JOINT = replace(MANIFEST, name="joint", arguments=MANIFEST.arguments | {"joint": 16}, embedding=16)


def unit(count: int, width: int, seed: int) -> np.ndarray:
    """Random unit vectors, shape (count, width), float32."""
    drawn = np.random.default_rng(seed).normal(size=(count, width))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def make_index(
    count: int = 30, width: int = 8, *, reports: bool = True, name: str = "drawn train"
) -> CaseIndex:
    """Index of cases with random vectors; every fifth case has no report."""
    told = unit(count, width, 2)
    told[::5] = 0
    cases = tuple(
        ReferenceCase(f"drawn:{n}", LABELS[n % 3], REPORTS[n % 3] if reports and n % 5 else "")
        for n in range(count)
    )
    origin = EmbeddingOrigin.of(IDENTITY, "encoder" if reports else "")
    return CaseIndex(
        name, origin, cases, unit(count, width, 1), unit(count, width, 3), told if reports else None
    )


def write_joint(folder: Path) -> Path:
    """Write a bundle with random weights that embeds films in the space of reports."""
    torch.manual_seed(3)
    return write_bundle(folder, JOINT, KEYS, make_network(JOINT), CALIBRATION).path


def load_joint(folder: Path) -> Predictor:
    """Write that bundle and load it."""
    return Predictor.load(write_joint(folder))
