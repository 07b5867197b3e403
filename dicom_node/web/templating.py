"""Templates, with everything escaped that is not said to be HTML, and how numbers are written in them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dicom_node.config.settings import Settings
from dicom_node.results.codes import RESEARCH_USE_ONLY
from dicom_node.runtime import logs
from dicom_node.store.states import ResultState, StudyState

HERE: Final = Path(__file__).parent

STUDY_WORDS: Mapping[StudyState, str] = {
    StudyState.RECEIVING: "receiving",
    StudyState.COMPLETE: "in the queue",
    StudyState.ANALYSING: "being analysed",
    StudyState.REPORTED: "reported",
    StudyState.SKIPPED: "skipped",
    StudyState.FAILED: "failed",
    StudyState.PRIOR: "prior of another study",
}
RESULT_WORDS: Mapping[ResultState, str] = {
    ResultState.ENCODED: "waiting",
    ResultState.SENT: "sent",
    ResultState.CONFIRMED: "confirmed",
    ResultState.REJECTED: "rejected",
    ResultState.WITHDRAWN: "withdrawn",
}


class Pages:
    """Writes pages.

    Parameters
    ----------
    settings
        Of the node.
    """

    def __init__(self, settings: Settings) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "short": logs.short,
            "utc": utc,
            "iso": iso,
            "age": age,
            "date": date,
            "percent": percent,
            "span": span,
            "figure": figure,
        }
        self._environment.globals |= {
            "ae_title": settings.dicom.ae_title,
            "version": version("dicom-node"),
            "study_words": STUDY_WORDS,
            "result_words": RESULT_WORDS,
            "research_use_only": RESEARCH_USE_ONLY,
            "login_needed": settings.login_needed,
            "oidc_button": settings.oidc.button if settings.oidc.issuer else "",
        }

    def render(self, template: str, status: int = HTTPStatus.OK, /, **values: object) -> HTMLResponse:
        """Return a page.

        Parameters
        ----------
        values
            For the template; `visitor` and `csrf` are None and empty for one who has not logged in.
        """
        values = {"visitor": None, "csrf": "", "now": time.time(), **values}
        return HTMLResponse(self._environment.get_template(template).render(**values), status)


def utc(seconds: float) -> str:
    """Write a time for a person."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def iso(seconds: float) -> str:
    """Write a time for a machine."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def date(dicom: str) -> str:
    """Write a DA value with dashes; anything else as it is."""
    return f"{dicom[:4]}-{dicom[4:6]}-{dicom[6:]}" if len(dicom) == 8 and dicom.isdigit() else dicom


def percent(share: float) -> str:
    """Write a probability; one that is all but certain is never written as certain."""
    hundred = 100 * share
    if 0 < hundred < 1:
        return "< 1 %"
    return "> 99 %" if 99 < hundred < 100 else f"{hundred:.0f} %"


def span(low: float, high: float) -> str:
    """Write an interval of probabilities."""
    ends = percent(low), percent(high)
    return ends[0] if ends[0] == ends[1] else f"{ends[0].removesuffix(' %')}–{ends[1]}"


def age(seconds: float) -> str:
    """Write a duration with its two largest units."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def figure(number: float) -> str:
    """Write a number in [0, 1] with two decimals, or with one figure where these would say nothing."""
    shown = f"{number:.2f}"
    return f"{number:.1g}" if number > 0 and shown == "0.00" else shown
