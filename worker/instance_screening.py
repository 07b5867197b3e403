"""The instances of a study that may be read: header, pixels and gate have their say, and reasons stay."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.errors import NotAnalysable
from dicom_node.imaging import attributes
from dicom_node.imaging.decoder import Decoder
from dicom_node.imaging.pixels import read_header
from dicom_node.imaging.selection import Verdict, select
from dicom_node.results.codes import LATERAL_VIEWS
from dicom_node.results.report import Refusal, Source
from models.gate.model import Gate
from models.processing.types import Film
from worker.report_builder import objection


@dataclass(slots=True, eq=False)
class Candidate:
    """An instance with a readable header, and whether it is, or was, fit to be analysed.

    Attributes
    ----------
    view
        As the gate sees it, ``frontal`` or ``lateral``; empty where no gate looked.
    """

    path: Path
    header: Dataset
    verdict: Verdict
    view: str = ""

    @property
    def source(self) -> Source:
        """What a report says of it."""
        return Source(
            self.header,
            analysed=self.verdict.analysable,
            exclusion=self.verdict.text,
            reason=self.verdict.reason,
            view=self.view,
        )

    @property
    def uid(self) -> str:
        """SOP Instance UID."""
        return self.source.sop_instance_uid


def read_candidates(paths: Sequence[Path]) -> list[Candidate]:
    """Read the headers and judge them; a file without a readable header is not among them."""
    headers: list[tuple[Path, Dataset]] = []
    for path in paths:
        with contextlib.suppress(NotAnalysable):
            headers.append((path, read_header(path)))
    verdicts = select([header for _, header in headers])
    return [
        Candidate(path, header, verdict) for (path, header), verdict in zip(headers, verdicts, strict=True)
    ]


def fit_films(candidates: Sequence[Candidate], decoder: Decoder, gate: Gate | None) -> list[Film]:
    """Return the films that a model may read; each of the others gets the reason as its verdict.

    Parameters
    ----------
    candidates
        From :func:`read_candidates`; their verdicts and views are brought up to date.
    decoder
        Of the pixels.
    gate
        That looks at them; None lets every film through.

    Raises
    ------
    StorageFailed
        When a file cannot be opened.
    """
    films = []
    for candidate in candidates:
        if not candidate.verdict.analysable:
            continue
        try:
            pixels = decoder.decode(candidate.path)
        except NotAnalysable as error:
            candidate.verdict = Verdict(error.reason, str(error))
        else:
            films.append(Film(candidate.uid, pixels))
    return films if gate is None or not films else _let_through(gate, films, candidates)


def _let_through(gate: Gate, films: list[Film], candidates: Sequence[Candidate]) -> list[Film]:
    verdicts = {verdict.film: verdict for verdict in gate.judge(films)}
    for candidate in candidates:
        verdict = verdicts.get(candidate.uid) if candidate.verdict.analysable else None
        if verdict is not None:
            candidate.verdict = objection(verdict)
            candidate.view = verdict.view if verdict.reason is None else ""
    return [film for film in films if verdicts[film.identifier].reason is None]


def why_not(candidates: Sequence[Candidate]) -> Refusal:
    """Name the one reason that all films share, or that there are several."""
    reasons = {candidate.verdict.reason: candidate.verdict.text for candidate in candidates}
    if len(reasons) == 1:
        reason, text = next(iter(reasons.items()))
        return Refusal(reason, text)
    return Refusal("no_film", f"no image of the study can be analysed: {'; '.join(reasons.values())}")


def is_frontal(source: Source) -> bool:
    """Whether a film is not known to be a lateral one: a gate's word goes before the header's."""
    if source.view:
        return source.view == "frontal"
    return attributes.text(source.header, "ViewPosition").upper() not in LATERAL_VIEWS
