"""Rendering of HTML templates, and the filters that format times and numbers in them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Final

from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from dicom_node.config.addresses import is_loopback
from dicom_node.config.settings import Settings
from dicom_node.results.codes import GATE_REFUSALS, REFUSALS, RESEARCH_USE_ONLY
from dicom_node.results.report import THRESHOLD_WORDS
from dicom_node.runtime import logs
from dicom_node.store.states import ResultState, StudyState

WEB_DIR: Final = Path(__file__).parent

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
NORMALITY_WORDS: Mapping[str, str] = {
    "present": "normal",
    "absent": "abnormal",
    "undetermined": "neither normal nor abnormal",
}
ACTION_WORDS: Mapping[str, str] = {
    "replay": "reproducibility check",
    "retry": "analysis asked for again",
    "read anyway": "refused films read anyway",
    "retract": "results withdrawn",
    "try": "film tried",
}
"""Words of actions in the access log whose names are those of commands."""


class PageRenderer:
    """Renderer of the page templates; all values are escaped unless they are marked as HTML.

    Parameters
    ----------
    settings
        Settings of the node.
    """

    def __init__(self, settings: Settings) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(WEB_DIR / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "short": logs.uid_hash,
            "utc": utc,
            "iso": iso,
            "age": age,
            "patient_age": patient_age,
            "date": date,
            "percent": percent,
            "interval": interval,
            "frequency": frequency,
            "decimal": decimal,
        }
        self._environment.globals |= {
            "ae_title": settings.dicom.ae_title,
            # Empty where it listens on all addresses: then that by which the page was reached is one of them.
            "dicom_host": "" if settings.dicom.host in ("0.0.0.0", "::") else settings.dicom.host,  # noqa: S104
            "dicom_port": settings.dicom.port,
            "dicom_local": is_loopback(settings.dicom.host),
            "version": version("dicom-node"),
            "study_words": STUDY_WORDS,
            "result_words": RESULT_WORDS,
            "threshold_words": {presence.value: word for presence, word in THRESHOLD_WORDS.items()},
            "normality_words": NORMALITY_WORDS,
            "action_words": ACTION_WORDS,
            "refusals": {key: reason.sentence for key, reason in REFUSALS.items()},
            "gate_refusals": GATE_REFUSALS,
            "research_use_only": RESEARCH_USE_ONLY,
            "login_needed": settings.login_needed,
            "oidc_button": settings.oidc.button if settings.oidc.issuer else "",
        }

    def render(self, template: str, status: int = HTTPStatus.OK, /, **values: object) -> HTMLResponse:
        """Render a page.

        Parameters
        ----------
        values
            Variables of the template; `user` is None and `csrf` empty when nobody is logged in.
        """
        values = {"user": None, "csrf": "", "now": time.time(), **values}
        return HTMLResponse(self._environment.get_template(template).render(**values), status)


def utc(seconds: float) -> str:
    """Format a time in UTC for people."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(seconds))


def iso(seconds: float) -> str:
    """Format a time in UTC for programs (ISO 8601)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def date(dicom: str) -> str:
    """Format a DA value with dashes; anything else stays as it is."""
    return f"{dicom[:4]}-{dicom[4:6]}-{dicom[6:]}" if len(dicom) == 8 and dicom.isdigit() else dicom


def percent(share: float) -> str:
    """Format a probability; 0 % and 100 % are kept for exactly 0 and 1."""
    hundred = 100 * share
    if 0 < hundred < 1:
        return "< 1 %"
    return "> 99 %" if 99 < hundred < 100 else f"{hundred:.0f} %"


def interval(low: float, high: float) -> str:
    """Format an interval of probabilities."""
    ends = percent(low), percent(high)
    return ends[0] if ends[0] == ends[1] else f"{ends[0].removesuffix(' %')}–{ends[1]}"


def frequency(certainty: float, low: float | None, high: float | None) -> str:
    """Say a calibrated probability, with its 95 % interval where there is one, as a natural frequency."""
    many = percent(certainty).removesuffix(" %")
    words = {"<": "fewer than", ">": "more than"}
    said = f"{words[many[0]]} {many[2:]}" if many[0] in words else f"about {many}"
    limits = "" if low is None or high is None else f" ({100 * low:.0f} to {100 * high:.0f})"
    return f"in 100 such studies {said} had it{limits}"


def age(seconds: float) -> str:
    """Format a duration with its two largest units."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count or (unit == "s" and not parts):
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2])


def patient_age(value: str) -> str:
    """Format an AS value (PS3.5 6.2), such as ``063Y``, for people; anything else stays as it is."""
    units = {"Y": "y", "M": "mo", "W": "wk", "D": "d"}
    number, unit = value[:-1], units.get(value[-1:], "")
    return f"{int(number)} {unit}" if unit and number.isdigit() else value


def decimal(number: float) -> str:
    """Format a number in [0, 1] with two decimals; a smaller one with one significant digit."""
    shown = f"{number:.2f}"
    return f"{number:.1g}" if number > 0 and shown == "0.00" else shown
