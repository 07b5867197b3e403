"""Rules that read reports, agreement of two readings, and the document that says what its JSON file says."""

from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from models.labels.vocabulary import load_vocabulary
from tests.bench.label_agreement import DOCUMENT, FIGURES, VERDICT_NAMES, agreement, document, read_verdicts
from tests.bench.report_rules import TERMS, read_statements


@pytest.mark.parametrize(
    ("text", "key", "statement"),
    [
        ("Mild cardiomegaly.", "cardiomegaly", "stated"),
        ("The heart is not enlarged.", "cardiomegaly", "denied"),
        ("No pneumothorax, consolidation or large effusion.", "pleural_effusion", "denied"),
        ("No pneumothorax. Small left pleural effusion.", "pleural_effusion", "stated"),
        ("No pneumothorax, mild cardiomegaly.", "cardiomegaly", "stated"),
        ("No focal consolidation but there is atelectasis.", "atelectasis", "stated"),
        ("Atelectasis versus infiltrate at the left base.", "atelectasis", "doubted"),
        ("Atelectasis versus infiltrate at the left base.", "airspace_disease", "doubted"),
        ("An effusion cannot be excluded.", "pleural_effusion", "doubted"),
        ("Opacities, pulmonary edema difficult to entirely exclude.", "edema", "doubted"),
        ("Maybe due to scarring.", "fibrosis", "doubted"),
        ("Please correlate clinically for pneumonia.", "pneumonia", "doubted"),
        # What a first version of the rules read wrongly:
        ("No there is an dextroscoliosis of the thoracic spine.", "scoliosis", "stated"),
        ("There is no pneumothorax the lungs are hyperinflated.", "hyperinflation", "stated"),
        ("No pneumothorax, healed right rib fracture noted.", "fractures", "stated"),
        ("Consolidation, atelectasis and blunting at the left base have cleared.", "consolidation", "denied"),
        ("Few calcified granulomata are noted.", "calcified_granuloma", "stated"),
        ("Lungs are mildly under expanded.", "volume_loss", "stated"),
        ("Moderate hemopneumothorax.", "pleural_effusion", "stated"),
        ("Increased kyphotic curvature.", "scoliosis", None),
        ("A pericardial effusion.", "pleural_effusion", None),
    ],
)  # fmt: skip
def test_a_report_states_doubts_or_denies(text: str, key: str, statement: str | None) -> None:
    assert read_statements(text).get(key) == statement


def test_the_strongest_statement_of_a_report_counts() -> None:
    assert read_statements("No effusion. Possible effusion. An effusion.")["pleural_effusion"] == "stated"
    assert read_statements("Possible effusion. No effusion.")["pleural_effusion"] == "doubted"


def test_the_agreement_is_that_of_scikit_learn() -> None:
    drawn = np.random.default_rng(1)
    mesh = drawn.random(80) < 0.3
    rules = np.where(drawn.random(80) < 0.8, mesh, ~mesh)
    found = agreement(mesh, rules)
    assert found["kappa"] == pytest.approx(cohen_kappa_score(mesh, rules))
    assert found["low"] < found["kappa"] < found["high"]
    assert found["both"] == (mesh & rules).sum()


def test_the_verdicts_are_of_labels_that_the_rules_read() -> None:
    verdicts = read_verdicts()
    assert len(verdicts) >= 60
    assert {key for _, key in verdicts} <= set(TERMS) <= set(load_vocabulary().labels)
    assert set(verdicts.values()) <= set(VERDICT_NAMES)


def test_the_document_is_that_of_its_figures() -> None:
    """Mend it with `python -m tests.bench.label_agreement --data FOLDER --write`."""
    text, figures = DOCUMENT.read_text("utf-8"), json.loads(FIGURES.read_text("utf-8"))
    assert document(text, figures) == text
    assert figures["verdicts"]["judged"] == len(read_verdicts())
    assert sum(figures["kinds"].values()) == figures["disagreements"]
