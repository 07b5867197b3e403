"""Screening of a study's instances: which may be analysed, and the reason why each other may not.

Three checks follow each other: header, pixels, gate.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.errors import NotAnalysable
from dicom_node.imaging import attributes
from dicom_node.imaging.decoder import Decoder
from dicom_node.imaging.grayscale import GreyTransform
from dicom_node.imaging.orientation import AS_STORED, Orientation
from dicom_node.imaging.pixels import read_header
from dicom_node.imaging.selection import Eligibility, select
from dicom_node.results.codes import GATE_REFUSALS, LATERAL_VIEWS
from dicom_node.results.report import Refusal, Source
from models.gate.model import Gate
from models.processing.types import Film
from worker.film_correction import CorrectedFilm, correct_films
from worker.report_builder import gate_eligibility


@dataclass(slots=True, eq=False)
class ScreenedInstance:
    """Instance with a readable header, and the result of the checks so far.

    Attributes
    ----------
    path
        DICOM file.
    header
        Data set without its pixels.
    verdict
        Whether the instance may be analysed, or the reason why not.
    view
        View that the gate sees, ``frontal`` or ``lateral``; empty when no gate looked.
    remarks
        What was done to read the film otherwise than its header says, one clause each.
    grey
        Transform by which the models see the film; None when its pixels were not read.
    orientation
        Way from the stored picture to the one that the models see.
    """

    path: Path
    header: Dataset
    verdict: Eligibility
    view: str = ""
    remarks: tuple[str, ...] = ()
    grey: GreyTransform | None = None
    orientation: Orientation = AS_STORED

    @property
    def source(self) -> Source:
        """Entry of the instance in a report."""
        return Source(
            self.header,
            analysed=self.verdict.analysable,
            exclusion=self.verdict.text,
            reason=self.verdict.reason,
            view=self.view,
            remarks=self.remarks,
            grey=self.grey,
            orientation=self.orientation,
        )

    @property
    def uid(self) -> str:
        """SOP Instance UID."""
        return self.source.sop_instance_uid


def screen_headers(paths: Sequence[Path]) -> list[ScreenedInstance]:
    """Read and check the headers; a file without a readable header is left out."""
    headers: list[tuple[Path, Dataset]] = []
    for path in paths:
        with contextlib.suppress(NotAnalysable):
            headers.append((path, read_header(path)))
    verdicts = select([header for _, header in headers])
    return [
        ScreenedInstance(path, header, verdict)
        for (path, header), verdict in zip(headers, verdicts, strict=True)
    ]


def screen_films(
    instances: Sequence[ScreenedInstance],
    decoder: Decoder,
    gate: Gate | None,
    max_films: int,
    *,
    override_gate: bool = False,
) -> list[CorrectedFilm]:
    """Return the films that a model may read; each other instance gets the reason as its verdict.

    No more films are in memory than are returned.

    Parameters
    ----------
    instances
        Instances from :func:`screen_headers`; their verdicts, views and remarks are updated.
    decoder
        Decoder of the pixels.
    gate
        Gate that the films pass; None lets every film through.
    max_films
        Most films to return. Those that are refused do not count; the order is :func:`in_reading_order`.
    override_gate
        True to return films that the gate refuses too, each with a remark on what the gate said; blank ones
        stay refused.

    Raises
    ------
    StorageFailed
        If a file cannot be opened.
    """
    films: list[CorrectedFilm] = []
    waiting = in_reading_order([each for each in instances if each.verdict.analysable])
    while waiting and len(films) < max_films:
        room = max_films - len(films)
        some, waiting = set(waiting[:room]), waiting[room:]
        found = _read_films(
            [each for each in instances if each in some], decoder, gate, override_gate=override_gate
        )
        films += found
    for each in waiting:
        text = f"the study holds more films than the {max_films} that are analysed (worker.max_films)"
        each.verdict = Eligibility("too_many", text)
    position = {each.uid: number for number, each in enumerate(instances)}
    return sorted(films, key=lambda film: position[film.film.identifier])


def in_reading_order(instances: Sequence[ScreenedInstance]) -> list[ScreenedInstance]:
    """Return the instances in the order in which they are read.

    Those that their header does not call lateral come first, and among them the newest by Acquisition Date
    and Time. Those of the same time stay in order.
    """

    def taken(instance: ScreenedInstance) -> str:
        date, time = (attributes.text(instance.header, f"Acquisition{each}") for each in ("Date", "Time"))
        return f"{date[:8]:8}{time}" if date else ""

    newest_first = sorted(instances, key=taken, reverse=True)
    return sorted(newest_first, key=lambda instance: not is_frontal(instance.source))


def _read_films(
    instances: Sequence[ScreenedInstance], decoder: Decoder, gate: Gate | None, *, override_gate: bool
) -> list[CorrectedFilm]:
    films: dict[str, tuple[Film, ScreenedInstance]] = {}
    for instance in instances:
        try:
            pixels, instance.grey = decoder.decode_as_seen(instance.path)
        except NotAnalysable as error:
            instance.verdict = Eligibility(error.reason, str(error))
        else:
            films[instance.uid] = (Film(instance.uid, pixels), instance)
    corrected = correct_films(
        [(film, instance.header) for film, instance in films.values()],
        gate,
        lambda uid: decoder.decode(films[uid][1].path, opposite=True),
    )
    accepted = []
    for film, (_, instance) in zip(corrected, films.values(), strict=True):
        if film.inverted and instance.grey is not None:
            instance.grey = replace(instance.grey, inverted=not instance.grey.inverted)
        passed_over = () if instance.grey is None else instance.grey.passed_over(instance.header)
        instance.remarks = (*passed_over, *film.remarks)
        instance.orientation = film.orientation
        if film.verdict is not None:
            instance.verdict = gate_eligibility(film.verdict)
            instance.view = film.verdict.view if film.verdict.reason is None else ""
        if override_gate and instance.verdict.reason in GATE_REFUSALS:
            said = f"the gate refused this film, because {instance.verdict.text}"
            instance.remarks = (*instance.remarks, f"{said}; it was read because an admin asked for it")
            instance.verdict = Eligibility()
        if instance.verdict.analysable:
            accepted.append(film)
    return accepted


def common_refusal(instances: Sequence[ScreenedInstance]) -> Refusal:
    """Return the reason that all instances share, or a refusal that lists the different ones."""
    reasons = {instance.verdict.reason: instance.verdict.text for instance in instances}
    if len(reasons) == 1:
        reason, text = next(iter(reasons.items()))
        return Refusal(reason, text)
    return Refusal("no_film", f"no image of the study can be analysed: {'; '.join(reasons.values())}")


def is_frontal(source: Source) -> bool:
    """Return whether a film is not known to be lateral; the gate's view goes before the header's."""
    if source.view:
        return source.view == "frontal"
    return attributes.text(source.header, "ViewPosition").upper() not in LATERAL_VIEWS
