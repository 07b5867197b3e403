"""``export``: the tables hold what the database holds; with pseudonyms they name nobody."""

from __future__ import annotations

import csv
import importlib
import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from sqlalchemy import func, select
from typer.testing import CliRunner

from dicom_node.analysis.study_tables import TABLES
from dicom_node.cli.app import app
from dicom_node.errors import ConfigurationError
from dicom_node.imaging.deidentification import DeidentificationOptions, Retention
from dicom_node.imaging.deidentifier import Deidentifier
from dicom_node.imaging.pseudonyms import Pseudonyms
from dicom_node.store.analysis_records import AnalysisRecord, AnalysisRecords, FindingRecord
from dicom_node.store.states import StudyState
from dicom_node.store.tables import feedback, finding, study
from dicom_node.web.feedback import Feedback, Verdict
from tests.support import factories
from tests.support.offline_node import OfflineNode

SHARE = st.floats(0, 1)
FINDING = st.builds(
    FindingRecord,
    key=st.text("abcdefgh_", min_size=1, max_size=12),
    name=st.text(max_size=30),
    certainty=SHARE | st.none(),
    score=SHARE,
    threshold=SHARE,
    presence=st.sampled_from(["present", "absent", "undetermined"]),
    low=SHARE | st.none(),
    high=SHARE | st.none(),
)
OPINION = st.tuples(st.sampled_from(["anna", "bo"]), st.sampled_from(list(Verdict)), st.text(max_size=40))
STUDY = st.lists(st.tuples(FINDING, st.lists(OPINION, max_size=2)), max_size=4, unique_by=lambda e: e[0].key)


def film(number: int) -> Dataset:
    return factories.film(
        rows=64,
        columns=64,
        study=number,
        PatientID=f"PAT-{number}",
        AccessionNumber=f"ACC-{number}",
        StudyDate="20250131",
        BurnedInAnnotation="NO",
    )


def record(*findings: FindingRecord) -> AnalysisRecord:
    return AnalysisRecord("tiny", "0.0.1", (), "absent", findings, ())


def export(node: Path, out: Path, *words: object) -> Any:
    given = ("export", "--out", str(out), *map(str, words))
    return CliRunner().invoke(app, given, env={"DICOM_NODE_DATA_DIR": str(node)})


def tables(out: Path) -> dict[str, list[dict[str, str]]]:
    found = {}
    for name, columns in TABLES.items():
        with (out / f"{name}.csv").open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            found[name] = list(reader)
            assert reader.fieldnames == [column.name for column in columns]
    return found


@pytest.fixture
def node(tmp_path: Path) -> OfflineNode:
    """Node with a study that was read, sent and judged, and one that was not read."""
    node = OfflineNode(tmp_path / "node")
    calibrated = FindingRecord("nodule", "Nodule", 0.25, 0.5, 0.2, "present", 0.125, 0.5)
    bare = FindingRecord("mass", "Mass", None, 0.0625, 0.5, "absent")
    node.finish(1, StudyState.REPORTED, films=[film(1)], reading=record(calibrated, bare))
    node.send("pacs")
    node.finish(2, StudyState.SKIPPED, "no film of PAT-2", films=[film(2)])
    with node.index.engine.connect() as connection:
        (number,) = connection.execute(select(finding.c.reading_id).limit(1)).scalars()
    opinions = Feedback(node.index.engine)
    opinions.record(number, "nodule", "anna", Verdict.DISAGREE, "=a vessel of Mr. Roe")
    opinions.record(number, "mass", "anna", Verdict.NONE, "")
    yield node
    node.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=st.lists(STUDY, min_size=1, max_size=3))
def test_parquet_equals_the_database(tmp_path_factory: pytest.TempPathFactory, drawn: list[Any]) -> None:
    parquet = importlib.import_module("pyarrow.parquet")
    folder = tmp_path_factory.mktemp("export")
    node = OfflineNode(folder / "node")
    records = AnalysisRecords(node.index.engine)
    opinions = Feedback(node.index.engine)
    expected: list[tuple[Any, ...]] = []
    judged: list[tuple[Any, ...]] = []
    for number, entries in enumerate(drawn, start=1):
        uid = node.finish(
            number, StudyState.REPORTED, films=[film(number)], reading=record(*(e[0] for e in entries))
        )
        with node.index.engine.connect() as connection:
            study_id = connection.execute(
                select(study.c.id).where(study.c.study_instance_uid == uid)
            ).scalar_one()
        stored = records.latest(study_id)
        assert stored is not None
        for entry, said in entries:
            for reader, verdict, comment in said:
                opinions.record(stored.id, entry.key, reader, verdict, comment)
            for opinion in opinions.for_reading(stored.id).get(entry.key, ()):
                judged.append((uid, entry.key, opinion.reader, str(opinion.verdict), opinion.comment))
        expected += [
            (uid, 1, position, *(getattr(each, name) for name in FindingRecord.__slots__))
            for position, each in enumerate(stored.record.findings)
        ]
    node.close()
    assert export(folder / "node", folder / "out", "--format", "parquet", "--identified").exit_code == 0
    names = ("study_instance_uid", "revision", "position", "finding", "name", "certainty", "score")
    names += ("threshold", "presence", "low", "high")
    rows = parquet.read_table(folder / "out" / "findings.parquet").to_pylist()
    assert [tuple(row[name] for name in names) for row in rows] == expected
    rows = parquet.read_table(folder / "out" / "feedback.parquet").to_pylist()
    names = ("study_instance_uid", "finding", "reader", "verdict", "comment")
    assert sorted(tuple(row[name] for name in names) for row in rows) == sorted(judged)


def test_everything_is_written_where_identity_may_be(node: OfflineNode, tmp_path: Path) -> None:
    done = export(node.settings.data_dir, tmp_path / "out", "--identified", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["studies"] == 2
    found = tables(tmp_path / "out")
    first, second = found["studies"]
    assert (first["patient_id"], first["accession_number"], first["study_date"]) == (
        "PAT-1",
        "ACC-1",
        "20250131",
    )
    assert (first["state"], second["state"], second["reason"]) == ("REPORTED", "SKIPPED", "no film of PAT-2")
    with node.index.engine.connect() as connection:
        row = connection.execute(select(study).order_by(study.c.id).limit(1)).one()
        (given_at,) = connection.execute(select(feedback.c.at).where(feedback.c.verdict != "none")).scalars()
    for name in ("first_received_at", "last_received_at", "completed_at"):
        assert math.isclose(datetime.fromisoformat(first[name]).timestamp(), getattr(row, name), abs_tol=1e-6)
    after = [float(first[f"{name}_after"]) for name in ("completed", "analysed", "first_sent", "last_sent")]
    assert 0 < after[0] < after[1] < after[2] <= after[3]
    nodule, mass = found["findings"]
    assert (nodule["certainty"], nodule["low"], nodule["above"]) == ("0.25", "0.125", "True")
    assert (mass["certainty"], mass["low"], mass["score"], mass["above"]) == ("", "", "0.0625", "False")
    (opinion,) = found["feedback"]
    assert (opinion["reader"], opinion["verdict"]) == ("anna", "disagree")
    assert opinion["comment"] == "'=a vessel of Mr. Roe"
    assert math.isclose(datetime.fromisoformat(opinion["given_at"]).timestamp(), given_at, abs_tol=1e-6)


def test_pseudonyms_are_those_of_the_films(node: OfflineNode, tmp_path: Path) -> None:
    data_dir = node.settings.data_dir
    assert export(data_dir, tmp_path / "a", "--retain", "dates").exit_code == 0
    found = tables(tmp_path / "a")
    texts = "".join(path.read_text() for path in (tmp_path / "a").iterdir())
    hidden = ("PAT-1", "ACC-1", "Roe", "anna", "20250131", factories.uid("study", 1), "no film of")
    assert not [word for word in hidden if word in texts]
    pseudonyms = Pseudonyms(node.data_dir.deidentification_secret())
    kept = DeidentificationOptions(retain=frozenset({Retention.DATES}))
    path = factories.write(film(1), tmp_path / "film.dcm")
    cleaned = Deidentifier(pseudonyms, kept).file(path)
    (tmp_path / "cleaned.dcm").write_bytes(cleaned.content)
    from pydicom import dcmread

    ds = dcmread(tmp_path / "cleaned.dcm")
    first = found["studies"][0]
    assert (first["study_instance_uid"], first["patient_id"]) == (ds.StudyInstanceUID, ds.PatientID)
    assert first["study_date"] == ds.StudyDate
    assert {row["study_instance_uid"] for row in found["findings"]} == {ds.StudyInstanceUID}
    moved = datetime.fromisoformat(first["completed_at"]) - datetime.fromisoformat(first["first_received_at"])
    assert math.isclose(moved.total_seconds(), float(first["completed_after"]), abs_tol=1e-5)
    assert datetime.fromisoformat(first["first_received_at"]) < datetime.now(UTC)
    assert export(data_dir, tmp_path / "b", "--retain", "uids").exit_code == 0
    kept_uid = tables(tmp_path / "b")["studies"][0]
    assert kept_uid["study_instance_uid"] == factories.uid("study", 1)
    assert (kept_uid["first_received_at"], kept_uid["study_date"]) == ("", "")


def test_a_period_is_of_whole_days(node: OfflineNode, tmp_path: Path) -> None:
    with node.index.engine.connect() as connection:
        received = connection.execute(select(func.min(study.c.first_received_at))).scalar_one()
    today = f"{datetime.fromtimestamp(received, UTC):%Y-%m-%d}"
    data_dir = node.settings.data_dir
    for number, (words, count) in enumerate(
        [
            (("--since", today, "--until", "2999-12-31"), 2),
            (("--until", "2020-01-01"), 0),
            (("--since", "2999-01-01"), 0),
        ]
    ):
        done = export(data_dir, tmp_path / str(number), *words, "--json")
        assert json.loads(done.stdout)["studies"] == count


def test_the_dictionary_explains_every_column(node: OfflineNode, tmp_path: Path) -> None:
    assert export(node.settings.data_dir, tmp_path / "out").exit_code == 0
    with (tmp_path / "out" / "dictionary.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["table"], row["column"]) for row in rows] == [
        (name, column.name) for name, columns in TABLES.items() for column in columns
    ]
    assert all(row["description"] and row["kind"] for row in rows)
    trail = CliRunner().invoke(
        app, ["audit", "list", "--json"], env={"DICOM_NODE_DATA_DIR": str(node.settings.data_dir)}
    )
    assert "tables of 2 studies with pseudonyms" in trail.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--since", "31.1.2026"), "--since 31.1.2026: give a day as YYYY-MM-DD"),
        (("--since", "2026-02-01", "--until", "2026-01-01"), "it is before --since"),
        (("--retain", "device"), "--retain device: use uids, dates"),
        (("--identified", "--retain", "uids"), "leave out --retain"),
    ],
)
def test_a_mistake_is_one_sentence(
    node: OfflineNode, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    done = export(node.settings.data_dir, tmp_path / "out", *words)
    assert isinstance(done.exception, ConfigurationError)
    assert sentence in str(done.exception)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_used_is_refused(node: OfflineNode, tmp_path: Path) -> None:
    done = export(node.settings.data_dir, tmp_path)
    assert isinstance(done.exception, ConfigurationError)
    assert "it is not an empty folder" in str(done.exception)
