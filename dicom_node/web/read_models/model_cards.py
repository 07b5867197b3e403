"""Model cards and reliability diagrams, as the worker left them beside its readings."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt
from markupsafe import Markup

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
CARD: Final = "README.md"
CALIBRATION: Final = "calibration.json"
METRICS: Final = "metrics.json"

# HTML in a card stays text, and an image or a link leads nowhere by script.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "html_inline"])


@dataclass(frozen=True, slots=True)
class Observed:
    """What became of the studies of which the model was about equally certain.

    Attributes
    ----------
    predicted
        Mean of their certainties.
    observed, low, high
        Share of them that have the finding, with the ends of its 95 % interval.
    count
        How many there are.
    """

    predicted: float
    observed: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far the certainty of one finding can be believed.

    Attributes
    ----------
    points
        On studies that the calibration has not seen, from little certainty to much; empty when not measured.
    threshold
        On the scale of the certainty.
    positives
        Studies of the calibration that have the finding.
    error
        Expected calibration error on the studies of `points`; None when it is not known.
    """

    key: str
    points: Sequence[Observed]
    threshold: float
    positives: int
    error: float | None


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of one bundle; empty where the worker left nothing.

    Attributes
    ----------
    text
        Markdown.
    reliabilities
        Of the calibrated findings.
    """

    name: str
    text: str
    reliabilities: Sequence[Reliability]

    @property
    def html(self) -> Markup:
        """The text, rendered."""
        tokens = _MARKDOWN.parse(self.text)
        for token in tokens:
            if "style" in token.attrs:  # how a column is aligned; the page's policy allows no style inline
                right = token.attrs["style"] == "text-align:right"
                token.attrs = {"class": "number"} if right else {}
        # Rendered from Markdown without HTML: nothing in it is markup but what the renderer writes.
        return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))  # noqa: S704


def read_card(folder: Path, name: str) -> Card | None:
    """Return the card of a bundle; None when no worker ever used one of that name.

    Parameters
    ----------
    folder
        That the worker keeps cards in.
    name
        Name and version, such as ``openi-findings-0.2.0``.
    """
    place = folder / name
    if not _NAME.fullmatch(name) or not place.is_dir():
        return None
    card = place / CARD
    text = card.read_text("utf-8") if card.exists() else ""
    return Card(name, text, _reliabilities(place))


def _reliabilities(place: Path) -> list[Reliability]:
    calibration = _json(place / CALIBRATION).get("labels", {})
    tested = _json(place / METRICS).get("test", {}).get("labels", {})
    return [
        Reliability(
            key=key,
            points=[Observed(**point) for point in tested.get(key, {}).get("reliability") or ()],
            threshold=entry["threshold"],
            positives=entry["n_positive"],
            error=tested.get(key, {}).get("ece"),
        )
        for key, entry in calibration.items()
        if entry["method"] == "platt"
    ]


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}
