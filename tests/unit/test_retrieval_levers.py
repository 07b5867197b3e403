"""Levers of the search: the document says what its JSON file says, and the package uses what was best."""

from __future__ import annotations

import json

from models.bundles.bundle import find_bundle
from tests.bench.retrieval_levers import BASELINE, BUNDLE, CHOSEN, DOCUMENT, FIGURES, LEVERS, SPLITS, document


def test_the_document_is_that_of_its_figures() -> None:
    """Mend it with `python -m tests.bench.retrieval_levers --data FOLDER --features FOLDER --write`."""
    text = DOCUMENT.read_text("utf-8")
    assert document(text, json.loads(FIGURES.read_text("utf-8"))) == text


def test_what_is_shipped_gains_more_than_its_interval() -> None:
    figures = json.loads(FIGURES.read_text("utf-8"))
    assert figures["bundle"] == find_bundle(BUNDLE).name
    assert list(figures["levers"]) == list(LEVERS)
    for split in SPLITS:
        chosen = figures["levers"][CHOSEN]["references"][split]
        before = figures["levers"][BASELINE]["references"][split]
        for measure, found in chosen.items():
            assert found["gain"]["low"] > 0
            assert found["value"] > before[measure]["value"]
