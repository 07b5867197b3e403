"""Study text: the part of a report that a model may read."""

from __future__ import annotations

import pytest

from models.errors import UsageError
from models.labels.vocabulary import load_vocabulary
from models.text.study_text import readable, scrub, terms

VOCABULARY = load_vocabulary()


@pytest.mark.parametrize(
    ("report", "left"),
    [
        ("Sternotomy wires. Cardiomegaly.", "Sternotomy wires."),
        ("Small left PLEURAL EFFUSIONS after surgery.", "Small left after surgery."),
        ("Hernia, hiatal, behind the trachea.", "behind the trachea."),
        ("Hiatal hernia behind the trachea.", "behind the trachea."),
        ("Patchy air-space\ndisease on the left.", "Patchy on the left."),
        ("Bilateral pneumothoraces with chest tubes.", "Bilateral with chest tubes."),
        ("The trachea is midline.", "The trachea is midline."),
        ("Massive gastric distension.", "Massive gastric distension."),
    ],
)
def test_the_terms_of_the_labels_go_and_nothing_else(report: str, left: str):
    assert scrub(report, VOCABULARY) == left


@pytest.mark.parametrize(
    "report",
    [
        "No focal consolidation.",
        "No focal consolidation, pneumothorax, or large pleural effusion.",
        "There is no evidence of pneumothorax.",
        "The lungs are clear without evidence of acute infiltrate or effusion.",
        "No acute cardiopulmonary abnormality identified.",
        "Negative for pneumothorax.",
        "Free of any focal infiltrates.",
        "Pleural effusion is not seen.",
        "The edema has resolved.",
        "1. No acute disease. 2. No pneumonia.",
    ],
)
def test_a_negation_goes_with_what_it_denies(report: str):
    left = scrub(report, VOCABULARY).casefold()
    for word in ("no ", "not", "without", "negative", "free", "evidence", "resolved", "acute", "focal"):
        assert word not in left


def test_a_negation_of_something_else_stays():
    assert scrub("No comparison film. Cardiomegaly.", VOCABULARY) == "No comparison film."
    assert scrub("No comparison film but cardiomegaly.", VOCABULARY) == "No comparison film but."


def test_terms_that_meet_when_another_goes_are_found_too():
    assert scrub("Rib pneumonia fracture, air heart space near wires.", VOCABULARY) == "near wires."
    assert scrub("Bone mass spur: pleural nodule fluid near wires.", VOCABULARY).endswith("near wires.")


def test_a_report_that_only_named_its_labels_is_empty():
    assert scrub("Normal. No acute disease. The lungs are clear.", VOCABULARY) == "The lungs are."
    assert scrub("Cardiomegaly. No pneumothorax.", VOCABULARY) == ""
    assert scrub("", VOCABULARY) == ""


def test_the_terms_of_a_label_are_its_names_headings_and_synonyms():
    label = VOCABULARY.labels["hernia"]
    assert {"hernia", "hernia, hiatal", "hiatal hernia", "herniated"} <= terms(label)
    assert {"infection", "pneumonia"} <= terms(VOCABULARY.labels["infection_group"])
    assert "cardiac shadow" in terms(VOCABULARY.labels["abnormal_cardiac_shadow"])
    # The qualifier of a rule, never the place that it is about.
    assert "hyperdistention" in terms(VOCABULARY.labels["hyperinflation"])
    assert "lung" not in terms(VOCABULARY.labels["hyperinflation"])


@pytest.mark.parametrize("key", VOCABULARY.labels)
def test_every_label_can_be_said(key: str):
    for term in terms(VOCABULARY.labels[key]):
        assert term == term.casefold().strip()
        assert scrub(f"Wires with {term} near the clavicle.", VOCABULARY) == "Wires with near the clavicle."


def test_a_study_gives_the_text_that_was_asked_for():
    def text(
        kind: str, indication: str = "Cough, pneumonia?", report: str = "Pneumonia by the port."
    ) -> str | None:
        return readable(kind, indication=indication, report=report, vocabulary=VOCABULARY)

    assert text("none") is None
    assert text("indication") == "Cough, pneumonia?"
    assert text("report") == "by the port."
    assert text("indication", indication=" ") is None
    assert text("report", report="Pneumonia.") is None
    with pytest.raises(UsageError, match="no text 'conclusion'; use one of none, indication, report"):
        text("conclusion")
