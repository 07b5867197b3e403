"""Model bundle of some hundred kilobytes with random weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import torch

from models.bundles.bundle import Bundle, write_bundle
from models.bundles.description import Manifest
from models.bundles.onnx_graph import write_graph
from models.labels.calibration import Calibration, LabelCalibration
from models.processing.transforms import Preprocessing

KEYS = ("normal", "cardiomegaly", "pleural_effusion", "nodule")


MANIFEST = Manifest(
    name="tiny",
    version="0.0.1",
    summary="Random weights",
    architecture="convnet",
    arguments={"backbone": "test_efficientnet", "dropout": 0.1},
    text="none",
    preprocessing=Preprocessing(grid=96, size=64, channels=3),
    embedding=256,
    explanation="gradcam",
)


CALIBRATION = Calibration(
    dataset="drawn",
    split="val",
    n_studies=40,
    labels={
        "normal": LabelCalibration("platt", 1.4, -0.3, 0.4, 20, (0.25, 0.125, 0.5)),
        "cardiomegaly": LabelCalibration("platt", 0.8, 0.5, 0.6, 9),
        "pleural_effusion": LabelCalibration("platt", 1.1, 0.1, 0.3, 7),
        "nodule": LabelCalibration("none", 1.0, 0.0, 0.55, 2),
    },
)


def make_network(manifest: Manifest = MANIFEST, outputs: int = len(KEYS)) -> torch.nn.Module:
    """Network with fixed random weights; its scores differ between films."""
    torch.manual_seed(7)
    network = manifest.network(outputs).eval()
    torch.nn.init.normal_(network.head.weight, std=0.5)
    return network


def write_served_bundle(folder: Path) -> str:
    """Write the tiny bundle with a graph, as the shipped ones have, and return its folder.

    A worker reads it in ONNX Runtime: torch would take ten seconds of processor time at each start.
    """
    return str(write_graph(write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION)).path)


def write_named(folder: Path, name: str, shift: float = 0.0) -> Bundle:
    """Write the tiny bundle under another name, with logits that are `shift` higher."""
    network = make_network()
    with torch.no_grad():
        network.head.bias += shift
    manifest = replace(MANIFEST, name=name)
    return write_bundle(folder / f"{name}-0.0.1", manifest, KEYS, network, CALIBRATION)


def reseal(folder: Path) -> None:
    """Update the hashes in the manifest of a bundle whose files were changed."""
    manifest = folder / "bundle.toml"
    lines = []
    for line in manifest.read_text().splitlines():
        name = line.split('"')[1] if line.startswith('"') else ""
        if name and (folder / name).exists():
            lines.append(f'"{name}" = "{hashlib.sha256((folder / name).read_bytes()).hexdigest()}"')
        else:
            lines.append(line)
    manifest.write_text("\n".join(lines) + "\n")


def replace_text(path: Path, old: str, new: str) -> None:
    """Replace a text in a file; it must be there."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
