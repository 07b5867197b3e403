"""Document of the published figures: it says what its JSON file says."""

from __future__ import annotations

import json

from models.bundles.bundle import find_bundle
from tests.bench.published_figures import DOCUMENT, FIGURES, PROTOCOL, document


def test_the_document_is_that_of_its_figures() -> None:
    """Mend it with `python -m tests.bench.published_figures --data FOLDER --write`."""
    text = DOCUMENT.read_text("utf-8")
    assert document(text, json.loads(FIGURES.read_text("utf-8"))) == text


def test_the_figures_are_of_the_shipped_bundles() -> None:
    figures = json.loads(FIGURES.read_text("utf-8"))
    for name, folder in figures["bundles"].items():
        assert find_bundle(name).name == folder
    assert set(figures["eighteen"]["labels"]) == set(PROTOCOL)
    assert len(PROTOCOL) == 18
