"""Advice: every command that the program or a document names can be run as it is printed."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dicom_node.cli.app import COMMANDS, RENAMED, app

ROOT = Path(__file__).resolve().parents[3]
SOURCES = [file for part in ("dicom_node", "models", "worker") for file in (ROOT / part).rglob("*.py")]
NAMED = {ROOT / "dicom_node" / "conformance.py"}
"""Modules that name commands without an advice to run them."""
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *(ROOT / "models" / "recipes").glob("*.toml")]
_ROOT_COMMAND: Any = typer.main.get_command(app)
_KNOWN = "|".join(COMMANDS)
_ADVICE = re.compile(rf"`dicom-node ([^`]+)`|^dicom-node ((?:{_KNOWN}) [^\n]*)$", re.MULTILINE)
_NAMED = re.compile(r"dicom-node (\w[\w-]*)")
_LINE = re.compile(
    rf"^(?:\$ |#     )?(?:\.venv/bin/)?dicom-node (?P<words>(?:(?:--config|-c) \S+ )?(?:{_KNOWN})\b[^\n]*)$",
    re.MULTILINE,
)


def literals(file: Path) -> Iterator[str]:
    """Texts of a module apart from its docstrings; a placeholder of an f-string is X."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    apart: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            apart.add(node.value)
        if isinstance(node, ast.JoinedStr):
            apart |= set(node.values)
            yield "".join(part.value if isinstance(part, ast.Constant) else "X" for part in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in apart:
            yield node.value.replace("%s", "X")


def mistake(words: list[str]) -> str:
    """Reason why a command line is not one; empty when it is."""
    command, name = _ROOT_COMMAND, "dicom-node"
    context = None
    while True:
        try:
            context = command.make_context(name, list(words), parent=context)
        except SystemExit:
            return ""  # --help
        # A placeholder may be no number, or no file that exists.
        except Exception as error:  # noqa: BLE001 - typer brings its own classes
            return (
                "" if type(error).__name__ in {"BadParameter", "Exit"} else f"{type(error).__name__}: {error}"
            )
        if not hasattr(command, "list_commands"):
            return ""
        name, *words = [*context._protected_args, *context.args]
        name = RENAMED.get(name, name) if command is _ROOT_COMMAND else name
        parent, command = command, command.get_command(None, name)
        if command is None:
            return f"there is no command {name} of {parent.name}"


@pytest.mark.parametrize("file", SOURCES, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_what_the_program_advises_can_be_run(file: Path) -> None:
    if file in NAMED:
        return
    for text in literals(file):
        advised = [first or second for first, second in _ADVICE.findall(text)]
        wrong = {
            line: said
            for line in advised
            if not line.startswith("X") and (said := mistake(shlex.split(line)))
        }
        assert not wrong, file
        # What stands in no backticks can be neither told from the sentence around it nor checked.
        loose = [name for name in _NAMED.findall(_ADVICE.sub("", text)) if name in COMMANDS]
        assert not loose, f"{text!r}: put the command into backticks"


@pytest.mark.parametrize("file", DOCUMENTS, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_what_a_document_shows_can_be_run(file: Path) -> None:
    text = file.read_text(encoding="utf-8").replace("\\\n", " ")
    for found in _LINE.finditer(text):
        line = re.split(r" [&|>]|;", found["words"].replace("...", ""))[0]
        assert not (said := mistake(shlex.split(line, comments=True))), f"{line}: {said}"


def test_a_wrong_advice_is_found() -> None:
    assert "root" in mistake(["cases", "build", "openi-findings"])
    assert "no command" in mistake(["nothing"])
    assert mistake(["status", "--all"])
    assert mistake(["retract", "1.2.3"])
    assert not mistake(["--config", "node.toml", "cases", "build", "openi-findings", "--data", "FOLDER"])
    assert not mistake(["index", "build", "openi-findings", "--data", "FOLDER"])
