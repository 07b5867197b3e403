"""Queries as they are met, and that index and headers decide alike."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, String, create_engine, literal, select

from dicom_node.config.data_dir import DataDir
from dicom_node.config.sections import ResultKind
from dicom_node.config.settings import Settings
from dicom_node.dicomweb.server.objects import RESULT_MODALITIES, ObjectStore
from dicom_node.dicomweb.server.qido import _matches, _same, _studies
from dicom_node.dicomweb.server.query_parameters import DEFAULT_LIMIT, InvalidQuery, parse_search
from dicom_node.dicomweb.server.wado import accepts_file, accepts_single_part, parse_accept
from dicom_node.store.index import Index
from dicom_node.store.tables import catalogue, instance, result, study
from tests.bench.bench_web import _header, _instance, _result, _study
from tests.support.peers import postgresql

ENGINE = create_engine("sqlite://")
NAMES = st.sampled_from(
    ["PatientID", "00100010", "StudyDate", "Modality", "SOPClassUID", "limit", "offset", "includefield",
     "fuzzymatching", "Rows", "InstanceNumber", "StudyTime"]
)  # fmt: skip
VALUES = st.text("aB_%!*?^.1 ", max_size=6)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Engine, ObjectStore]]:
    """Studies in a database of each kind; the first one has a report."""
    folder = tmp_path_factory.mktemp("index")
    with contextlib.ExitStack() as stack:
        address = f"sqlite:///{folder / 'index.sqlite'}"
        if request.param == "postgresql":
            address = stack.enter_context(postgresql(folder))
        engine = Index.open(address).engine
        with engine.begin() as connection:
            for number, name, key, date, time, modality in (
                (1, "Doe^Jane", "A-1", "20240229", "101530.5", "CR"),
                (2, "Roe^Richard", "A%1", "20240301", "235959", "DX"),
                (3, "Yamada^Tarou=山田^太郎=やまだ^たろう", "B", "", "", "CR"),
                (4, "=鈴木^花子", "C", "", "", "CR"),
            ):
                connection.execute(study.insert(), _study(number))
                connection.execute(instance.insert(), _instance(number))
                header = {"patient_name": name, "patient_id": key, "study_date": date, "study_time": time}
                connection.execute(
                    catalogue.insert(), _header(number) | header | {"modalities": f" {modality} "}
                )
            connection.execute(result.insert(), _result(1))
        yield engine, ObjectStore(engine, DataDir(Settings(data_dir=folder)), films=True)
        engine.dispose()


@given(
    level=st.sampled_from(["study", "series", "instance"]),
    words=st.lists(st.tuples(NAMES | st.text(max_size=10), st.text(max_size=12)), max_size=4),
)
def test_any_query_is_understood_or_refused_in_a_sentence(level: str, words: list[tuple[str, str]]) -> None:
    try:
        search = parse_search(level, words)
    except InvalidQuery as error:
        assert str(error).endswith(".")  # noqa: PT017
    else:
        assert search.limit >= 0
        assert search.offset >= 0


@given(vr=st.sampled_from(["LO", "SH", "CS"]), value=VALUES.map(str.strip), wanted=VALUES)
def test_index_and_headers_decide_alike(vr: str, value: str, wanted: str) -> None:
    with ENGINE.connect() as connection:
        indexed = connection.execute(select(_matches(literal(value, String), vr, wanted))).scalar_one()
    assert bool(indexed) is _same(value, vr, wanted)


@pytest.mark.parametrize(
    ("key", "wanted", "found"),
    [
        ("PatientName", "roe*", [2]),
        ("PatientName", "DOE^JANE", [1]),
        ("PatientName", "yamada^tarou", [3]),
        ("PatientName", "山田^太郎", [3]),
        ("PatientName", "やまだ*", [3]),
        ("PatientName", "鈴木^花子^", [4]),
        ("PatientName", "山田", []),
        ("PatientName", "Yamada^Tarou=山田*", [3]),
        ("PatientID", "A%1", [2]),
        ("PatientID", "A?1", [2, 1]),
        ("StudyDate", "20240301-20240301", [2]),
        ("StudyDate", "-20240229", [1]),
        ("StudyTime", "10-1015", [1]),
        ("StudyTime", "10:15-10:16", [1]),
        ("StudyTime", "1015-10", [1]),
        ("ModalitiesInStudy", "D*", [2]),
        ("ModalitiesInStudy", "SR", [1]),
        ("SOPInstanceUID", "1.3.2", [2]),
        ("SOPInstanceUID", "1.5.1", [1]),
    ],
)
def test_every_database_finds_the_same(
    filled: tuple[Engine, ObjectStore], key: str, wanted: str, found: list[int]
) -> None:
    engine, objects = filled
    search = parse_search("instance", [(key, wanted)])
    with engine.connect() as connection:
        assert list(connection.execute(_studies(objects, search)).scalars()) == found


@pytest.mark.parametrize(
    ("value", "vr", "wanted", "same"),
    [
        ("20240229", "DA", "20240101-", True),
        ("20240229", "DA", "-20240228", False),
        ("101530.5", "TM", "10-1015", True),
        ("101630", "TM", "10-1015", False),
        ("7", "IS", "07", True),
        ("AI findings", "LO", "ai*", True),
        ("AI findings", "LO", "ai findings", False),
        ("1.2.3", "UI", "1.2\\1.2.3", True),
    ],
)
def test_values_match_as_the_standard_says(value: str, vr: str, wanted: str, same: bool) -> None:
    assert _same(value, vr, wanted) is same


@pytest.mark.parametrize(
    "wanted", ["*a" * 8 + "*b", "a" * 100 + "*" + "a" * 100 + "*b", "*" + "?" * 200 + "b"]
)
@pytest.mark.parametrize("length", [30, 1024, 1_000_000])
def test_wildcards_take_no_longer_than_the_text(wanted: str, length: int) -> None:
    began = time.process_time()
    assert not _same("a" * length, "LO", wanted)
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize(
    ("key", "value", "word"),
    [
        ("SeriesDescription", "*a" * 9, "asterisks"),
        ("PatientName", "*a" * 100, "asterisks"),
        ("StudyDescription", "a" * 257, "too long"),
        ("SeriesInstanceUID", "1." * 513, "too long"),
        ("includefield", ",".join(f"0010{number:04X}" for number in range(0x10, 0x10 + 3000)), "attribute"),
    ],
)
def test_a_search_has_an_end(key: str, value: str, word: str) -> None:
    with pytest.raises(InvalidQuery, match=word):
        parse_search("series", [(key, value)])


def test_asterisks_that_stand_together_are_one() -> None:
    assert parse_search("series", [("SeriesDescription", "*" * 50 + "a")]).keys
    assert _same("xa", "LO", "*" * 50 + "a")
    assert _same("[x]", "LO", "[*]")


def test_a_query_says_what_is_to_come() -> None:
    words = [("00080060", "SR"), ("includefield", "00081030,SOPClassUID"), ("limit", "5"), ("PatientID", "*")]
    search = parse_search("series", words, StudyInstanceUID="1.2")
    assert search.keys == {"StudyInstanceUID": "1.2", "Modality": "SR"}
    assert (search.include, search.limit, search.offset) == (("00081030", "00080016"), 5, 0)
    assert parse_search("study", [("includefield", "all")]).include is None
    assert parse_search("study", []).limit == DEFAULT_LIMIT


@given(st.text(max_size=60))
def test_any_accept_header_is_understood(header: str) -> None:
    parse_accept(header.encode("latin-1", "replace").decode("latin-1"))


@pytest.mark.parametrize(
    ("header", "json", "file"),
    [
        ("", True, True),
        ("*/*", True, True),
        ("application/dicom+json", True, False),
        ("application/*;q=0.5", True, False),
        ("application/dicom+json;q=0", False, False),
        ('multipart/related; type="application/dicom"', False, True),
        ("multipart/related; type=application/dicom; transfer-syntax=*", False, True),
        ('multipart/related; type="application/dicom"; transfer-syntax=1.2', False, False),
        ('text/html, multipart/related; type="application/dicom", image/*', False, True),
    ],
)
def test_a_media_type_is_taken_or_not(header: str, json: bool, file: bool) -> None:
    accepted = parse_accept(header)
    assert accepts_single_part(accepted, "application/dicom+json") is json
    assert accepts_file(accepted, "1.2.840.10008.1.2.1") is file


def test_every_kind_of_result_has_its_modality() -> None:
    assert set(RESULT_MODALITIES) == set(get_args(ResultKind))
