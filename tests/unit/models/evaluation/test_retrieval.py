"""Measures of rankings against their definitions, and of a bundle against what is known of drawn films."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import average_precision_score, ndcg_score

from models.bundles.predictor import Predictor
from models.data.dataset import LabelledStudy
from models.data.openi import read_openi
from models.evaluation import ranking, retrieval
from models.evaluation.retrieval import RULES, DatasetSplit, evaluate_retrieval
from models.evaluation.retrieval_tables import comparison_tables
from models.labels.vocabulary import load_vocabulary
from models.retrieval.index import CaseIndex, EmbeddingOrigin, ReferenceCase
from tests.support.drawn_index import load_joint
from tests.support.openi_folder import write_openi

BINARY = arrays(np.float64, (3, 12), elements=st.sampled_from([0.0, 1.0]))
GRADED = arrays(np.float64, (3, 12), elements=st.sampled_from([0.0, 0.25, 0.5, 1.0]))
#: Scores of a ranking that is already in order.
FALLING = -np.arange(12, dtype=np.float64)


@given(BINARY)
def test_average_precision_is_that_of_scikit_learn(relevant: np.ndarray):
    for row, value in zip(relevant, ranking.average_precision(relevant), strict=True):
        assert value == pytest.approx(average_precision_score(row, FALLING) if row.any() else 0)


@given(GRADED)
def test_discounted_gain_is_that_of_scikit_learn(gains: np.ndarray):
    for row, value in zip(gains, ranking.discounted_gain(gains, 5), strict=True):
        assert value == pytest.approx(ndcg_score([row], [FALLING], k=5) if row.any() else 0)


def test_precision_and_reciprocal_rank_by_hand():
    gains = np.array([[0, 1, 1, 0, 0, 1], [0, 0, 0, 0, 0, 0], [1, 0, 0, 0, 0, 0]], float)
    assert ranking.precision(gains, 5).tolist() == [0.4, 0, 0.2]
    assert ranking.reciprocal_rank(gains).tolist() == [0.5, 0, 1]
    # Fewer cases than are asked for are as good as irrelevant ones.
    assert ranking.precision(gains[:, :3], 5).tolist() == [0.4, 0, 0.2]
    assert ranking.discounted_gain(gains[:, :3], 5)[2] == 1


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load_joint(tmp_path_factory.mktemp("bundles") / "joint-0.0.1")


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> DatasetSplit:
    root = write_openi(tmp_path_factory.mktemp("openi"), {"train": 24, "test": 12})
    return DatasetSplit(read_openi(root, load_vocabulary()), "test")


def test_a_case_of_the_same_films_is_found_and_a_patients_own_is_not(joint: Predictor, part: DatasetSplit):
    # write_openi gives every fourth study the same headings; the groups of two of the four are the same.
    within = evaluate_retrieval(joint, part)
    assert (within["n_queries"], within["n_references"]) == (12, 12)
    figures = within["ways"]["image_to_image"]["rules"]["same_set"]
    # Of eleven others at most five have the same groups: one's own would have made them more.
    assert figures["p_at_10"]["value"] <= 0.5
    assert set(figures["mrr"]) == {"value", "low", "high", "with_a_group", "random", "most_common"}


def test_a_perfect_space_scores_one(joint: Predictor, part: DatasetSplit, monkeypatch: pytest.MonkeyPatch):
    """Studies whose places say their labels find their like, whatever the rule."""
    keys = load_vocabulary().keys("groups")

    def place(studies: Sequence[LabelledStudy]) -> np.ndarray:
        truth = np.array([[key in study.keys for key in keys] for study in studies], np.float32)
        truth = np.pad(truth, ((0, 0), (0, 1)), constant_values=1e-3)
        return truth / np.linalg.norm(truth, axis=1, keepdims=True)

    def build(predictor: Predictor, dataset: str, studies: tuple, *, name: str, **_: object) -> CaseIndex:
        cases = tuple(
            ReferenceCase(f"{dataset}:{study.identifier}", frozenset(study.keys)) for study in studies
        )
        return CaseIndex(name, EmbeddingOrigin.of(predictor.identity), cases, place(studies), place(studies))

    monkeypatch.setattr(retrieval, "build_index", build)
    monkeypatch.setattr(retrieval, "_query_embeddings", lambda _, studies, __: {"films": place(studies)})
    monkeypatch.setattr(retrieval, "_second_opinion", lambda *_: {})
    figures = evaluate_retrieval(joint, part, DatasetSplit(part.dataset, "train"))
    assert set(figures["ways"]) == {"image_only", "image_to_image"}
    rules = figures["ways"]["image_to_image"]["rules"]
    for rule in RULES:
        assert rules[rule]["ndcg_at_5"]["with_a_group"] == pytest.approx(1), rule
    assert rules["same_set"]["mrr"]["value"] == pytest.approx(figures["n_queries_with_a_group"] / 12)
    assert rules["same_set"]["p_at_5"]["random"] < 0.6


def test_figures_are_the_same_every_time_and_make_tables(joint: Predictor, part: DatasetSplit):
    figures = [evaluate_retrieval(joint, part, DatasetSplit(part.dataset, "train")) for _ in range(2)]
    for entry in figures:
        assert entry.pop("milliseconds")["one"] > 0
    assert json.dumps(figures[0]) == json.dumps(figures[1])
    shown = list(comparison_tables(figures[0]))
    # The drawn set has no reports: films alone are asked.
    assert [table.title.rsplit(" ", 1)[1] for table in shown] == list(figures[0]["ways"])
    assert figures[0]["second_opinion"]["n"] == 12


@pytest.mark.films
def test_real_reports_find_reports_of_the_same_groups(joint: Predictor, films_root: Path):
    """With random weights for the films: what reports say is read off them."""
    whole = read_openi(films_root / "openi", load_vocabulary())
    studies = {"test": whole.studies["test"][:60]}
    figures = evaluate_retrieval(joint, DatasetSplit(type(whole)("openi", "", "", studies), "test"))
    found = figures["ways"]["image_and_report"]["rules"]["share_one_group"]["p_at_5"]
    assert found["value"] > 2.5 * found["random"]
