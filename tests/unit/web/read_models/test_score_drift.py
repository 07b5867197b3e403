"""Drift of scores between two windows of time."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from dicom_node.store import database
from dicom_node.store.states import StudyState
from dicom_node.store.tables import catalogue, finding, reading, study
from dicom_node.web.media.trial_films import TRIAL_DESCRIPTION
from dicom_node.web.read_models.cohort import read_cohort
from dicom_node.web.read_models.score_drift import (
    LEAST_ANALYSES,
    MOST_STEPS,
    DriftWatch,
    holm,
    ks_distance,
    ks_p_value,
    read_drift,
)
from tests.support.offline_node import OfflineNode
from tests.support.peers import until

DAY = 86400.0


@pytest.mark.parametrize(("n", "m"), [(20, 20), (20, 200), (35, 90), (400, 1000)])
@pytest.mark.parametrize("shift", [0.0, 0.3, 1.0])
def test_the_test_is_that_of_scipy(n: int, m: int, shift: float) -> None:
    rng = np.random.default_rng(n + m)
    one, other = np.sort(rng.normal(0, 1, n)), np.sort(rng.normal(shift, 1, m))
    expected = stats.ks_2samp(one, other, method="exact")
    assert ks_distance(one, other) == pytest.approx(expected.statistic)
    assert ks_p_value(ks_distance(one, other), n, m) == pytest.approx(expected.pvalue, abs=0.06)
    assert ks_p_value(ks_distance(one, other), n, m) > 0.9 * expected.pvalue - 0.01  # not too bold


def test_ties_and_equal_samples_are_no_drift() -> None:
    same = np.zeros(30)
    assert ks_distance(same, same) == 0
    assert ks_p_value(0, 30, 30) == 1


def test_p_values_are_corrected_as_statsmodels_does() -> None:
    p_values = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert holm([]) == []


def fill(node: OfflineNode, days: np.ndarray, **scores: np.ndarray) -> None:
    """Enter analyses of as many studies, by their age in days, with their scores by finding."""
    with database.writing(node.index.engine) as connection:
        for number, age in enumerate(days, start=1):
            at = node.now - float(age) * DAY
            connection.execute(study.insert().values(
                id=number, study_instance_uid=f"1.{number}", state=StudyState.REPORTED, revision=1,
                first_received_at=at, last_received_at=at, updated_at=at,
            ))  # fmt: skip
            connection.execute(catalogue.insert().values(
                study_id=number, received_at=at, named=False, person="", patient="", description="",
                study_date="", manufacturer="", views="", search="",
            ))  # fmt: skip
            connection.execute(reading.insert().values(
                id=number, study_id=number, revision=1, created_at=at, model="tiny", model_version="1",
                normality="absent", content="{}",
            ))  # fmt: skip
            for position, (key, values) in enumerate(scores.items()):
                connection.execute(finding.insert().values(
                    reading_id=number, position=position, key=key, name=key.title(), threshold=0.5,
                    score=float(values[number - 1]), presence="absent",
                ))  # fmt: skip


def drifted(days: np.ndarray, since: float) -> np.ndarray:
    """Scores that are higher from an age in days on."""
    scores = np.random.default_rng(3).uniform(0, 0.5, len(days))
    return np.where(days <= since, scores + 0.4, scores)


def test_a_drift_is_found_with_the_day_of_its_beginning_and_steady_scores_are_not(node: OfflineNode) -> None:
    days = np.linspace(0.5, 200, 400)[::-1]
    steady = np.random.default_rng(4).uniform(0, 1, len(days))
    fill(node, days, nodule=drifted(days, 25), mass=steady)
    found = read_drift(node.index.engine, node.now)
    assert (found.model, found.untested) == ("tiny 1", 0)
    nodule, mass = found.findings
    assert [each.key for each in found.drifting] == ["nodule"]
    assert (nodule.key, mass.since) == ("nodule", "")
    assert nodule.median_recent > nodule.median_reference + 0.2
    assert nodule.corrected == pytest.approx(min(1, 2 * nodule.p))
    age = (node.now - np.datetime64(nodule.since, "s").astype(float)) / DAY
    assert 7 <= age <= 25  # some analyses are needed before it shows
    assert age < 7 * MOST_STEPS


def test_few_analyses_trials_overridden_gates_and_another_model_are_not_tested(node: OfflineNode) -> None:
    days = np.concatenate([np.linspace(40, 100, 60), np.linspace(1, 25, LEAST_ANALYSES)])
    fill(node, days, nodule=drifted(days, 30))
    assert read_drift(node.index.engine, node.now).drifting
    with database.writing(node.index.engine) as connection:
        connection.execute(
            catalogue.update().where(catalogue.c.study_id == 1).values(description=TRIAL_DESCRIPTION)
        )
    assert read_drift(node.index.engine, node.now).findings[0].reference == 59
    with database.writing(node.index.engine) as connection:
        connection.execute(study.update().where(study.c.id == 2).values(gate_overridden=True))
    assert read_drift(node.index.engine, node.now).findings[0].reference == 58
    assert sum(read_cohort(node.index.engine, "nodule", 200).histogram) == 78
    with database.writing(node.index.engine) as connection:
        connection.execute(
            catalogue.update().where(catalogue.c.study_id == 80).values(description=TRIAL_DESCRIPTION)
        )
    found = read_drift(node.index.engine, node.now)
    assert (list(found.findings), found.untested) == ([], 1)
    with database.writing(node.index.engine) as connection:
        connection.execute(catalogue.update().values(description=""))
        connection.execute(reading.update().where(reading.c.id > 60).values(model_version="2"))
    assert read_drift(node.index.engine, node.now).untested == 1
    assert read_drift(node.index.engine, node.now - 1000 * DAY).findings == []


def test_the_log_says_once_when_a_drift_begins_and_when_it_ends(
    node: OfflineNode, caplog: pytest.LogCaptureFixture
) -> None:
    days = np.concatenate([np.linspace(40, 100, 60), np.linspace(1, 25, 40)])
    fill(node, days, nodule=drifted(days, 30))
    watch = DriftWatch(node.index.engine)
    with caplog.at_level(logging.INFO, "dicom_node"):
        watch.run()
        watch.run()
        with database.writing(node.index.engine) as connection:
            connection.execute(finding.update().values(score=0.2))
        watch.run()
    said = [each.getMessage() for each in caplog.records if "drift" in each.getMessage()]
    assert [each.partition(" have drifted since")[0] for each in said] == [
        "the scores of Nodule (tiny 1)",
        "the scores of Nodule no longer drift",
    ]


def test_the_cohort_page_says_what_drifts_and_how_it_was_tested(node: OfflineNode) -> None:
    days = np.concatenate([np.linspace(40, 100, 60), np.linspace(1, 25, 40)])
    fill(node, days, nodule=drifted(days, 30))
    with node.browser() as client:
        until(lambda: node.context.drift_task.latest is not None, 30, "test of drift")
        page = client.get("/cohort").text
        told = client.get("/api/v1/cohort/drift").json()
    assert 'The scores of <a href="/cohort?finding=nodule">Nodule</a> have drifted since' in page
    assert "two-sample Kolmogorov-Smirnov test" in page
    assert (told["model"], told["findings"][0]["key"], told["findings"][0]["recent"]) == (
        "tiny 1",
        "nodule",
        40,
    )
