"""``audit``, and what the other commands write into the trail."""

from __future__ import annotations

import getpass
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.errors import ConfigurationError
from dicom_node.store.states import StudyState
from tests.support.audit_messages import all_said, said
from tests.support.factories import film, uid, write
from tests.support.offline_node import OfflineNode


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    monkeypatch.setenv("DICOM_NODE_DATA_DIR", str(tmp_path / "data"))
    yield one
    one.close()


def run(*words: str, code: int = 0, text: str | None = None) -> str:
    answer = CliRunner().invoke(app, [*words], input=text)
    assert answer.exit_code == code, (answer.output, answer.exception)
    return answer.output


def add_account() -> None:
    run("users", "add", "ada", "--stdin", text="correct horse battery\n")


def test_each_change_of_an_account_is_an_entry_by_the_user_of_this_machine(node: OfflineNode) -> None:
    add_account()
    run("users", "change", "ada", "--role", "admin")
    run("users", "token", "ada")
    run("users", "remove", "ada")
    found = said(node.data_dir.audit_trail)
    assert [(each.types, each.objects) for each in found] == [(("110137",), ("ada",))] * 4
    assert [each.description for each in found] == [
        "account added: reader",
        "role changed to admin",
        "token made",
        "account removed",
    ]
    assert all(getpass.getuser() in [name for name, _ in each.users] for each in found)


def test_a_change_that_failed_is_no_entry(node: OfflineNode) -> None:
    assert CliRunner().invoke(app, ["users", "remove", "nobody"]).exit_code == 1
    assert said(node.data_dir.audit_trail) == []


def test_a_retracted_study_is_an_entry(node: OfflineNode) -> None:
    study = node.finish(1, StudyState.REPORTED)
    run("retract", study, "--reason", "mistake")
    (found,) = said(node.data_dir.audit_trail)
    assert (found.event, found.action, found.description, found.objects[0]) == (
        "110103",
        "D",
        "retract",
        study,
    )


def test_films_that_leave_without_identity_are_an_export_of_each_study(
    node: OfflineNode, tmp_path: Path
) -> None:
    films = [film(rows=64, columns=64, study=1, instance=n, BurnedInAnnotation="NO") for n in (1, 2)]
    study = node.finish(1, StudyState.REPORTED, films=films)
    (tmp_path / "one").mkdir()
    other = write(film(rows=64, columns=64, study=2, BurnedInAnnotation="NO"), tmp_path / "one" / "other.dcm")
    refused = write(film(rows=64, columns=64, study=3, BurnedInAnnotation="YES"), tmp_path / "refused.dcm")
    out = tmp_path / "out"
    words = ["--study", study, str(other), str(refused), "--unknown-is-clean", "--out", str(out)]
    run("deidentify", *words, code=1)
    found = {each.objects[0]: each for each in said(node.data_dir.audit_trail)}
    assert {name: (each.event, each.action, each.instances) for name, each in found.items()} == {
        study: ("110106", "R", 3),
        uid("study", 2): ("110106", "R", 1),
    }
    assert found[study].description == f"3 de-identified copies to {out}"
    assert all(getpass.getuser() in [name for name, _ in each.users] for each in found.values())


def test_a_restored_backup_is_an_import_and_the_trail_goes_on(
    node: OfflineNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.finish(1, StudyState.REPORTED)
    run("backup", str(tmp_path / "backups"))
    run("backup", str(tmp_path / "backups"))
    monkeypatch.setenv("DICOM_NODE_DATA_DIR", str(tmp_path / "restored"))
    run("restore", str(tmp_path / "backups"))
    before, after = said(tmp_path / "restored" / "audit")
    assert (before.event, before.action) == ("110106", "R")
    assert (after.event, after.action) == ("110107", "C")
    assert after.description.startswith(f"restored from {tmp_path / 'backups'}")
    run("audit", "verify")
    (line,) = [each for each in run("audit", "list").splitlines() if "restored from" in each]
    assert line.count("restored from") == 1


def test_verify_says_what_is_wrong_and_ends_with_1(node: OfflineNode) -> None:
    add_account()
    run("users", "token", "ada")
    assert "2 entries: the trail is complete and unchanged" in run("audit", "verify")
    (path,) = node.data_dir.audit_trail.glob("*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole.splitlines(keepends=True)[0])
    answer = run("audit", "verify", code=1)
    assert "the end: entries 2 to 2 are missing" in answer
    assert "1 entries: FAILED" in answer
    assert json.loads(run("audit", "verify", "--json", code=1))["entries"] == 1
    path.write_bytes(whole.replace(b"reader", b"admin!", 1))
    assert "entry 1 was changed" in run("audit", "verify", code=1)


def test_list_shows_who_did_what_and_is_an_entry_itself(node: OfflineNode) -> None:
    add_account()
    line = run("audit", "list")
    assert "Security Alert: User Security Attributes Changed" in line
    assert "account added: reader ada" in line
    assert getpass.getuser() in line
    (first, second) = json.loads(run("audit", "list", "--json"))
    assert (first["number"], first["outcome"]) == (1, 0)
    assert second["event"] == "Audit Log Used"
    assert [each["number"] for each in json.loads(run("audit", "list", "--json", "--limit", "1"))] == [3]


def test_export_is_the_entries_and_overwrites_nothing(node: OfflineNode, tmp_path: Path) -> None:
    add_account()
    run("audit", "export", str(tmp_path / "out.jsonl"))
    entries = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [each["number"] for each in entries] == [1, 2]
    assert [each.event for each in all_said(each["message"] for each in entries)] == ["110113", "110101"]
    assert CliRunner().invoke(app, ["audit", "export", str(tmp_path / "out.jsonl")]).exit_code == 1
    assert (tmp_path / "out.jsonl").stat().st_mode & 0o077 == 0


def test_old_entries_are_purged_and_the_rest_still_verifies(node: OfflineNode) -> None:
    add_account()
    assert "no entry is older than 30 days" in run("audit", "purge", "--older-than", "30")
    (file,) = node.data_dir.audit_trail.glob("*.jsonl")
    file.rename(file.with_name(f"{file.name[:13]}20200101.jsonl"))
    run("audit", "list")
    assert "1 entry older than 30 days was removed" in run("audit", "purge", "--older-than", "30")
    assert "2 entries: the trail is complete and unchanged" in run("audit", "verify")
    assert "1 entry purged" in run("audit", "list")


def test_accounts_are_sought_in_no_new_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE_DATA_DIR", str(tmp_path / "elsewhere"))
    assert isinstance(CliRunner().invoke(app, ["users", "list"]).exception, ConfigurationError)
    assert not (tmp_path / "elsewhere").exists()
    add_account()
    assert "ada" in run("users", "list")


def test_without_a_node_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE_DATA_DIR", str(tmp_path / "none"))
    assert CliRunner().invoke(app, ["audit", "verify"]).exit_code == 1
    assert not (tmp_path / "none").exists()
