"""Model cards and calibration curves, as the worker left them beside its readings."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt
from markupsafe import Markup

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_STEPS = 40
CARD: Final = "README.md"
CALIBRATION: Final = "calibration.json"
METRICS: Final = "metrics.json"

# HTML in a card stays text, and an image or a link leads nowhere by script.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "html_inline"])


@dataclass(frozen=True, slots=True)
class Curve:
    """How one label's score becomes a probability.

    Attributes
    ----------
    points
        (score, probability), from left to right.
    threshold
        On the scale of the probability.
    positives
        Studies that the curve was fitted to and that have the finding.
    error
        Expected calibration error on data that the curve was not fitted to; None when it is not known.
    """

    key: str
    points: Sequence[tuple[float, float]]
    threshold: float
    positives: int
    error: float | None


@dataclass(frozen=True, slots=True)
class Card:
    """What is known of one bundle; empty where the worker left nothing."""

    name: str
    html: Markup
    curves: Sequence[Curve]


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
    return Card(name, _html(text), _curves(place))


def _html(text: str) -> Markup:
    tokens = _MARKDOWN.parse(text)
    for token in tokens:
        if "style" in token.attrs:  # how a column is aligned; the page's policy allows no style inline
            token.attrs = {"class": "number"} if token.attrs["style"] == "text-align:right" else {}
    # Rendered from Markdown without HTML: nothing in it is markup but what the renderer writes.
    return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))  # noqa: S704


def _curves(place: Path) -> list[Curve]:
    calibration = _json(place / CALIBRATION).get("labels", {})
    tested = _json(place / METRICS).get("test", {}).get("labels", {})
    return [
        Curve(
            key=key,
            points=[(score, _probability(score, entry)) for score in _scores()],
            threshold=entry["threshold"],
            positives=entry["n_positive"],
            error=tested.get(key, {}).get("ece"),
        )
        for key, entry in calibration.items()
        if entry["method"] == "platt"
    ]


def _scores() -> list[float]:
    return [step / _STEPS for step in range(_STEPS + 1)]


def _probability(score: float, entry: dict[str, Any]) -> float:
    """Platt's curve: sigmoid(slope * logit(score) + intercept)."""
    inside = min(max(score, 1e-6), 1 - 1e-6)
    logit = math.log(inside / (1 - inside))
    return 1 / (1 + math.exp(-(entry["slope"] * logit + entry["intercept"])))


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text("utf-8"))) if path.exists() else {}
