"""Old names of options, which work until the next release but are not listed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import typer

_DATA: Final = ("evaluate", "dataset", "cases build", "cases add", "cases learn", "cases evaluate")
_FIGURES: Final = ("evaluate", "cases evaluate")

RENAMED_OPTIONS: Final = dict.fromkeys(_DATA, ("--root", "--data"))
"""Old and new name of an option by the words of its command."""


def accept_old_options(name: str, command: Any) -> None:
    """Let a command take the old names of its options, each with one line on standard error.

    ``--json FILE`` of the commands that measure is now ``--figures FILE``: ``--json`` prints, as everywhere.

    Parameters
    ----------
    name
        Words of the command.
    command
        Command of Typer.
    """
    parse = command.parse_args

    def parse_args(ctx: Any, args: list[str]) -> list[str]:
        parsed: list[str] = parse(ctx, _renamed(name, args))
        return parsed

    if name in RENAMED_OPTIONS or name in _FIGURES:
        command.parse_args = parse_args


def _renamed(name: str, args: Sequence[str]) -> list[str]:
    old, new = RENAMED_OPTIONS.get(name, ("", ""))
    words: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*words, word, *rest]
        if word == old or word.startswith(f"{old}="):
            _say(old, new)
            word = new + word.removeprefix(old)
        elif name in _FIGURES and word == "--json" and rest and rest[0] == "-":
            rest.pop(0)
            _say("--json -", "--json")
        elif name in _FIGURES and word == "--json" and rest and not rest[0].startswith("-"):
            _say("--json FILE", "--figures FILE")
            word = "--figures"
        words.append(word)
    return words


def _say(old: str, new: str) -> None:
    typer.echo(f"`{old}` is now `{new}`; the next release removes the old name", err=True)
