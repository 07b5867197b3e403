"""The help of every command ends with an example that the command would take."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from dicom_node.cli.app import COMMANDS, app
from dicom_node.cli.examples import EXAMPLES

ROOT = typer.main.get_command(app)


def _leaves() -> list[str]:
    found = []
    for name in (name for name, entry in COMMANDS.items() if not entry.hidden):
        command = ROOT.get_command(None, name)
        found += [f"{name} {inner}" for inner in getattr(command, "commands", {})] or [name]
    return found


def test_every_command_has_an_example_and_no_other_has() -> None:
    assert sorted(_leaves()) == sorted(EXAMPLES)


def _parsed(command: Any, name: str, words: list[str], parent: Any) -> Any:
    """Context of a command with its arguments; None when they name files that are not here."""
    try:
        return command.make_context(name, words, parent=parent)
    except typer.BadParameter as error:
        if "does not exist" not in error.message:
            raise
        return None


@pytest.mark.parametrize("words", EXAMPLES)
def test_the_example_is_in_the_help_and_its_options_exist(words: str) -> None:
    said = CliRunner().invoke(app, [*words.split(), "--help"], terminal_width=200)
    assert said.exit_code == 0
    assert f"Example: dicom-node {EXAMPLES[words]}" in " ".join(said.stdout.split())
    example = shlex.split(EXAMPLES[words].partition(" > ")[0])
    context = ROOT.make_context("dicom-node", example[:])
    rest = [*context._protected_args, *context.args]
    assert rest[: len(words.split())] == words.split()
    command = ROOT
    for _ in words.split():
        name, command, rest = command.resolve_command(context, rest)
    # Parsed as it stands, it has every required option, and no other than there are; the files are not here.
    context = _parsed(command, name, rest, context)
    assert context is None or context.info_name == name
