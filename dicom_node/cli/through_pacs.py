"""Evaluation through a PACS: ``evaluate --through-pacs``.

Heavy libraries are imported inside the functions: the root command imports this module at every start.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.progress import Progress

from dicom_node.cli.output import Terminal
from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.results.report import Presence
from dicom_node.results.sr.parser import ParsedFinding, excluded_images, parse_findings, parse_refusal
from dicom_node.results.uids import derived_uid

if TYPE_CHECKING:
    from models.bundles.predictor import Predictor
    from models.data.dataset import FilmDataset, LabelledStudy
    from models.processing.types import Prediction
    from orthanc.round_trip import RoundTripResult


def evaluate_through_pacs(
    predictor: Predictor, films: FilmDataset, root: Path, *, split: str, most: int | None, folder: Path
) -> dict[str, Any]:
    """Measure a bundle on the reports that a node sends back to a PACS.

    The films of a split are posted to an Orthanc, which forwards them to a node; the reports are read back.

    Parameters
    ----------
    predictor
        Loaded model bundle. The node uses it, and the same studies are read with it in this process, to
        compare.
    films
        Labelled films.
    root
        Folder of the data set; its table of DICOM headers is used if there is one.
    split
        Split whose films are posted.
    most
        Largest number of films, in whole studies; None for all.
    folder
        Folder for the data and the logs of Orthanc and of the node; it is kept.

    Returns
    -------
    dict
        Figures of ``evaluate``, and ``through_pacs``: the counts of :func:`_delivery_counts`, and the
        differences from the scores in this process.

    Raises
    ------
    NodeError
        If Orthanc or the node does not run, or no report came back.
    """
    from models.bundles.study_predictions import predict_studies
    from models.evaluation.evaluate import evaluate_predictions
    from orthanc.harness import OrthancError
    from orthanc.round_trip import run_round_trip

    studies = _first_studies(films.split(split), most)
    uids = {study.identifier: derived_uid(films.name, study.identifier) for study in studies}
    with Progress(console=Terminal(stderr=True), transient=True) as progress:
        reading = progress.add_task("through the PACS", total=len(studies))
        try:
            returned = run_round_trip(
                _dicom_files(studies, root, uids),
                uids.values(),
                folder,
                environment={"DICOM_NODE_WORKER__BUNDLE": str(predictor.bundle.path)},
                progress=lambda done: progress.update(reading, completed=done),
            )
        except OrthancError as error:
            raise NodeError(f"--through-pacs: {error}") from error
        reports = {study.identifier: returned.reports.get(uids[study.identifier]) for study in studies}
        by_study = {
            identifier: found
            for identifier, report in reports.items()
            if report is not None and (found := parse_findings(report))
        }
        answered = tuple(study for study in studies if study.identifier in by_study)
        if not answered:
            raise NodeError(f"--through-pacs: no report with findings came back; see the logs in {folder}")
        comparing = progress.add_task("in this process", total=len(answered))
        here = predict_studies(
            predictor, answered, lambda done, _all: progress.update(comparing, completed=done)
        )
    there = [_prediction(predictor, by_study[study.identifier]) for study in answered]
    _, figures = evaluate_predictions(predictor, films, answered, there, split=split)
    _, beside = evaluate_predictions(predictor, films, answered, here, split=split)
    whole = [
        report is not None and not excluded_images(report)
        for report in (reports[study.identifier] for study in answered)
    ]
    auc = beside["macro"]["auc"]  # None if no label has enough positive studies
    figures["through_pacs"] = {
        **_delivery_counts(studies, returned),
        "studies_with_films_left_out": len(whole) - sum(whole),
        "in_process": {"macro": beside["macro"]},
        "largest_difference": {
            "macro_auc": None if auc is None else abs(figures["macro"]["auc"] - auc),
            "score": _largest_difference(here, there, [True] * len(whole)),
            "score_where_every_film_was_read": _largest_difference(here, there, whole),
        },
    }
    return figures


def _first_studies(studies: tuple[LabelledStudy, ...], most: int | None) -> tuple[LabelledStudy, ...]:
    """Return the first studies that have at most this number of films together."""
    chosen, films = [], 0
    for study in studies:
        films += len(study.films)
        if most is not None and films > most:
            break
        chosen.append(study)
    if not chosen:
        raise ConfigurationError(f"--films {most}: the first study has more films than that")
    return tuple(chosen)


def _dicom_files(studies: Sequence[LabelledStudy], root: Path, uids: Mapping[str, str]) -> Iterator[bytes]:
    """Encode the films as DICOM files; each study of the data set is one study in the PACS."""
    from dicom_node.results.encoding.part10 import encoded
    from orthanc import openi_dicom

    table = root / openi_dicom.HEADERS_FILE
    headers = openi_dicom.read_headers(table) if table.exists() else {}
    for study in studies:
        uid = uids[study.identifier]
        for path in study.films:
            yield encoded(
                openi_dicom.to_dicom(
                    headers.get(path.stem, openi_dicom.NO_HEADER),
                    openi_dicom.read_grey(path),
                    StudyInstanceUID=uid,
                    SeriesInstanceUID=derived_uid(uid, "series"),
                    SOPInstanceUID=derived_uid(uid, path.name),
                )
            )


def _prediction(predictor: Predictor, report_answers: Sequence[ParsedFinding]) -> Prediction:
    """Return the answers of a report as a prediction of the model."""
    from models.processing.types import FindingScore, Prediction

    by_key = {answer.key: answer for answer in report_answers}
    calibration = predictor.bundle.calibration.labels
    findings = []
    for label in predictor.labels:
        answer = by_key.get(label.key)
        if answer is None or answer.threshold is None:
            raise NodeError(
                f"--through-pacs: a report has no answer for {label.key}; did another bundle write it?"
            )
        score = answer.score
        if answer.certainty is not None:
            score = calibration[label.key].score(answer.certainty)
        assert score is not None
        findings.append(
            FindingScore(
                key=label.key,
                score=score,
                probability=answer.certainty,
                threshold=answer.threshold,
                present=answer.presence is Presence.PRESENT,
                film_scores=(),
            )
        )
    return Prediction(predictor.identity, tuple(findings), None)


def _delivery_counts(studies: Sequence[LabelledStudy], returned: RoundTripResult) -> dict[str, Any]:
    """Count the films and studies that were posted, received, reported, refused (by reason) and lost."""
    refused = Counter(reason for ds in returned.reports.values() if (reason := parse_refusal(ds)) is not None)
    return {
        "films": returned.posted,
        "films_received": returned.received,
        "studies": len(studies),
        "reports": len(returned.reports),
        "lost": len(studies) - len(returned.reports),
        "refused": dict(refused),
        "conserved": returned.conserved,
        "seconds": round(returned.seconds, 1),
        "films_per_second": round(returned.posted / returned.seconds, 2),
    }


def _largest_difference(
    here: Sequence[Prediction], there: Sequence[Prediction], chosen: Sequence[bool]
) -> float:
    return max(
        (
            abs(one.score - other.score)
            for first, second, wanted in zip(here, there, chosen, strict=True)
            if wanted
            for one, other in zip(first.findings, second.findings, strict=True)
        ),
        default=0.0,
    )


def print_through_pacs(figures: Mapping[str, Any]) -> None:
    """Print the counts of the round trip, and the differences from the scores in this process."""
    counts = figures["through_pacs"]
    difference = counts["largest_difference"]
    refused = ", ".join(f"{count} {reason}" for reason, count in counts["refused"].items()) or "none"
    console = Terminal(highlight=False, soft_wrap=True)
    console.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    console.print(
        f"through the PACS: {counts['films']} films posted, {counts['films_received']} received; "
        f"{counts['studies']} studies, {counts['reports']} reports read back, {counts['lost']} lost; "
        f"refused: {refused}"
    )
    console.print(
        f"{counts['seconds']} s from the first film posted to the last report in the PACS, "
        f"{counts['films_per_second']} films a second"
    )
    if difference["macro_auc"] is not None:
        console.print(
            f"macro AUC {figures['macro']['auc']:.4f}, in this process "
            f"{counts['in_process']['macro']['auc']:.4f}"
        )
    incomplete = counts["studies_with_films_left_out"]
    console.print(
        f"largest difference of a score: {difference['score_where_every_film_was_read']:.4f} where the node "
        f"analysed every film, {difference['score']:.4f} with the {incomplete} studies in which it left "
        "films out"
    )
