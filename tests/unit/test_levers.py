"""Levers of reading and of thresholds: the document says what its JSON files say."""

from __future__ import annotations

import json
from types import ModuleType

import pytest

from models.bundles.bundle import find_bundle, read_bundle
from tests.bench import inference_ablation, threshold_ablation, training_levers


@pytest.mark.parametrize("measured", [inference_ablation, threshold_ablation, training_levers])
def test_the_document_is_that_of_its_figures(measured: ModuleType) -> None:
    """Mend it with the command's ``--write``."""
    text, figures = measured.DOCUMENT.read_text("utf-8"), json.loads(measured.FIGURES.read_text("utf-8"))
    assert measured.document(text, figures) == text


@pytest.mark.parametrize("measured", [inference_ablation, threshold_ablation])
def test_the_figures_are_of_the_shipped_bundles(measured: ModuleType) -> None:
    figures = json.loads(measured.FIGURES.read_text("utf-8"))
    shipped = read_bundle(find_bundle(figures["bundle"])).identity
    assert (shipped.name, shipped.version) == (figures["bundle"], figures["version"])
