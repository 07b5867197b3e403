from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.store.analysis_records import AnalysisRecord
from dicom_node.store.states import StudyState
from dicom_node.store.study_embeddings import StudyEmbedding, StudyEmbeddings, _best, _measured
from dicom_node.store.tables import place
from tests.support.offline_node import OfflineNode


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    yield one
    one.close()


def reading(*values: float, weights: str = "a", query: tuple[float, ...] | None = None) -> AnalysisRecord:
    asked = np.array(values if query is None else query, np.float32)
    embedding = StudyEmbedding(weights * 64, np.array(values, np.float32), asked)
    return AnalysisRecord("tiny", "1", (), "absent", (), (), embedding=embedding)


def read(node: OfflineNode, study: int, *values: float, weights: str = "a", revision: int = 1) -> None:
    node.finish(study, StudyState.REPORTED, reading=reading(*values, weights=weights), revision=revision)


def test_the_nearest_studies_come_first_and_equal_ones_in_the_order_of_their_numbers(
    node: OfflineNode,
) -> None:
    for number, values in enumerate([(1, 0), (0, 1), (0.6, 0.8), (0.6, 0.8), (-1, 0)], start=1):
        read(node, number, *values)
    found = StudyEmbeddings(node.index.engine).nearest(1, 3)
    assert found is not None
    assert [case.study_id for case in found] == [3, 4, 2]
    assert [case.similarity for case in found] == pytest.approx([0.6, 0.6, 0])


def test_a_study_searches_with_its_query_and_is_found_by_its_embedding(node: OfflineNode) -> None:
    node.finish(1, StudyState.REPORTED, reading=reading(1, 0, query=(0, 1)), revision=1)
    read(node, 2, 1, 0)
    read(node, 3, 0, 1)
    embeddings = StudyEmbeddings(node.index.engine)
    found = {number: embeddings.nearest(number, 1) for number in (1, 2)}
    assert [[case.study_id for case in cases or ()] for cases in found.values()] == [[3], [1]]


def test_a_row_of_an_earlier_version_searches_with_its_embedding(node: OfflineNode) -> None:
    read(node, 1, 1, 0)
    read(node, 2, 0.8, 0.6)
    with node.index.engine.begin() as connection:
        connection.execute(place.update().values(query=None))
    found = StudyEmbeddings(node.index.engine).nearest(1, 5)
    assert [case.similarity for case in found or ()] == pytest.approx([0.8])


def test_embeddings_of_other_weights_are_not_compared(node: OfflineNode) -> None:
    read(node, 1, 1, 0)
    read(node, 2, 1, 0, weights="b")
    assert StudyEmbeddings(node.index.engine).nearest(1, 5) == []


def test_a_study_without_an_embedding_is_not_searched_for(node: OfflineNode) -> None:
    node.finish(1, StudyState.REPORTED, reading=AnalysisRecord("tiny", "1", (), "absent", (), ()))
    embeddings = StudyEmbeddings(node.index.engine)
    assert embeddings.nearest(1, 5) is None
    assert embeddings.nearest(99, 5) is None


def test_only_the_latest_reading_of_a_study_counts(node: OfflineNode) -> None:
    read(node, 1, 1, 0)
    read(node, 2, 1, 0)
    node.receive(2, 2)
    node.index.complete_due(0, 1e9)
    read(node, 2, 0, 1, revision=2)
    (case,) = StudyEmbeddings(node.index.engine).nearest(1, 5) or []
    assert (case.study_id, case.similarity) == (2, pytest.approx(0))


def test_after_clear_the_embeddings_are_gone_and_the_analyses_stay(node: OfflineNode) -> None:
    read(node, 1, 1, 0)
    embeddings = StudyEmbeddings(node.index.engine)
    assert embeddings.clear() == 1
    assert embeddings.nearest(1, 5) is None
    assert embeddings.clear() == 0


class Row:
    def __init__(self, study_id: int, vector: np.ndarray) -> None:
        self.study_id, self.vector, self.person = study_id, vector.astype("<f4").tobytes(), "p"


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 7), st.integers(1, 12))
@settings(deadline=None, max_examples=40)
def test_blocks_do_not_matter(seed: int, count: int, block: int, k: int) -> None:
    random = np.random.default_rng(seed)
    vectors = random.normal(size=(count, 5)).astype(np.float32)
    query = random.normal(size=5).astype(np.float32)
    rows = [Row(number, vector) for number, vector in enumerate(vectors)]
    blocks = [rows[start : start + block] for start in range(0, count, block)]
    found = _best(_measured(iter(blocks), query.tobytes(), None), k)
    likeness = vectors.astype(float) @ query.astype(float)
    likeness /= np.linalg.norm(vectors.astype(float), axis=1) * np.linalg.norm(query.astype(float))
    assert [case.similarity for case in found] == pytest.approx(sorted(likeness, reverse=True)[:k], abs=1e-6)
