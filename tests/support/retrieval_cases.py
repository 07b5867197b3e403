"""Indexes with vectors that are drawn, and a tiny bundle with a joint space."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from models.bundles.bundle import write_bundle
from models.bundles.predictor import Predictor
from models.processing.types import Identity
from models.retrieval.index import Case, Index, Origin
from tests.unit.models.conftest import CALIBRATION, KEYS, MANIFEST, make_network

IDENTITY = Identity("drawn", "1.0.0", "a" * 64, "b" * 16, "")
LABELS = (frozenset({"normal"}), frozenset({"cardiomegaly"}), frozenset({"nodule", "pleural_effusion"}))
REPORTS = ("The lungs are clear.", "The heart is enlarged.", "Small left effusion. A nodule.")

JOINT = replace(MANIFEST, name="joint", arguments=MANIFEST.arguments | {"joint": 16}, embedding=16)


def unit(count: int, width: int, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, width))
    return (drawn / np.linalg.norm(drawn, axis=1, keepdims=True)).astype(np.float32)


def make_index(count: int = 30, width: int = 8, *, reports: bool = True, name: str = "drawn train") -> Index:
    """Cases with random places; every fifth has no report."""
    told = unit(count, width, 2)
    told[::5] = 0
    cases = tuple(
        Case(f"drawn:{n}", LABELS[n % 3], REPORTS[n % 3] if reports and n % 5 else "") for n in range(count)
    )
    origin = Origin.of(IDENTITY, "encoder" if reports else "")
    return Index(name, origin, cases, unit(count, width, 1), unit(count, width, 3), told if reports else None)


def write_joint(folder: Path) -> Path:
    """A bundle whose films share a space with reports; random weights."""
    torch.manual_seed(3)
    return write_bundle(folder, JOINT, KEYS, make_network(JOINT), CALIBRATION).path


def load_joint(folder: Path) -> Predictor:
    return Predictor.load(write_joint(folder))
