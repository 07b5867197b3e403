from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
from pydicom import Dataset

from dicom_node.results.report import Presence, Source
from models.explain.heatmap import Heatmap
from models.explain.targets import best_film, reported_findings
from models.labels.vocabulary import load_vocabulary
from models.processing.types import FindingScore, Identity, Prediction
from worker.report_builder import ONNX_PARAMETER, build_report, identify_algorithm

VOCABULARY = load_vocabulary()
IDENTITY = Identity("tiny", "0.0.1", "ab" * 32, "prep", "cal")


def score(
    key: str, value: float, *, probability: float | None = None, films: tuple[float, ...] = (0.1,)
) -> FindingScore:
    shown = value if probability is None else probability
    return FindingScore(key, value, probability, 0.5, shown >= 0.5, films)


def prediction(*findings: FindingScore) -> Prediction:
    return Prediction(IDENTITY, findings, None)


def report_of(
    *findings: FindingScore, heatmaps: tuple[Heatmap, ...] = (), withheld: dict[str, str] | None = None
):
    return build_report(
        study_instance_uid="1.2",
        revision=1,
        created=datetime(2026, 1, 2, tzinfo=UTC),
        sources=[Source(Dataset())],
        prediction=prediction(*findings),
        labels=VOCABULARY.select([entry.key for entry in findings]),
        heatmaps=heatmaps,
        withheld=withheld,
    )


def test_heat_maps_are_for_present_findings_most_certain_first_and_never_for_normality() -> None:
    read = prediction(
        score("normal", 0.9),
        score("nodule", 0.6),
        score("mass", 0.2),
        score("edema", 0.1, probability=0.8),
    )
    assert reported_findings(read, 8) == ("edema", "nodule")
    assert reported_findings(read, 1) == ("edema",)
    assert reported_findings(read, 0) == ()


def test_a_heat_map_is_drawn_on_the_film_that_shows_the_finding_best() -> None:
    assert best_film(prediction(score("nodule", 0.6, films=(0.2, 0.9, 0.7))), "nodule") == 1


@pytest.mark.parametrize(
    ("normal", "nodule", "expected"),
    [
        (0.9, 0.1, Presence.PRESENT),
        (0.1, 0.9, Presence.ABSENT),
        (0.9, 0.9, Presence.UNDETERMINED),
        (0.1, 0.1, Presence.UNDETERMINED),
    ],
)
def test_normality_is_said_only_when_the_answers_agree(
    normal: float, nodule: float, expected: Presence
) -> None:
    assert report_of(score("normal", normal), score("nodule", nodule)).normality is expected


def test_a_score_is_no_certainty_without_calibration() -> None:
    plain, calibrated = report_of(score("nodule", 0.7), score("mass", 0.7, probability=0.2)).findings
    assert (plain.certainty, plain.score, plain.presence) == (None, 0.7, Presence.PRESENT)
    assert (calibrated.certainty, calibrated.presence) == (0.2, Presence.ABSENT)


def test_the_weights_are_named_in_full() -> None:
    algorithm = report_of(score("nodule", 0.7)).algorithm
    assert algorithm is not None
    assert f"weights_sha256={'ab' * 32}" in algorithm.parameters


def test_the_light_runtime_is_named_and_a_report_without_it_was_computed_in_torch() -> None:
    identity = Identity("tiny", "0.0.1", "ab" * 32, "12", "34")
    light = identify_algorithm(identity, "gate 1", runtime="onnx")
    assert light.parameters[-1] == ONNX_PARAMETER == "runtime=onnxruntime"
    assert identify_algorithm(identity, "gate 1", runtime="torch").parameters == light.parameters[:-1]


def test_why_a_map_is_withheld_goes_with_its_finding() -> None:
    found = report_of(score("nodule", 0.7), score("mass", 0.7), withheld={"mass": "it is flat"})
    assert [entry.withheld for entry in found.findings] == ["", "it is flat"]


def test_each_finding_carries_its_own_maps() -> None:
    values = np.zeros((4, 4), np.float32)
    found = report_of(
        score("nodule", 0.7),
        score("mass", 0.7),
        heatmaps=(Heatmap("mass", "1.2.3", "gradcam", values, (64, 48)),),
    )
    assert [len(entry.saliency) for entry in found.findings] == [0, 1]
    assert found.findings[1].saliency[0].method == "Grad-CAM"
    assert found.findings[1].saliency[0].values.shape == (64, 48)
