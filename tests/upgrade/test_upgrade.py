"""The data directory and the configuration file of an earlier version open without any change.

README.md says what is in them.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydicom import dcmread
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.config.sections import RetrievalSettings
from dicom_node.config.settings import Settings
from dicom_node.config.web import WebSettings
from dicom_node.results.validation import inspect_file
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store import database
from dicom_node.store.backup.manifest import Manifest
from dicom_node.store.backup.restoration import restore
from dicom_node.store.backup.verification import verify
from dicom_node.store.commitments import CommitmentAnswer, CommitmentOutcome, StorageCommitments
from dicom_node.store.delivery_queue import DeliveryQueue
from dicom_node.store.index import Index
from dicom_node.web.app import create_app
from dicom_node.web.auth.accounts import Accounts, Role
from tests.support.index_records import delivery_states

ARCHIVES = sorted(Path(__file__).parent.glob("node-*.zip"))


class EarlierNode:
    """Unpacked archive of an earlier version.

    Attributes
    ----------
    expected
        Answers of the version that made the archive.
    """

    def __init__(self, archive: Path, folder: Path) -> None:
        shutil.unpack_archive(archive, folder)
        self.folder = folder
        self.config_file = folder / "node.toml"
        self.expected: dict[str, Any] = json.loads((folder / "expected.json").read_text(encoding="utf-8"))
        self.settings = Settings(
            data_dir=folder / "data",
            web=WebSettings(login=True, patient="name"),
            retrieval=RetrievalSettings(own_studies=True),
        )

    def run(self, *words: str, environment: dict[str, str] | None = None) -> Any:
        """Run a command with the configuration file; returns what it prints, which is JSON."""
        argv = ["--config", str(self.config_file), *words]
        result = CliRunner().invoke(app, argv, env=environment, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return json.loads(result.output)


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.stem)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> EarlierNode:
    return EarlierNode(request.param, tmp_path)


@pytest.fixture
def index(node: EarlierNode) -> Iterator[Index]:
    opened = Index.open(node.settings.database)
    yield opened
    opened.close()


@pytest.fixture
def client(node: EarlierNode) -> Iterator[TestClient]:
    """Page of the node, asked with the token that was issued by the earlier version."""
    headers = {"Authorization": f"Bearer {node.expected['token']}"}
    Index.open(node.settings.database).close()  # as the start of a node brings the index to its schema
    with TestClient(create_app(node.settings), base_url="http://localhost", headers=headers) as opened:
        yield opened


def difference(expected: Any, found: Any, place: str = "") -> str:
    """First place where an answer differs from the expected one; empty if none. New fields are allowed."""
    if isinstance(expected, dict) and isinstance(found, dict):
        # DICOM JSON leaves out the value of an empty sequence (PS3.18 F.2.2); version 0.1.0 wrote [].
        missing = [
            f"{place}.{key} is missing" for key in expected if key not in found and expected[key] != []
        ]
        below = (difference(expected[key], found[key], f"{place}.{key}") for key in expected if key in found)
        return next(filter(None, [*missing, *below]), "")
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        below = (
            difference(*pair, f"{place}[{n}]") for n, pair in enumerate(zip(expected, found, strict=True))
        )
        return next(filter(None, below), "")
    if isinstance(expected, float):
        return "" if found == pytest.approx(expected, rel=1e-6) else f"{place}: {found} instead of {expected}"
    return "" if expected == found else f"{place}: {found!r} instead of {expected!r}"


def test_every_setting_has_its_name_and_its_meaning(node: EarlierNode) -> None:
    assert difference(node.expected["settings"], node.run("config", "show", "--json")) == ""


def test_status_is_the_same_and_nothing_is_lost(node: EarlierNode) -> None:
    environment = {
        "DICOM_NODE_DATA_DIR": str(node.settings.data_dir),
        "DICOM_NODE_DATABASE_URL": node.settings.database,
    }
    status = node.run("status", "--json", "--audit", "--read-files", environment=environment)
    # Version 0.1.0 counted results that were withdrawn by how far they had come.
    places = zip(
        [node.expected["status"], *node.expected["status"]["destinations"]],
        [status, *status["destinations"]],
        strict=True,
    )
    for before, after in places:
        assert sum(before.pop("results").values()) == sum(after["results"].values())
    assert status["results"]["WITHDRAWN"]
    assert difference(node.expected["status"], status) == ""
    assert status["audit"]["conserved"]


def test_worklist_studies_feedback_and_dicomweb_answer_the_same(
    node: EarlierNode, client: TestClient
) -> None:
    for path, (status_code, expected) in node.expected["answers"].items():
        answer = client.get(path)
        assert answer.status_code == status_code, path
        found = answer.json() if "json" in answer.headers["content-type"] else answer.text
        if path.endswith("/viewer"):
            for image in expected["images"]:
                del image["window"]  # version 0.1.0 cut windows at the values of the film
        if path.startswith("/api/v1/cohort"):  # version 0.1.0 grouped by the list of views, not by their set
            for answered, separator in ((expected, ", "), (found, " + ")):
                views = [" ".join(sorted(each["name"].split(separator))) for each in answered.pop("views")]
                answered["views"] = sorted(views)
        assert difference(expected, found, path) == ""


def test_films_and_heat_maps_are_shown_the_same(node: EarlierNode, client: TestClient) -> None:
    for path, digest in node.expected["digests"].items():
        answer = client.get(path)
        assert answer.status_code == 200, path
        if path.endswith("/pixels"):
            # Version 0.1.0 began the scale of greys at 0, which now means "not to be seen".
            assert np.ptp(np.frombuffer(answer.content, "<u2")) == 65534, path
            continue
        assert sha256(answer.content).hexdigest() == digest, path


def test_every_page_opens(node: EarlierNode, client: TestClient) -> None:
    studies = client.get("/api/v1/studies").json()["studies"]
    for path in ["/", "/cohort", *(f"/studies/{study['id']}" for study in studies)]:
        answer = client.get(path)
        assert answer.status_code == 200, path
    assert "größer" in client.get(f"/studies/{node.expected['numbers']['confirmed']}").text


def test_accounts_keep_their_roles_and_passwords(node: EarlierNode, index: Index) -> None:
    accounts = Accounts(index.engine)
    assert {each.name: each.role for each in accounts.all()} == {"rita": Role.READER, "ada": Role.ADMIN}
    assert accounts.authenticate("rita", node.expected["password"]) is not None
    assert accounts.authenticate("rita", "wrong") is None


def test_every_result_can_be_read_and_is_valid(node: EarlierNode) -> None:
    files = sorted((node.settings.data_dir / "results").rglob("*.dcm"))
    assert len(files) >= 20
    assert {dcmread(file).Modality for file in files} >= {"SR", "OT", "DOC", "KO", "SEG", "PR"}
    for file in files:
        assert inspect_file(file) == [], file


def test_a_request_for_commitment_that_was_in_flight_is_answered(node: EarlierNode, index: Index) -> None:
    before = delivery_states(index.engine)
    # SOP Instance UIDs of all results: those that were not asked about are ignored.
    kept = CommitmentAnswer(CommitmentOutcome.KEPT)
    uids = [str(dcmread(file).SOPInstanceUID) for file in (node.settings.data_dir / "results").rglob("*.dcm")]
    changed = StorageCommitments(index.engine).record_answers("2.25.4711", dict.fromkeys(uids, kept))
    assert changed
    after = delivery_states(index.engine)
    assert after["CONFIRMED"] - before.get("CONFIRMED", 0) == changed
    assert before["SENT"] - after.get("SENT", 0) == changed


def test_results_that_wait_are_sent(node: EarlierNode, index: Index) -> None:
    queue = DeliveryQueue(index.engine)
    waiting = queue.take("pacs", LeaseOwner.this_process(), 60)
    assert waiting
    for entry in waiting:
        assert (node.settings.data_dir / "results" / entry.file).is_file()
        queue.mark_sent(entry)
    assert queue.take("pacs", LeaseOwner.this_process(), 60) == []


def test_a_backup_of_an_earlier_schema_is_restored(node: EarlierNode, tmp_path: Path) -> None:
    # That version wrote no backups; one of its schema is its data directory with a manifest.
    backup = shutil.copytree(node.settings.data_dir, tmp_path / "backup")
    names = (path.relative_to(backup) for path in backup.rglob("*") if path.is_file())
    sums = {str(name): sha256((backup / name).read_bytes()).hexdigest() for name in names}
    manifest = Manifest.new("2026-01-01T00:00:00+00:00", "sqlite", sums)
    dataclasses.replace(manifest, schema="0001").write(backup)
    assert verify(backup).intact
    settings = Settings(data_dir=tmp_path / "restored")
    settings.data_dir.mkdir()
    done = restore(backup, settings.data_dir, settings.database)
    assert done.audit.conserved
    index = Index.open(settings.database)
    assert database.schema_of(index.engine) == database.newest_schema()
    index.close()
