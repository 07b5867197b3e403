"""Prediction to report: the only translator between the models' vocabulary and DICOM's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dicom_node.imaging.selection import Verdict
from dicom_node.results.report import (
    Algorithm,
    Code,
    Earlier,
    Finding,
    Presence,
    Prior,
    Report,
    Saliency,
    SimilarCase,
    SimilarCases,
    Source,
)
from models.explain.heatmap import Heatmap
from models.explain.targets import NORMAL
from models.gate.model import GateVerdict, Objection
from models.labels import vocabulary
from models.processing.types import FindingScore, Identity, Prediction
from models.retrieval.index import Index
from models.retrieval.search import Opinion
from worker.prior_comparison import compare

ABNORMAL = "abnormal"
METHODS = {
    "gradcam": "Grad-CAM",
    "attention": "Attention rollout",
    "ig": "Integrated Gradients",
    "occlusion": "Occlusion",
}
"""Names of the methods of heat maps, for a person."""
_OBJECTIONS = {
    Objection.BLANK: "the picture is blank",
    Objection.NOT_CHEST: "the picture is no chest film (score {0.chest_score:.2f})",
    Objection.INVERTED: "the film's lungs are bright: it is inverted (score {0.inverted_score:.2f})",
    Objection.ROTATED: "the film lies on its side or on its head (score {0.rotated_score:.2f})",
    Objection.OUT_OF_DISTRIBUTION: "the picture is unlike known chest films (distance {0.distance:.1f})",
}


def make_report(
    *,
    study_instance_uid: str,
    revision: int,
    created: datetime,
    sources: Sequence[Source],
    prediction: Prediction,
    labels: Sequence[vocabulary.Label],
    heatmaps: Sequence[Heatmap],
    withheld: Mapping[str, str] | None = None,
    gate: str = "",
    text: str = "",
    similar: SimilarCases | None = None,
    prior: Prior | None = None,
    earlier: Mapping[str, FindingScore] | None = None,
) -> Report:
    """Say a prediction in DICOM's terms.

    Parameters
    ----------
    labels
        Of the bundle, in its order.
    heatmaps
        Of the reported findings; `film` is a SOP Instance UID.
    withheld
        Why the map of a finding is not among them, by its key.
    gate
        Which gate the films came through; empty for none.
    text
        What a model that reads text was given: ``indication`` or ``none``; empty for one that reads none.
    similar
        Cases of the reference set, as :func:`similar_cases` says them.
    prior
        The patient's previous film, or why there is none; None when none was looked for.
    earlier
        What the same bundle says of the prior, by key.
    """
    then = earlier or {}
    by_key: dict[str, list[Heatmap]] = {}
    for heatmap in heatmaps:
        by_key.setdefault(heatmap.key, []).append(heatmap)
    by_label: Mapping[str, vocabulary.Label] = {label.key: label for label in labels}
    return Report(
        study_instance_uid=study_instance_uid,
        revision=revision,
        created=created,
        sources=tuple(sources),
        algorithm=algorithm(prediction.identity, gate, text),
        findings=tuple(
            _finding(
                entry,
                by_label[entry.key],
                by_key.get(entry.key, ()),
                (withheld or {}).get(entry.key, ""),
                compare(entry, then[entry.key]) if entry.key in then else None,
            )
            for entry in prediction.findings
        ),
        normality=_normality(prediction),
        similar=similar,
        prior=prior,
    )


def similar_cases(
    opinion: Opinion, index: Index, identity: Identity, labels: Sequence[vocabulary.Label]
) -> SimilarCases:
    """Say in DICOM's terms which cases a study is like, and how far they bear the model out.

    Parameters
    ----------
    index
        That was searched.
    identity
        Of the bundle that embedded the study.
    labels
        Of the bundle: what is said of the cases.
    """
    return SimilarCases(
        index_name=index.name,
        index_digest=index.digest,
        algorithm=algorithm(identity),
        cases=tuple(
            SimilarCase(
                rank=rank,
                identifier=entry.case.identifier,
                similarity=entry.similarity,
                labels=tuple(
                    (label.name, _required(label.code)) for label in labels if label.key in entry.case.labels
                ),
                report=entry.case.report,
            )
            for rank, entry in enumerate(opinion.neighbours, start=1)
        ),
        agreement=opinion.agreement,
        disagrees=opinion.disagrees,
    )


def _finding(
    entry: FindingScore,
    label: vocabulary.Label,
    heatmaps: Sequence[Heatmap],
    withheld: str,
    earlier: Earlier | None,
) -> Finding:
    return Finding(
        key=entry.key,
        name=label.name,
        code=_required(label.code),
        site=_code(label.site),
        qualifier=_code(label.qualifier),
        certainty=entry.probability,
        score=entry.score,
        threshold=entry.threshold,
        presence=Presence.PRESENT if entry.present else Presence.ABSENT,
        saliency=tuple(
            Saliency(
                sop_instance_uid=heatmap.film,
                values=heatmap.looked_at,
                method=METHODS[heatmap.method],
            )
            for heatmap in heatmaps
        ),
        withheld=withheld,
        earlier=earlier,
        interval=entry.interval,
    )


def _normality(prediction: Prediction) -> Presence:
    """Return whether the study is normal; undetermined when the model's answers contradict each other."""
    alone = next((entry for entry in prediction.findings if entry.key == ABNORMAL), None)
    if alone is not None:
        return Presence.ABSENT if alone.present else Presence.PRESENT
    normal = next((entry for entry in prediction.findings if entry.key == NORMAL), None)
    abnormal = any(entry.present for entry in prediction.findings if entry.key != NORMAL)
    if normal is None or normal.present == abnormal:
        return Presence.UNDETERMINED
    return Presence.PRESENT if normal.present else Presence.ABSENT


def objection(verdict: GateVerdict) -> Verdict:
    """Say for a person why a film is not read."""
    if verdict.reason is None:
        return Verdict()
    return Verdict(str(verdict.reason), _OBJECTIONS[verdict.reason].format(verdict))


def algorithm(identity: Identity, gate: str = "", text: str = "") -> Algorithm:
    """Say for a report which bundle read the films; parameters as of :func:`make_report`."""
    parameters = [f"weights_sha256={identity.weights_sha256}", f"preproc={identity.preprocessing}"]
    if identity.calibration:
        parameters.append(f"calibration={identity.calibration}")
    if gate:
        parameters.append(f"gate={gate}")
    if text:
        parameters.append(f"text={text}")
    return Algorithm(name=identity.name, version=identity.version, parameters=tuple(parameters))


def _required(code: vocabulary.Code) -> Code:
    return Code(code.value, code.scheme, code.meaning)


def _code(code: vocabulary.Code | None) -> Code | None:
    return None if code is None else _required(code)
