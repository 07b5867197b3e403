"""Sequence diagrams as drawings in the page, for the documentation site: a hook of MkDocs.

The source is the part of Mermaid's language that the documents use. Where the repository is read, Mermaid
draws it; here it is drawn when the site is built, because Mermaid would be three megabytes from another
server. A line that is not understood is an error.
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from html import escape

from mkdocs.exceptions import PluginError

BLOCK = re.compile(r"^```mermaid\nsequenceDiagram\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PARTICIPANT = re.compile(r"participant (?P<key>\w+)(?: as (?P<label>.+))?")
MESSAGE = re.compile(r"(?P<source>\w+)(?P<line>--?)>>(?P<target>\w+): (?P<text>.+)")
NOTE = re.compile(r"Note over (?P<over>\w+): (?P<text>.+)")

COLUMN = 122
"""Distance of two participants, in pixels."""
LINE = 13
"""Height of a line of text, in pixels."""
_HEAD = 58
LETTER = 5.6
"""Mean width of a letter, in pixels."""


@dataclass
class Diagram:
    """Drawing in the making: participants from left to right, then one row for each line of the source.

    Attributes
    ----------
    labels
        Lines of text of each participant, by key, in order.
    rows
        SVG of the rows so far.
    height
        Height so far, in pixels.
    number
        Number of messages so far.
    """

    labels: dict[str, list[str]] = field(default_factory=dict)
    rows: list[str] = field(default_factory=list)
    height: float = _HEAD + 12
    number: int = 0

    def centre(self, key: str) -> float:
        """Return the horizontal place of a participant, in pixels."""
        if key not in self.labels:
            raise PluginError(f"sequence diagram: {key} is no participant")
        return (list(self.labels).index(key) + 0.5) * COLUMN

    def add_message(self, source: str, target: str, text: str, *, dashed: bool) -> None:
        """Add a numbered arrow with its text above; one to itself has its text beside it."""
        self.number += 1
        begin, end = self.centre(source), self.centre(target)
        to_itself = source == target
        width = 1.8 * COLUMN if to_itself else abs(end - begin) - 12
        lines = textwrap.wrap(f"{self.number}. {text}", int(width / LETTER))
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        if to_itself:
            top, bottom = self.height + 12, self.height + 16 + LINE * max(1, len(lines) - 1)
            self.rows.append(_text(lines, begin + 26, self.height + 8 + LINE, "start"))
            self.rows.append(f'<path d="M{begin} {top}h18V{bottom}H{begin + 7}"{dash}/>')
            self.rows.append(_head(begin, bottom, -1))
            self.height = max(bottom, self.height + 8 + LINE * len(lines)) + 8
        else:
            way = 1 if end > begin else -1
            self.rows.append(_text(lines, (begin + end) / 2, self.height + LINE, "middle"))
            self.height += LINE * len(lines) + 8
            self.rows.append(
                f'<line x1="{begin}" y1="{self.height}" x2="{end - 7 * way}" y2="{self.height}"{dash}/>'
            )
            self.rows.append(_head(end, self.height, way))
            self.height += 10

    def add_note(self, over: str, text: str) -> None:
        """Add a note on the line of a participant."""
        lines = textwrap.wrap(text, int(1.2 * COLUMN / LETTER) - 2)
        width, height = 1.2 * COLUMN + 8, LINE * len(lines) + 10
        left = max(1.0, self.centre(over) - width / 2)
        self.rows.append(
            f'<rect class="note" x="{left}" y="{self.height + 4}" width="{width}" height="{height}" rx="3"/>'
        )
        self.rows.append(_text(lines, left + width / 2, self.height + 6 + LINE, "middle", "noted"))
        self.height += height + 12

    def render(self) -> str:
        """Return the drawing as HTML."""
        width, height = COLUMN * len(self.labels), self.height + 8
        heads = []
        for key, (name, *modules) in self.labels.items():
            centre, left = self.centre(key), self.centre(key) - COLUMN / 2 + 3
            lines = [line for module in modules for line in textwrap.wrap(module, int(COLUMN / LETTER) - 2)]
            heads += (
                f'<line class="life" x1="{centre}" y1="{_HEAD}" x2="{centre}" y2="{self.height}"/>',
                f'<rect class="participant" x="{left}" y="2" width="{COLUMN - 6}" height="{_HEAD - 2}"/>',
                _text([name], centre, 20 if lines else _HEAD / 2 + 5, "middle", "name"),
                _text(lines, centre, 35, "middle", "module"),
            )
        return (
            '<div class="sequence" role="img" aria-label="Sequence diagram">'
            f'<svg viewBox="0 0 {width} {height}">{"".join(heads + self.rows)}</svg></div>'
        )


def _text(lines: list[str], x: float, y: float, anchor: str, name: str = "label") -> str:
    return "".join(
        f'<text class="{name}" x="{x}" y="{y + LINE * number}" text-anchor="{anchor}">{escape(line)}</text>'
        for number, line in enumerate(lines)
    )


def _head(x: float, y: float, way: int) -> str:
    return f'<path class="head" d="M{x} {y}l{-8 * way} -4v8z"/>'


def draw(source: str) -> str:
    """Return a sequence diagram as HTML.

    Parameters
    ----------
    source
        Lines of the diagram, without the first.

    Raises
    ------
    PluginError
        When a line is none of participant, message and note.
    """
    diagram = Diagram()
    for line in filter(None, map(str.strip, source.splitlines())):
        if found := PARTICIPANT.fullmatch(line):
            diagram.labels[found["key"]] = (found["label"] or found["key"]).split("<br/>")
        elif found := MESSAGE.fullmatch(line):
            diagram.add_message(found["source"], found["target"], found["text"], dashed=found["line"] == "--")
        elif found := NOTE.fullmatch(line):
            diagram.add_note(found["over"], found["text"])
        elif line != "autonumber":
            raise PluginError(f"sequence diagram: a line that cannot be drawn: {line}")
    return diagram.render()


def on_page_markdown(markdown: str, **_: object) -> str:
    """Put the drawings in the place of their sources."""
    return BLOCK.sub(lambda found: draw(found[1]), markdown)
