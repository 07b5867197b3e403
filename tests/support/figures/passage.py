"""Passage of a document: its form, and where its numbers come from."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

HOLE: Final = "{}"
#: Number, version or word, without the comma or full stop of the sentence behind it.
_NUMBER: Final = r"(-?\w[\w,%-]*(?:\.\w+)*)"


@dataclass(frozen=True, slots=True)
class Figure:
    """Number, as the document has to say it.

    Attributes
    ----------
    text
        Number in its format; or a word, such as ``nine``. Without white space.
    source
        File and place in it, such as ``models/bundles/x/metrics.json: test.macro.auc``.
    """

    text: str
    source: str


@dataclass(frozen=True, slots=True)
class Passage:
    """Passage of a document, or row of a table, with numbers.

    Attributes
    ----------
    document
        Path below the root of the project.
    form
        Passage with ``{}`` in the place of each number. Any white space stands for any other, so that lines
        may break anywhere. It ends with no ``{}``.
    figures
        A figure for each ``{}``.
    after
        Text that stands once in the document: the passage is the first of the form behind it. Empty where the
        form is met once in the whole document.
    """

    document: str
    form: str
    figures: tuple[Figure, ...]
    after: str = ""

    def __post_init__(self) -> None:
        if self.form.count(HOLE) != len(self.figures) or self.form.endswith(HOLE):
            raise ValueError(
                f"{self.document}: {self.form!r} needs a figure for each {HOLE}, and an end behind it"
            )

    def find(self, text: str) -> re.Match[str]:
        """Return where the passage stands, with a group for each number.

        Raises
        ------
        LookupError
            When the document has no such passage, or has it more than once.
        """
        begin = 0
        if self.after:
            if text.count(self.after) != 1:
                raise LookupError(
                    f"{self.document}: {self.after!r} stands there {text.count(self.after)} times"
                )
            begin = text.index(self.after) + len(self.after)
        found = list(itertools.islice(re.compile(_pattern(self.form)).finditer(text, begin), 2))
        if not found or (not self.after and len(found) > 1):
            raise LookupError(
                f"{self.document}: {len(found) or 'no'} passages of the form {self.form!r}"
                f"{f' behind {self.after!r}' if self.after else ''}; tests/support/figures has the forms"
            )
        return found[0]


def _pattern(form: str) -> str:
    parts = (r"\s+".join(map(re.escape, re.split(r"\s+", part))) for part in form.split(HOLE))
    return _NUMBER.join(parts)


@dataclass(frozen=True, slots=True)
class Mistake:
    """Number of a document that is not what its source says."""

    document: str
    line: int
    said: str
    right: Figure

    def __str__(self) -> str:
        return (
            f"{self.document}:{self.line}: {self.said!r} should be {self.right.text!r} "
            f"({self.right.source}); `make figures` writes it"
        )


def mistakes(text: str, passages: Iterable[Passage]) -> Iterator[Mistake | LookupError]:
    """Compare a document with the sources of its numbers.

    Parameters
    ----------
    text
        Contents of the document.
    passages
        Passages of this document alone.

    Yields
    ------
    Mistake or LookupError
        A number that differs, or a passage that is not there.
    """
    for passage in passages:
        try:
            match = passage.find(text)
        except LookupError as error:
            yield error
            continue
        for group, figure in enumerate(passage.figures, start=1):
            if match[group] != figure.text:
                line = text.count("\n", 0, match.start(group)) + 1
                yield Mistake(passage.document, line, match[group], figure)


def corrected(text: str, passages: Iterable[Passage]) -> str:
    """Return a document with every number as its source says.

    Raises
    ------
    LookupError
        When a passage is not there.
    """
    for passage in passages:
        match = passage.find(text)
        for group, figure in reversed(list(enumerate(passage.figures, start=1))):
            text = text[: match.start(group)] + figure.text + text[match.end(group) :]
    return text


_ROW: Final = re.compile(r"^\|.*\|$", re.MULTILINE)
_RULE: Final = re.compile(r"^\|[\s:|-]+\|$")
#: Digits that are no part of a name (F1, ChestX-ray14), outside of code and of the addresses of links.
_DIGITS: Final = re.compile(r"`[^`]*`|\]\([^)]*\)|(?<![\w.,-])-?\d[\d.,]*")


def unsourced(text: str, passages: Sequence[Passage]) -> Iterator[tuple[int, str]]:
    """List the numbers in tables that no passage has a source for.

    The first cell of a row that a passage knows names what was measured: its numbers need no source.

    Yields
    ------
    int, str
        Line and number.
    """
    sourced: set[int] = set()
    for passage in passages:
        match = passage.find(text)
        for group in range(1, len(passage.figures) + 1):
            sourced.update(range(match.start(group), match.end(group)))
        if match[0].startswith("|"):
            sourced.update(range(match.start(), match.start() + match[0].index("|", 1)))
    rows = list(_ROW.finditer(text))
    for row, following in itertools.zip_longest(rows, rows[1:]):
        if _RULE.match(row[0]) or (following is not None and _RULE.match(following[0])):
            continue
        for digits in _DIGITS.finditer(row[0]):
            place = row.start() + digits.start()
            if digits[0][0] not in "`]" and place not in sourced:
                yield text.count("\n", 0, place) + 1, digits[0].rstrip(".,")
