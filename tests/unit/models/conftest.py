"""Fixtures for tests of the models: a tiny bundle and a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.bundles.bundle import Bundle, write_bundle
from models.bundles.predictor import Predictor
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """Tiny bundle that a test may change."""
    return write_bundle(tmp_path / "tiny-0.0.1", MANIFEST, KEYS, make_network(), CALIBRATION)


@pytest.fixture(scope="session")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    """Tiny bundle, loaded; tests must not change it."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny-0.0.1"
    return Predictor(write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION))


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
    """Recipe that trains in seconds."""
    path = tmp_path / "tiny-findings.toml"
    path.write_text(RECIPE, encoding="utf-8")
    return path
