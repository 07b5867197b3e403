"""Exports of a reader study: all readings as CSV and FHIR, and the results as CSV."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from sqlalchemy import Engine

from dicom_node.results.codes import PRESENCES
from dicom_node.results.report import Code, Presence
from dicom_node.runtime import logs
from dicom_node.store.case_boxes import Box, CaseBoxes
from dicom_node.store.case_readings import CaseReadings
from dicom_node.store.reader_studies import ReaderStudies, ReaderStudy
from dicom_node.web.fhir import ReadReport, Statement
from dicom_node.web.reader_studies.accuracy import Estimate
from dicom_node.web.reader_studies.results import Results
from dicom_node.web.spreadsheets import csv_line
from dicom_node.web.templating import iso

_INTENDED_USE: Final = "research use only"
_READING_COLUMNS: Final = (
    *("intended_use", "reader_study", "design", "reader", "study", "aided", "finding", "reference"),
    *("present", "confidence", "rating", "seconds", "visible_seconds", "displayed_at", "answered_at"),
    *("model_value", "model_threshold", "model_presence", "comment"),
    *("box_film", "box_left", "box_top", "box_right", "box_bottom"),
)
_RESULT_COLUMNS: Final = (
    *("intended_use", "reader_study", "statistic", "finding", "reader", "aided"),
    *("n", "value", "low", "high"),
)


def readings_csv(engine: Engine, found: ReaderStudy) -> Iterator[str]:
    """Yield the answered readings as lines of CSV: one for each reader, study, session and finding."""
    store = ReaderStudies(engine)
    cases = {each.id: each for each in store.cases(found)}
    model = store.model_answers(cases.values())
    boxes = CaseBoxes(engine).all(found)
    yield csv_line(_READING_COLUMNS)
    for each in CaseReadings(engine).readings(found):
        if each.answered_at is None:
            continue
        case = cases[each.case_id]
        for key in found.findings:
            answer, machine = each.answers[key], model.get(case.id, {}).get(key)
            reference = case.reference.get(key)
            yield csv_line(
                (
                    *(_INTENDED_USE, found.name, found.design, each.reader),
                    logs.uid_hash(case.study_instance_uid),
                    *(int(each.aided), key, None if reference is None else int(reference)),
                    *(int(answer.present), answer.confidence, answer.rating),
                    *(each.seconds, each.visible_seconds, iso(each.displayed_at), iso(each.answered_at)),
                    *(
                        (None, None, None)
                        if machine is None
                        else (machine.value, machine.threshold, machine.presence)
                    ),
                    each.comment,
                    *_box(boxes.get(each.id, {}).get(key)),
                )
            )


def readings_reports(engine: Engine, found: ReaderStudy, names: Mapping[str, Code]) -> Iterator[ReadReport]:
    """Yield the answered readings for an export as FHIR, each with its statements.

    Parameters
    ----------
    names
        Code of each finding by its key.
    """
    store = ReaderStudies(engine)
    cases = {each.id: each for each in store.cases(found)}
    model = store.model_answers(cases.values())
    boxes = CaseBoxes(engine).all(found)
    for each in CaseReadings(engine).readings(found):
        if each.answered_at is None:
            continue
        case, shown = cases[each.case_id], "with" if each.aided else "without"
        statements = []
        for key, answer in each.answers.items():
            machine, reference = model.get(case.id, {}).get(key), case.reference.get(key)
            facts: dict[str, str | float | Code | None] = {
                "confidence, 0 to 100": answer.confidence,
                "reference standard": None if reference is None else PRESENCES[_presence(present=reference)],
            }
            if machine is not None:
                facts |= {
                    "presence by the model": PRESENCES[Presence(machine.presence)],
                    "certainty or score of the model": machine.value,
                    "threshold of the model": machine.threshold,
                }
            if (box := boxes.get(each.id, {}).get(key)) is not None:
                film, left, top, right, bottom = _box(box)
                facts["box"] = f"film {film}, columns {left} to {right}, rows {top} to {bottom}"
            presence = _presence(present=answer.present)
            statements.append(
                Statement(
                    key, found.findings[key], names.get(key), presence, each.answered_at, each.comment, facts
                )
            )
        if statements:
            yield ReadReport(
                study=logs.uid_hash(case.study_instance_uid),
                reader=each.reader,
                occasion=f"reader study {found.name}, {shown} the model",
                statements=statements,
            )


def _box(box: Box | None) -> Sequence[object]:
    """Return the columns of a box: the hash of its film's UID, and its edges in pixels of the film."""
    if box is None:
        return (None,) * 5
    return logs.uid_hash(box.sop_instance_uid), box.left, box.top, box.right, box.bottom


def _presence(*, present: bool) -> Presence:
    return Presence.PRESENT if present else Presence.ABSENT


def results_csv(found: ReaderStudy, results: Results) -> Iterator[str]:
    """Yield the results as lines of CSV, one for each figure."""

    def line(statistic: str, finding: str, reader: str, aided: bool | None, estimate: Estimate) -> str:  # noqa: FBT001 - columns
        shown = None if aided is None else int(aided)
        figures = (estimate.n, estimate.value, estimate.low, estimate.high)
        return csv_line((_INTENDED_USE, found.name, statistic, finding, reader, shown, *figures))

    yield csv_line(_RESULT_COLUMNS)
    for each in results.accuracies:
        for name in ("sensitivity", "specificity", "auc"):
            yield line(name, each.finding, each.reader, each.aided, getattr(each, name))
        for name in ("median_seconds", "median_visible_seconds"):
            estimate = Estimate(getattr(each, name), None, None, each.n)
            yield line(name, each.finding, each.reader, each.aided, estimate)
    for agreed in results.agreements:
        estimate = Estimate(agreed.kappa, None, None, agreed.n)
        who = " and ".join(agreed.readers)
        yield line(f"{agreed.statistic} kappa", agreed.finding, who, agreed.aided, estimate)
    for overlap in results.overlaps:
        estimate = Estimate(overlap.iou, None, None, overlap.pairs)
        yield line("mean IoU of boxes", overlap.finding, "all pairs of readers", overlap.aided, estimate)
    for compared in results.comparisons:
        yield line(compared.what, compared.finding, "", None, compared.estimate)
