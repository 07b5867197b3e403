"""Options: one name has one meaning over the tree of commands, and old names still work."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from dicom_node.cli import app as root
from dicom_node.cli.app import app
from dicom_node.cli.renamed_options import RENAMED_OPTIONS
from tests.support.peers import ROOT

DOCUMENT = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
SEVERAL_KINDS = {
    "--calling-ae",  # `rules test` asks about several senders
    "--keep",  # number of backups, or whether figures are kept
    "--method",  # `evaluate --explanations` compares several
}
"""Options that take a value, several or none, by the command."""


def leaves(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Commands by their words."""
    if not hasattr(command, "list_commands"):
        yield name, command
        return
    for part in command.list_commands(None):
        inner = command.get_command(None, part)
        if part != "child":
            yield from leaves(inner, f"{name} {part}".strip())


COMMANDS = dict(leaves(typer.main.get_command(app)))


def options(command: Any) -> Iterator[Any]:
    return (each for each in command.params if each.param_type_name == "option")


def test_a_name_is_a_flag_or_takes_a_value_everywhere() -> None:
    kinds: defaultdict[str, defaultdict[tuple[bool, bool], list[str]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for name, command in COMMANDS.items():
        for option in options(command):
            for each in option.opts:
                kinds[each][option.is_flag, option.multiple].append(name)
    odd = {option for option, found in kinds.items() if len(found) > 1}
    assert odd == SEVERAL_KINDS, {each: dict(kinds[each]) for each in odd}


@pytest.mark.parametrize(
    ("long", "short"), [("--bundle", "-b"), ("--finding", "-f"), ("--help", "-h")], ids=lambda each: each
)
def test_a_short_name_belongs_to_one_option(long: str, short: str) -> None:
    for name, command in COMMANDS.items():
        for option in options(command):
            # `rules test --finding` is a finding that a model would find.
            if long in option.opts and name != "rules test":
                assert short in option.opts, name
            if short in option.opts:
                assert long in option.opts, name


@pytest.mark.parametrize("name", COMMANDS)
def test_h_is_the_help(name: str) -> None:
    said = CliRunner().invoke(app, [*name.split(), "-h"])
    assert said.exit_code == 0
    assert "Usage" in said.stdout


def test_the_document_names_options_that_there_are() -> None:
    (table,) = re.findall(r"\| option \|.*?\n((?:\|.*\n)+)", DOCUMENT)
    named = set(re.findall(r"(?<!\w)(--[a-z]+)`", "".join(line.split("|")[1] for line in table.splitlines())))
    there = {each for command in COMMANDS.values() for option in options(command) for each in option.opts}
    assert named - {"--help", "--config"} <= there
    assert {"--data", "--json", "--bundle", "--device", "--help"} <= named


def test_data_is_the_one_name_of_a_data_set() -> None:
    for name, command in COMMANDS.items():
        names = {each for option in options(command) for each in option.opts}
        assert "--root" not in names, name
        if "--dataset" in names:
            assert "--data" in names, name
        if "--figures" in names:
            assert "--json" in names, name


def test_the_document_has_the_exit_codes_of_the_program() -> None:
    said = re.findall(r"^\| (\d+) \| (.+) \|$", DOCUMENT, re.MULTILINE)
    meant = re.findall(r"^(\d+) {2,}(\S.*(?:\n {6}\S.*)*)$", root.__doc__ or "", re.MULTILINE)
    assert said == [(code, " ".join(text.split())) for code, text in meant]


@pytest.mark.parametrize("name", sorted(RENAMED_OPTIONS))
@pytest.mark.parametrize("words", [["--root", "nowhere"], ["--root=nowhere"]], ids=["apart", "joined"])
def test_the_old_name_of_data_works_and_says_the_new_one(name: str, words: list[str]) -> None:
    needed = {
        "evaluate": ["openi-findings"],
        "dataset": ["none"],
        "cases build": ["openi-findings"],
        "cases add": ["nowhere", "--split", "train"],
        "cases learn": ["--out", "nowhere/file"],
        "cases evaluate": ["openi-findings", "--queries", "test"],
    }[name]
    before = CliRunner().invoke(app, [*name.split(), *needed, *words])
    now = CliRunner().invoke(app, [*name.split(), *needed, "--data", "nowhere"])
    assert (type(before.exception), str(before.exception)) == (type(now.exception), str(now.exception))
    assert before.stderr.splitlines()[0] == "`--root` is now `--data`; the next release removes the old name"
    assert "--root" not in now.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json", "no-folder/figures.json"], "`--json FILE` is now `--figures FILE`"),
        (["--json", "-"], "`--json -` is now `--json`"),
    ],
)
def test_the_old_json_with_a_file_works(words: list[str], said: str) -> None:
    done = CliRunner().invoke(app, ["evaluate", "openi-findings", "--data", "nowhere", *words])
    assert done.stderr.startswith(said)
    expected = "--figures no-folder/figures.json" if words[1] != "-" else "nowhere: there is no such folder"
    assert str(done.exception).startswith(expected)


def test_json_before_another_option_is_a_flag() -> None:
    done = CliRunner().invoke(app, ["evaluate", "openi-findings", "--json", "--data", "nowhere"])
    assert "is now" not in done.stderr
    assert str(done.exception).startswith("nowhere: there is no such folder")
