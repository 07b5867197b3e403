"""Model cards and reliability diagrams of the bundles that the worker has used."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt
from markupsafe import Markup

from dicom_node.config.data_dir import FINDING_CODES
from dicom_node.results.report import Code

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
CARD: Final = "README.md"
CALIBRATION: Final = "calibration.json"
METRICS: Final = "metrics.json"

# HTML in a card stays text; images are off, and a link cannot run a script.
_MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "html_inline"])


@dataclass(frozen=True, slots=True)
class Observed:
    """One point of a reliability diagram: test studies with about the same certainty.

    Attributes
    ----------
    predicted
        Mean certainty.
    observed, low, high
        Share of the studies that have the finding, with the limits of its 95 % interval.
    count
        Number of studies.
    """

    predicted: float
    observed: float
    low: float
    high: float
    count: int


@dataclass(frozen=True, slots=True)
class Reliability:
    """Reliability of the certainty of one finding.

    Attributes
    ----------
    points
        Points from low to high certainty, on studies not used for the calibration; empty when not measured.
    threshold
        Threshold on the scale of the certainty.
    positives
        Number of calibration studies that have the finding.
    error
        Expected calibration error on the studies of `points`; None when not measured.
    """

    key: str
    points: Sequence[Observed]
    threshold: float
    positives: int
    error: float | None


@dataclass(frozen=True, slots=True)
class Card:
    """Model card and calibration of one bundle; empty where the worker has left no file.

    Attributes
    ----------
    text
        Text in Markdown.
    reliabilities
        Reliability of each calibrated finding.
    """

    name: str
    text: str
    reliabilities: Sequence[Reliability]

    @property
    def html(self) -> Markup:
        """Text rendered as HTML."""
        tokens = _MARKDOWN.parse(self.text)
        for token in tokens:
            if (
                "style" in token.attrs
            ):  # alignment of a column; the content security policy forbids inline styles
                right = token.attrs["style"] == "text-align:right"
                token.attrs = {"class": "number"} if right else {}
        # Safe: the parser does not pass HTML through, so all markup comes from the renderer.
        return Markup(_MARKDOWN.renderer.render(tokens, _MARKDOWN.options, {}))  # noqa: S704


def read_card(folder: Path, name: str) -> Card | None:
    """Return the card of a bundle; None when no worker has used a bundle of that name.

    Parameters
    ----------
    folder
        Folder where the worker stores the cards.
    name
        Name and version of the bundle, such as ``openi-findings-0.2.0``.
    """
    bundle_dir = folder / name
    if not _NAME.fullmatch(name) or not bundle_dir.is_dir():
        return None
    card = bundle_dir / CARD
    text = card.read_text("utf-8") if card.exists() else ""
    return Card(name, text, _reliabilities(bundle_dir))


def read_finding_codes(folder: Path) -> dict[str, Code]:
    """Return the codes of the findings of all bundles that the worker has used, by key.

    Parameters
    ----------
    folder
        As for :func:`read_card`.
    """
    found: dict[str, Code] = {}
    for file in sorted(folder.glob(f"*/{FINDING_CODES}")):
        found |= {key: Code(*parts) for key, parts in _json(file).items()}
    return found


def _reliabilities(bundle_dir: Path) -> list[Reliability]:
    calibration = _json(bundle_dir / CALIBRATION).get("labels", {})
    tested = _json(bundle_dir / METRICS).get("test", {}).get("labels", {})
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
