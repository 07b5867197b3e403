from __future__ import annotations

import csv
import inspect
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main
from typer.testing import CliRunner, Result

from dicom_node.analysis.score_table import COLUMNS as TABLE_COLUMNS
from dicom_node.cli import app as root
from dicom_node.cli.app import app
from dicom_node.errors import ConfigurationError, NodeError
from tests.support import factories
from tests.support.peers import ROOT, cli

PARTS = ("serve", "scp", "worker", "sender", "web")
COMMANDS = (
    *PARTS,
    "status",
    "retry",
    "retract",
    "replay",
    "validate",
    "analyze",
    "zero-shot",
    "send",
    "echo",
    "doctor",
    "train",
    "evaluate",
    "dataset",
    "cases",
    "config",
    "users",
)


def run(*words: str) -> Result:
    return CliRunner().invoke(app, words)


def test_the_help_names_every_command_and_no_inner_one() -> None:
    text = cli("--help").stdout
    assert all(command in text for command in COMMANDS)
    assert "child" not in text
    assert "RESEARCH USE ONLY" in text


def test_the_readme_names_every_command_that_is_listed() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text[text.index("## Commands") : text.index("## The models")]
    rows = re.findall(r"^\| (`.+?`) \| (.*) \|$", table, re.MULTILINE)
    # In the first cell a command, or one with a subcommand; parts of `serve` are named behind it.
    named = {word.split()[0] for cells in rows for cell in cells for word in re.findall(r"`([\w -]+)`", cell)}
    assert {name for name, entry in root.COMMANDS.items() if not entry.hidden} <= named
    first = {word.split()[0] for cell, _ in rows for word in re.findall(r"`([\w -]+)`", cell)}
    assert first <= set(root.COMMANDS)


@pytest.mark.parametrize("name", root.COMMANDS)
def test_the_list_says_of_a_command_what_its_own_help_begins_with(name: str) -> None:
    command = typer.main.get_command(app).get_command(None, name)
    assert (
        inspect.cleandoc(command.help).partition("\n\n")[0].replace("\n", " ") == root.COMMANDS[name].summary
    )


@pytest.mark.parametrize(("old", "new"), [("index", "cases"), ("data", "dataset"), ("prompt", "zero-shot")])
class TestRenamedCommands:
    def test_the_old_name_works_and_one_line_names_the_new_one(self, old: str, new: str) -> None:
        before, now = run(old, "--help"), run(new, "--help")
        assert (before.exit_code, before.stdout) == (now.exit_code, now.stdout) == (0, now.stdout)
        assert f" {new} " in now.stdout
        assert now.stderr == ""
        (line,) = before.stderr.splitlines()
        assert f"`dicom-node {old}` is now `dicom-node {new}`" in line

    def test_the_old_name_takes_the_same_arguments(self, old: str, new: str) -> None:
        words = {
            "cases": ("verify", "nowhere", "--json"),
            "dataset": ("padchest", "--json"),
            "zero-shot": ("film.png", "--bundle", "nowhere", "-f", "edema", "--json"),
        }[new]
        before, now = run(old, *words), run(new, *words)
        assert isinstance(now.exception, NodeError)
        assert (type(before.exception), str(before.exception)) == (type(now.exception), str(now.exception))
        assert before.stdout == now.stdout == ""

    def test_only_the_new_name_is_listed(self, old: str, new: str) -> None:
        listed = re.findall(r"^│ (\S+) ", run("--help").stdout, re.MULTILINE)
        assert new in listed
        assert old not in listed


def test_the_program_starts_without_the_libraries_of_its_commands() -> None:
    script = "import sys, dicom_node.cli.app; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    heavy = {"torch", "models", "worker", "orthanc", "celery", "fastapi", "sklearn", "matplotlib", "monai"}
    assert heavy.isdisjoint(loaded.stdout.split())


def test_the_version_is_that_of_the_package() -> None:
    assert cli("--version").stdout.startswith("dicom-node 0.")


def test_settings_are_shown_with_the_values_in_force_and_without_passwords(tmp_path: Path) -> None:
    environment = {
        "DICOM_NODE_DATA_DIR": str(tmp_path),
        "DICOM_NODE_DICOM__PORT": "104",
        "DICOM_NODE_DATABASE_URL": "postgresql://node:sesame@db/node",
    }
    shown = cli("config", "show", "--json", environment=environment)
    table = json.loads(shown.stdout)
    assert table["dicom"]["port"] == 104
    assert table["database_url"] == "postgresql://node:***@db/node"
    assert "sesame" not in cli("config", "show", environment=environment).stdout


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["--config", "/nonexistent.toml", "config", "check"], 2, "No such file"),
        (["status"], 2, "there is no database"),
        (["retry"], 2, "there is no database"),
        (["analyze", "/nonexistent"], 2, "no such file or folder"),
        (["send", "/etc/hostname", "--to", "nowhere"], 2, "AE@HOST:PORT"),
        (["worker"], 2, "broker_url is not set"),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    tmp_path: Path, words: list[str], code: int, sentence: str
) -> None:
    done = cli(*words, environment={"DICOM_NODE_DATA_DIR": str(tmp_path / "node")})
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (
            '[worker]\nbundle = "nothing"\ngate = "none"\n',
            ["worker.bundle: no bundle 'nothing'", "worker.gate: "],
        ),
        ('data_dir = "node.toml/data"\n', ["data_dir ", "set data_dir to another folder"]),
        (
            """
            rules = [
              { name = "a", finding = ["nodul"], destinations = [] },
              { name = "b", fallback = true, destinations = [] },
            ]
            """,
            ["rules.0.finding: no label of openi-findings matches 'nodul'; did you mean 'nodule'?"],
        ),
        ('[dicom]\ntls_certificate = "a.pem"\ntls_key = "b.pem"\n', ["dicom.tls_certificate a.pem"]),
        (
            """
            destinations = [
              { name = "a", ae_title = "A", host = "pacs..example", port = 104 },
              { name = "b", kind = "dicomweb", url = "https://192.0.2.300/dicom-web" },
            ]
            """,
            [
                "destinations.0.host: 'pacs..example' is neither a host name nor an IP address",
                "destinations.1.url: '192.0.2.300' is neither",
            ],
        ),
    ],
)
def test_config_check_finds_what_cannot_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, sentences: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "node.toml").write_text(text)
    found = run("--config", "node.toml", "config", "check")
    assert isinstance(found.exception, ConfigurationError), found.output
    lines = str(found.exception).splitlines()
    assert all(any(sentence in line for line in lines) for sentence in sentences), lines


def test_config_check_is_content_with_what_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE_DATA_DIR", str(tmp_path / "node"))
    assert "settings are valid: AE title DICOM_NODE" in run("config", "check").output
    assert not (tmp_path / "node").exists()


def test_analyze_names_what_it_cannot_read_and_reads_the_rest(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    factories.write(factories.film(), films / "good.dcm")
    factories.write(factories.film(study=2, body_part="HAND"), films / "hand.dcm")
    (films / "notes.txt").write_text("not DICOM")
    drawn = {"DICOM_NODE_WORKER__GATE": ""}  # no chest films to the gate
    words = ("--out", str(tmp_path / "out"), "--csv", str(tmp_path / "scores.csv"))
    done = cli("analyze", "--json", str(films), *words, environment=drawn)
    assert done.returncode == 1, done.stderr
    answer = json.loads(done.stdout)
    states = {Path(study["files"][0]).name: study["state"] for study in answer["studies"]}
    assert states == {"good.dcm": "REPORTED", "hand.dcm": "SKIPPED"}
    assert [Path(name).name for name in answer["unreadable"]] == ["notes.txt"]
    written = sorted((tmp_path / "out").iterdir())
    assert [folder.name for folder in written] == sorted(
        study["study_instance_uid"] for study in answer["studies"]
    )
    assert all(len(list(folder.glob("*-sr.dcm"))) == 1 for folder in written)

    with (tmp_path / "scores.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    documented = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert all(f"| `{each.name}` | {each.description} |" in documented for each in TABLE_COLUMNS)
    for study in answer["studies"]:
        mine = [row for row in rows if row["study_instance_uid"] == study["study_instance_uid"]]
        assert {(row["state"], row["reason"]) for row in mine} == {(study["state"], study["reason"])}
        assert {row["patient_id"] for row in mine} == {"PAT-1"}
        assert {row["finding"] for row in mine} == (set(study["findings"]) or {""})
        for row in (row for row in mine if row["finding"]):
            entry = study["findings"][row["finding"]]
            assert float(row["score"]) == entry["score"]
            assert (row["certainty"] or None) == (entry["certainty"] and str(entry["certainty"]))
            assert (row["presence"], float(row["threshold"])) == (entry["presence"], entry["threshold"])
            assert bool(row["low"]) == (entry["interval"] is not None)

    (odd,) = (row for row in rows if row["state"] == "UNREADABLE")
    assert Path(odd["film"]).name == "notes.txt"
    assert odd["reason"] == answer["unreadable"][odd["film"]]
    assert (odd["study_instance_uid"], odd["finding"]) == ("", "")

    # A second call would put another patient's pictures beside these.
    again = cli("analyze", str(films / "good.dcm"), "--out", str(tmp_path / "out"), environment=drawn)
    assert again.returncode == 2
    assert f"--out {tmp_path / 'out'}: it is not an empty folder" in again.stderr
    held = (tmp_path / "scores.csv").read_bytes()
    again = cli("analyze", str(films / "good.dcm"), "--csv", str(tmp_path / "scores.csv"), environment=drawn)
    assert again.returncode == 2
    assert "scores.csv exists: add --resume" in again.stderr
    assert (tmp_path / "scores.csv").read_bytes() == held


def test_a_study_whose_uid_is_none_does_not_end_the_others(tmp_path: Path) -> None:
    films = tmp_path / "films"
    films.mkdir()
    factories.write(factories.film(StudyInstanceUID="1.2.x"), films / "bad.dcm")
    factories.write(factories.film(study=2), films / "good.dcm")
    done = cli("analyze", "--json", str(films), environment={"DICOM_NODE_WORKER__GATE": ""})
    answer = json.loads(done.stdout)
    states = {Path(study["files"][0]).name: study["state"] for study in answer["studies"]}
    assert done.returncode == 1
    assert states == {"good.dcm": "REPORTED"}
    assert "StudyInstanceUID" in answer["unreadable"]["study 1.2.x"]


@pytest.mark.parametrize("command", ["serve", "worker"])
@pytest.mark.parametrize("style", ["text", "json"])
def test_a_full_disk_at_the_start_is_one_line(tmp_path: Path, style: str, command: str) -> None:
    """A limit of the size of files stands for the disk."""
    started = subprocess.run(
        ["prlimit", "--fsize=0", sys.executable, "-m", "dicom_node", command],
        env={
            **os.environ,
            "DICOM_NODE_DATA_DIR": str(tmp_path / "node"),
            "DICOM_NODE_LOG_FORMAT": style,
            "DICOM_NODE_BROKER_URL": "redis://127.0.0.1:1/0",  # a worker alone needs one; it is not asked yet
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert started.returncode == 1
    (line,) = started.stderr.splitlines()
    if style == "json":
        line = json.loads(line)["message"]
    # A worker alone does not write its process id into the folder: it is the database that fails.
    what = f"data_dir {tmp_path / 'node'}: File too large; free space on its disk"
    assert (
        what if command == "serve" else "database: disk I/O error; check its disk, and the free space"
    ) in line


@pytest.mark.parametrize(
    ("words", "offered"),
    [("mod", "models"), ("models prom", "promote"), ("analyze --parq", "--parquet")],
)
def test_a_shell_completes_commands_and_options(words: str, offered: str) -> None:
    typed = f"dicom-node {words}"
    asked = {"_DICOM_NODE_COMPLETE": "complete_bash", "COMP_WORDS": typed}
    done = subprocess.run(
        [Path(sys.executable).with_name("dicom-node")],  # a shell completes it by this name
        env={**os.environ, **asked, "COMP_CWORD": str(len(typed.split()) - 1)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.split() == [offered]


def test_analyze_says_in_one_line_that_a_remote_model_does_not_answer(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('[[models]]\nname = "away"\nurl = "http://127.0.0.1:9"\nretries = 0\n')
    film = factories.write(factories.film(), tmp_path / "film.dcm")
    done = cli("--config", str(config), "analyze", str(film), environment={"DICOM_NODE_WORKER__GATE": ""})
    assert done.returncode in (1, 2)
    (line,) = [each for each in done.stderr.splitlines() if each.startswith("error: ")]
    assert "127.0.0.1:9" in line
    assert "Traceback" not in done.stderr
