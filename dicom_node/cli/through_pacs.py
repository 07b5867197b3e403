"""``evaluate --through-pacs``: the figures of a bundle from what comes back out of a PACS.

Heavy libraries are imported inside the functions, because the root command imports what imports this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import Progress

from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.results.report import Presence
from dicom_node.results.sr.parser import Answer, answers, excluded_images, refusal
from dicom_node.results.uids import derived_uid

if TYPE_CHECKING:
    from models.bundles.predictor import Predictor
    from models.data.dataset import FilmDataset, LabelledStudy
    from models.processing.types import Prediction
    from orthanc.round_trip import Returned


def measured(
    predictor: Predictor, films: FilmDataset, root: Path, *, split: str, most: int | None, folder: Path
) -> dict[str, Any]:
    """Post the films of a split to an Orthanc, let a node read them, and measure what the reports say.

    Parameters
    ----------
    predictor
        Of the bundle that the node is to use; the same studies are read with it in this process, to compare.
    root
        Of the data set; its table of headers is used when it is there.
    most
        Films at most, whole studies; all when absent.
    folder
        For the data of Orthanc and of the node, and their logs; stays.

    Returns
    -------
    dict
        As ``evaluate`` gives it, with ``through_pacs``: see :func:`_account` and :func:`_apart`.

    Raises
    ------
    NodeError
        If Orthanc or the node does not run, or no report came back.
    """
    from models.bundles.study_predictions import predict_all
    from models.evaluation.evaluate import measure_predictions
    from orthanc.harness import OrthancError
    from orthanc.round_trip import round_trip

    studies = _first(films.split(split), most)
    uids = {study.identifier: derived_uid(films.name, study.identifier) for study in studies}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        reading = progress.add_task("through the PACS", total=len(studies))
        try:
            returned = round_trip(
                _wrapped(studies, root, uids),
                uids.values(),
                folder,
                environment={"DICOM_NODE_WORKER__BUNDLE": str(predictor.bundle.path)},
                progress=lambda done: progress.update(reading, completed=done),
            )
        except OrthancError as error:
            raise NodeError(f"--through-pacs: {error}") from error
        reports = {study.identifier: returned.reports.get(uids[study.identifier]) for study in studies}
        said = {
            identifier: found
            for identifier, report in reports.items()
            if report is not None and (found := answers(report))
        }
        answered = tuple(study for study in studies if study.identifier in said)
        if not answered:
            raise NodeError(f"--through-pacs: no report with findings came back; see the logs in {folder}")
        comparing = progress.add_task("in this process", total=len(answered))
        here = predict_all(predictor, answered, lambda done, _all: progress.update(comparing, completed=done))
    there = [_prediction(predictor, said[study.identifier]) for study in answered]
    _, figures = measure_predictions(predictor, films, answered, there, split=split)
    _, beside = measure_predictions(predictor, films, answered, here, split=split)
    whole = [
        report is not None and not excluded_images(report)
        for report in (reports[study.identifier] for study in answered)
    ]
    auc = beside["macro"]["auc"]  # None when no label has enough positives among so few studies
    figures["through_pacs"] = {
        **_account(studies, returned),
        "studies_with_films_left_out": len(whole) - sum(whole),
        "in_process": {"macro": beside["macro"]},
        "largest_difference": {
            "macro_auc": None if auc is None else abs(figures["macro"]["auc"] - auc),
            "score": _largest_difference(here, there, [True] * len(whole)),
            "score_where_every_film_was_read": _largest_difference(here, there, whole),
        },
    }
    return figures


def _first(studies: tuple[LabelledStudy, ...], most: int | None) -> tuple[LabelledStudy, ...]:
    """So many studies from the first that their films are no more than that."""
    chosen, films = [], 0
    for study in studies:
        films += len(study.films)
        if most is not None and films > most:
            break
        chosen.append(study)
    if not chosen:
        raise ConfigurationError(f"--films {most}: the first study has more films than that")
    return tuple(chosen)


def _wrapped(studies: Sequence[LabelledStudy], root: Path, uids: Mapping[str, str]) -> Iterator[bytes]:
    """Films as DICOM files; a study of the data set is a study of the PACS, whatever the header said."""
    from dicom_node.results.encoding.part10 import encoded
    from orthanc import films

    table = root / films.HEADERS
    headers = films.read_headers(table) if table.exists() else {}
    for study in studies:
        uid = uids[study.identifier]
        for path in study.films:
            yield encoded(
                films.wrap(
                    headers.get(path.stem, films.NO_HEADER),
                    films.read_grey(path),
                    StudyInstanceUID=uid,
                    SeriesInstanceUID=derived_uid(uid, "series"),
                    SOPInstanceUID=derived_uid(uid, path.name),
                )
            )


def _prediction(predictor: Predictor, said: Sequence[Answer]) -> Prediction:
    """What a report says, as the model would have said it."""
    from models.processing.types import FindingScore, Prediction

    by_key = {answer.key: answer for answer in said}
    calibration = predictor.bundle.calibration.labels
    findings = []
    for label in predictor.labels:
        answer = by_key.get(label.key)
        if answer is None or answer.threshold is None:
            raise NodeError(
                f"--through-pacs: a report says nothing of {label.key}; was it of another bundle?"
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


def _account(studies: Sequence[LabelledStudy], returned: Returned) -> dict[str, Any]:
    """What became of everything: films and studies posted, answered, refused (by reason) and lost."""
    refused = Counter(reason for ds in returned.reports.values() if (reason := refusal(ds)) is not None)
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


def show(figures: Mapping[str, Any]) -> None:
    """Print what the way through the PACS did, and the table over all labels."""
    account = figures["through_pacs"]
    far = account["largest_difference"]
    refused = ", ".join(f"{count} {reason}" for reason, count in account["refused"].items()) or "none"
    console = Console(highlight=False, soft_wrap=True)
    console.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    console.print(
        f"through the PACS: {account['films']} films posted, {account['films_received']} received; "
        f"{account['studies']} studies, {account['reports']} reports read back, {account['lost']} lost; "
        f"refused: {refused}"
    )
    console.print(
        f"{account['seconds']} s from the first film posted to the last report in the PACS, "
        f"{account['films_per_second']} films a second"
    )
    if far["macro_auc"] is not None:
        console.print(
            f"macro AUC {figures['macro']['auc']:.4f}, in this process "
            f"{account['in_process']['macro']['auc']:.4f}"
        )
    fewer = account["studies_with_films_left_out"]
    console.print(
        f"largest difference of a score: {far['score_where_every_film_was_read']:.4f} where every film was "
        f"read, {far['score']:.4f} with the {fewer} studies of which the node left films out"
    )
