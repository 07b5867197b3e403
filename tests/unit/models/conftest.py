"""A bundle of some hundred kilobytes with random weights, and films drawn for it."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.bundles.bundle import Bundle, Manifest, write_bundle
from models.bundles.predictor import Predictor
from models.labels.calibration import Calibration, LabelCalibration
from models.processing.transforms import Preprocessing
from models.processing.types import Film, Study

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


def draw(rows: int, columns: int, seed: int) -> np.ndarray:
    """A film with something on it, float32 in [0, 1]."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : rows * 1j, 0 : 1 : columns * 1j]
    centre = random.uniform(0.2, 0.8, 2)
    blob = np.exp(-((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / 0.05)
    return np.clip(0.5 * blob + 0.2 * x + 0.1 * random.random((rows, columns)), 0, 1).astype(np.float32)


def study(seed: int = 0) -> Study:
    """Two films of different shapes."""
    return Study(
        (Film(f"{seed}.front", draw(150, 120, seed)), Film(f"{seed}.side", draw(90, 130, seed + 1000)))
    )


def make_network(manifest: Manifest = MANIFEST, outputs: int = len(KEYS)) -> torch.nn.Module:
    """The same random network every time, with answers that differ between films."""
    torch.manual_seed(7)
    network = manifest.network(outputs).eval()
    torch.nn.init.normal_(network.head.weight, std=0.5)
    return network


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """A whole bundle, free to be spoilt."""
    return write_bundle(tmp_path / "tiny-0.0.1", MANIFEST, KEYS, make_network(), CALIBRATION)


@pytest.fixture(scope="session")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """The tiny bundle, loaded; not to be changed."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny-0.0.1"
    return Predictor(write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION))


MAJORS = ("normal", "Cardiomegaly/mild", "Pleural Effusion/left|Nodule/lung", "Nodule/lung")


def write_openi(root: Path, counts: dict[str, int]) -> Path:
    """A data set in the layout of Open-i, with so many studies a split; every second one has two films."""
    (root / "images").mkdir(parents=True)
    rows = []
    number = 0
    for split, count in counts.items():
        for _ in range(count):
            number += 1
            majors = MAJORS[number % len(MAJORS)]
            for view in range(1 + number % 2):
                name = f"{number}_IM-{view}.png"
                film = draw(64, 64, number * 10 + view)
                # Something to learn: a bright corner for an abnormal heart.
                if majors.startswith("Cardiomegaly"):
                    film[:24, :24] = 1
                Image.fromarray((film * 255).astype(np.uint8)).save(root / "images" / name)
                rows.append({"file": name, "uid": str(number), "mesh_major": majors, "split": split})
    with (root / "index.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["file", "uid", "mesh_major", "split"])
        writer.writeheader()
        writer.writerows(rows)
    return root


RECIPE = """
name = "tiny-findings"
version = "0.0.1"
summary = "A few findings of drawn films"
dataset = "openi"
list = "findings"
auxiliary_reports = 4
seed = 3

[architecture]
name = "convnet"
start = "random"

[architecture.arguments]
backbone = "test_efficientnet"

[preprocessing]
grid = 64
low = 0.5
high = 99.5
size = 48
channels = 3
mean = 0.5
std = 0.5

[[stages]]
epochs = 1
size = 32

[[stages]]
epochs = 2
size = 48

[optimizer]
batch_size = 8
learning_rate = 1e-3
"""


@pytest.fixture
def recipe_file(tmp_path: Path) -> Path:
    """A recipe that trains in seconds."""
    path = tmp_path / "tiny-findings.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path
