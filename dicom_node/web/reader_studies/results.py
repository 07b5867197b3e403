"""Results of a reader study: accuracy of each reader and of the model, agreement, and times."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from dicom_node.store.case_boxes import Box, CaseBoxes
from dicom_node.store.case_readings import CaseReading, CaseReadings
from dicom_node.store.reader_studies import Case, ReaderStudies, ReaderStudy
from dicom_node.web.agreement import cohen_kappa, fleiss_kappa
from dicom_node.web.reader_studies.accuracy import Estimate, auc_contrast, proportion

MODEL: Final = "(model)"
"""Name of the model in the place of a reader."""

NOTES: Final = (
    (
        "Sensitivity and specificity have Wilson intervals, 95 %. ROC AUCs, their differences and their mean "
        "have DeLong intervals, 95 %: the cases are taken for a random sample, each of another patient, and "
        "the readers are fixed, so the intervals say nothing about other readers."
    ),
    (
        "A reader's rating for the ROC is the confidence, with a minus for absent; the model's is its "
        "certainty, or its score where it is not calibrated. Its threshold is the one of its reports."
    ),
    (
        "Not computed: p-values, corrections for several findings, and an analysis with random readers and "
        "cases (Obuchowski-Rockette, Dorfman-Berbaum-Metz). The file of all readings has what the R packages "
        "MRMCaov and RJafroc ask for."
    ),
)
"""Explanation of the figures, and of what is not computed."""


@dataclass(frozen=True, slots=True)
class Accuracy:
    """Accuracy of one reader for one finding.

    Attributes
    ----------
    reader
        Name of the account; :data:`MODEL` for the model.
    aided
        Whether the model's answer was shown; None for the model itself.
    n
        Number of answered cases; `positives` and `negatives` of them by the reference.
    median_seconds, median_visible_seconds
        Time for one case (all its findings), by the node and by the browser; None without one.
    """

    reader: str
    finding: str
    aided: bool | None
    n: int
    positives: int
    negatives: int
    sensitivity: Estimate
    specificity: Estimate
    auc: Estimate
    median_seconds: float | None
    median_visible_seconds: float | None


@dataclass(frozen=True, slots=True)
class Agreement:
    """Agreement about one finding, over the `n` cases that all of `readers` have answered.

    Attributes
    ----------
    statistic
        ``cohen`` for two, ``fleiss`` for all readers without the model.
    """

    statistic: str
    readers: Sequence[str]
    finding: str
    aided: bool
    n: int
    kappa: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Difference of two ROC AUCs over the same cases, or the mean over the readers.

    Attributes
    ----------
    what
        What is computed, in words.
    """

    what: str
    finding: str
    estimate: Estimate


@dataclass(frozen=True, slots=True)
class Overlap:
    """Overlap of the boxes of readers around one finding in one session.

    Attributes
    ----------
    pairs
        Pairs of boxes of two readers on the same film.
    cases
        Number of cases that have such pairs.
    iou
        Mean over the pairs of the intersection over the union.
    """

    finding: str
    aided: bool
    pairs: int
    cases: int
    iou: float


@dataclass(frozen=True, slots=True)
class Results:
    """Results of one reader study; `notes` say what the figures mean, and what is not computed."""

    accuracies: Sequence[Accuracy]
    agreements: Sequence[Agreement]
    overlaps: Sequence[Overlap]
    comparisons: Sequence[Comparison]
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Rater:
    """Answers of one reader in one session, or of the model, for one finding: by case (present, rating)."""

    name: str
    aided: bool | None
    answers: Mapping[int, tuple[bool, float]]

    @property
    def title(self) -> str:
        return self.name if self.aided is None else f"{self.name} {'aided' if self.aided else 'unaided'}"


def compute_results(engine: Engine, found: ReaderStudy) -> Results:
    """Compute the results of a reader study from the answers that there are."""
    store = ReaderStudies(engine)
    cases = store.cases(found)
    readings = [each for each in CaseReadings(engine).readings(found) if each.answered_at is not None]
    model = store.model_answers(cases)
    boxes = CaseBoxes(engine).all(found)
    accuracies: list[Accuracy] = []
    agreements: list[Agreement] = []
    overlaps: list[Overlap] = []
    comparisons: list[Comparison] = []
    for key in found.findings:
        machine = _Rater(
            MODEL,
            None,
            {
                case_id: (answer.presence == "present", answer.value)
                for case_id, answers in model.items()
                if (answer := answers.get(key)) is not None
            },
        )
        sessions = [
            [_rater(name, readings, key, aided=aided) for name in found.readers]
            for aided in itertools.chain.from_iterable(found.design.sessions)
        ]
        reference = {each.id: each.reference[key] for each in cases if key in each.reference}
        accuracies += [
            _accuracy(rater, key, reference, readings)
            for rater in [*itertools.chain.from_iterable(sessions), machine]
        ]
        for raters in sessions:
            agreements += _agreements(raters, machine, key, cases)
            aided = bool(raters[0].aided)
            drawn: dict[int, list[Box]] = {}
            for each in readings:
                if each.aided is aided and (box := boxes.get(each.id, {}).get(key)) is not None:
                    drawn.setdefault(each.case_id, []).append(box)
            overlaps += _overlaps(drawn, key, aided=aided)
        comparisons += _comparisons(sessions, machine, key, reference)
    return Results(accuracies, agreements, overlaps, comparisons, NOTES)


def _rater(name: str, readings: Sequence[CaseReading], key: str, *, aided: bool) -> _Rater:
    mine = (each for each in readings if each.reader == name and each.aided is aided)
    return _Rater(
        name,
        aided,
        {each.case_id: (each.answers[key].present, float(each.answers[key].rating)) for each in mine},
    )


def _accuracy(
    rater: _Rater, key: str, reference: Mapping[int, bool], readings: Sequence[CaseReading]
) -> Accuracy:
    judged = [case for case in rater.answers if case in reference]
    positives = [rater.answers[case][0] for case in judged if reference[case]]
    negatives = [rater.answers[case][0] for case in judged if not reference[case]]
    own = [each for each in readings if each.reader == rater.name and each.aided is rater.aided]
    return Accuracy(
        reader=rater.name,
        finding=key,
        aided=rater.aided,
        n=len(rater.answers),
        positives=len(positives),
        negatives=len(negatives),
        sensitivity=proportion(sum(positives), len(positives)),
        specificity=proportion(len(negatives) - sum(negatives), len(negatives)),
        auc=_auc([rater], reference, [1.0]),
        median_seconds=_median([each.seconds for each in own]),
        median_visible_seconds=_median([each.visible_seconds for each in own]),
    )


def _auc(raters: Sequence[_Rater], reference: Mapping[int, bool], weights: Sequence[float]) -> Estimate:
    """Return a contrast of AUCs over the cases that have a reference and that all raters have answered."""
    shared = [case for case in reference if all(case in each.answers for each in raters)]
    ratings = [[each.answers[case][1] for case in shared] for each in raters]
    return auc_contrast(ratings, [reference[case] for case in shared], weights)


def _median(seconds: Sequence[float | None]) -> float | None:
    known = [each for each in seconds if each is not None]
    return statistics.median(known) if known else None


def _agreements(
    raters: Sequence[_Rater], machine: _Rater, key: str, cases: Sequence[Case]
) -> Iterator[Agreement]:
    order = [each.id for each in cases]
    aided = bool(raters[0].aided)
    for pair in itertools.combinations([*raters, machine], 2):
        votes = _votes(pair, order)
        names = [each.name for each in pair]
        yield Agreement("cohen", names, key, aided, len(votes[0]), cohen_kappa(*votes))
    if len(raters) > 2:  # of two, Cohen's says it
        votes = _votes(raters, order)
        names = [each.name for each in raters]
        yield Agreement("fleiss", names, key, aided, len(votes[0]), fleiss_kappa(votes))


def _overlaps(drawn: Mapping[int, Sequence[Box]], key: str, *, aided: bool) -> Iterator[Overlap]:
    """Yield the overlap of boxes, given by case, unless no two lie on the same film."""
    found = {
        case: [
            iou for one, other in itertools.combinations(boxes, 2) if (iou := one.overlap(other)) is not None
        ]
        for case, boxes in drawn.items()
    }
    if pairs := list(itertools.chain.from_iterable(found.values())):
        yield Overlap(key, aided, len(pairs), sum(map(bool, found.values())), statistics.fmean(pairs))


def _votes(raters: Sequence[_Rater], order: Sequence[int]) -> list[list[bool]]:
    shared = [case for case in order if all(case in each.answers for each in raters)]
    return [[each.answers[case][0] for case in shared] for each in raters]


def _comparisons(
    sessions: Sequence[Sequence[_Rater]], machine: _Rater, key: str, reference: Mapping[int, bool]
) -> Iterator[Comparison]:
    def compared(what: str, raters: Sequence[_Rater], weights: Sequence[float]) -> Iterator[Comparison]:
        estimate = _auc(raters, reference, weights)
        if estimate.value is not None:
            yield Comparison(what, key, estimate)

    for raters in sessions:
        count = len(raters)
        word = "aided" if raters[0].aided else "unaided"
        if count > 1:
            yield from compared(f"mean AUC of the readers, {word}", raters, [1 / count] * count)
        for each in raters:
            yield from compared(f"AUC: model - {each.title}", [machine, each], [1.0, -1.0])
    for without, aided in itertools.pairwise(sessions):
        count = len(aided)
        for first, second in zip(aided, without, strict=True):
            yield from compared(f"AUC: {first.title} - {second.title}", [first, second], [1.0, -1.0])
        if count > 1:
            yield from compared(
                "mean over the readers of AUC: aided - unaided",
                [*aided, *without],
                [1 / count] * count + [-1 / count] * count,
            )
