"""Report builder: turns a model's prediction into a report in DICOM's terms.

The only module that translates between the labels of the models and the codes of DICOM.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from dicom_node.imaging.selection import Eligibility
from dicom_node.results.codes import GATE_OVERRIDDEN
from dicom_node.results.report import (
    Algorithm,
    Code,
    Finding,
    Presence,
    PriorAnswer,
    PriorComparison,
    Report,
    Saliency,
    SimilarCase,
    SimilarCases,
    Source,
)
from models.bundles.runtime import HTTP, ONNX
from models.explain.heatmap import Heatmap
from models.explain.targets import NORMAL
from models.gate.model import GateResult, RefusalReason
from models.labels import vocabulary
from models.processing.types import FindingScore, Identity, Prediction
from models.retrieval.index import CaseIndex
from models.retrieval.search import NeighbourAgreement
from worker.prior_comparison import compare_finding

ABNORMAL = "abnormal"
ONNX_PARAMETER = "runtime=onnxruntime"
"""Algorithm parameter of a model that ran in ONNX Runtime; a report without it was computed in torch."""
REMOTE_PARAMETER = "runtime=http"
"""Algorithm parameter of a remote model: its weights are what it says that they are."""
STAND_IN_PARAMETER = "device=cpu"
"""Algorithm parameter where the processor read in place of a device without memory, or that was lost."""
METHOD_NAMES = {
    "gradcam": "Grad-CAM",
    "attention": "Attention rollout",
    "ig": "Integrated Gradients",
    "occlusion": "Occlusion",
    "given": "Heat map of the model itself",
}
"""Display names of the heat map methods."""
_OBJECTIONS = {
    RefusalReason.BLANK: "the picture is blank",
    RefusalReason.NOT_CHEST: "the picture is no chest film (score {0.chest_score:.2f})",
    RefusalReason.INVERTED: "the film's lungs are bright: it is inverted (score {0.inverted_score:.2f})",
    RefusalReason.ROTATED: "the film lies on its side or on its head (score {0.rotated_score:.2f})",
    RefusalReason.OUT_OF_DISTRIBUTION: "the picture is unlike known chest films (distance {0.distance:.1f})",
}


def build_report(
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
    gate_overridden: bool = False,
    text: str = "",
    runtime: str = "",
    stand_in: str = "",
    similar: SimilarCases | None = None,
    prior: PriorComparison | None = None,
    earlier: Mapping[str, FindingScore] | None = None,
) -> Report:
    """Build the report of a prediction.

    Parameters
    ----------
    study_instance_uid
        Study Instance UID.
    revision
        Revision of the study, from 1.
    created
        Time that the report carries; timezone-aware.
    sources
        All images of the study, analysed or excluded.
    prediction
        Answers of the model.
    labels
        Labels of the bundle, in its order.
    heatmaps
        Heat maps of the reported findings; `film` is a SOP Instance UID.
    withheld
        Reason by label key for each finding whose heat map was withheld.
    gate
        Identity of the gate that the films passed; empty for none.
    gate_overridden
        True where films that it refuses were read too.
    text
        Text given to a model that reads text: ``indication`` or ``none``; empty for a model that reads none.
    runtime
        Inference runtime: ``torch`` or ``onnx``, or ``http`` for a remote model.
    stand_in
        Device that read in place of the wanted one; empty where that one did.
    similar
        Reference cases from :func:`build_similar_cases`.
    prior
        Prior study, or the reason why there is none; None when none was looked for.
    earlier
        Answers of the same bundle to the prior, by label key.
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
        algorithm=identify_algorithm(
            prediction.identity, gate, text, runtime, stand_in, gate_overridden=gate_overridden
        ),
        findings=tuple(
            _finding(
                entry,
                by_label[entry.key],
                by_key.get(entry.key, ()),
                (withheld or {}).get(entry.key, ""),
                compare_finding(entry, then[entry.key]) if entry.key in then else None,
            )
            for entry in prediction.findings
        ),
        normality=_normality(prediction),
        similar=similar,
        prior=prior,
    )


def build_similar_cases(
    opinion: NeighbourAgreement, index: CaseIndex, identity: Identity, labels: Sequence[vocabulary.Label]
) -> SimilarCases:
    """Build the report's section of similar reference cases, with their agreement with the model.

    Parameters
    ----------
    opinion
        Cases that were found, and their agreement with the prediction.
    index
        Index that was searched.
    identity
        Identity of the bundle that embedded the study.
    labels
        Labels of the bundle; other labels of the cases are left out.
    """
    return SimilarCases(
        index_name=index.name,
        index_digest=index.digest,
        algorithm=identify_algorithm(identity),
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
    earlier: PriorAnswer | None,
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
                values=heatmap.preview,
                method=METHOD_NAMES[heatmap.method],
            )
            for heatmap in heatmaps
        ),
        withheld=withheld,
        earlier=earlier,
        interval=entry.interval,
    )


def _normality(prediction: Prediction) -> Presence:
    """Return the presence of "normal"; undetermined when the model's answers contradict each other."""
    alone = next((entry for entry in prediction.findings if entry.key == ABNORMAL), None)
    if alone is not None:
        return Presence.ABSENT if alone.present else Presence.PRESENT
    normal = next((entry for entry in prediction.findings if entry.key == NORMAL), None)
    abnormal = any(entry.present for entry in prediction.findings if entry.key != NORMAL)
    if normal is None or normal.present == abnormal:
        return Presence.UNDETERMINED
    return Presence.PRESENT if normal.present else Presence.ABSENT


def gate_eligibility(verdict: GateResult) -> Eligibility:
    """Return the gate's verdict as an eligibility, with the reason as a sentence for a person."""
    if verdict.reason is None:
        return Eligibility()
    return Eligibility(str(verdict.reason), _OBJECTIONS[verdict.reason].format(verdict))


def identify_algorithm(
    identity: Identity,
    gate: str = "",
    text: str = "",
    runtime: str = "",
    stand_in: str = "",
    *,
    gate_overridden: bool = False,
) -> Algorithm:
    """Return the algorithm identification (TID 4019) of a bundle.

    Parameters
    ----------
    identity
        Identity of the bundle.
    gate, text, runtime, stand_in, gate_overridden
        As in :func:`build_report`.
    """
    parameters = [f"weights_sha256={identity.weights_sha256}", f"preproc={identity.preprocessing}"]
    if identity.calibration:
        parameters.append(f"calibration={identity.calibration}")
    if gate:
        parameters.append(f"gate={gate}")
    if gate and gate_overridden:
        parameters.append(GATE_OVERRIDDEN)
    if text:
        parameters.append(f"text={text}")
    if runtime == ONNX:
        # Not said of torch: reports from before this parameter ran in it, and are made again to the byte.
        parameters.append(ONNX_PARAMETER)
    if runtime == HTTP:
        parameters.append(REMOTE_PARAMETER)
    if stand_in:
        parameters.append(STAND_IN_PARAMETER)
    return Algorithm(name=identity.name, version=identity.version, parameters=tuple(parameters))


def _required(code: vocabulary.Code) -> Code:
    return Code(code.value, code.scheme, code.meaning)


def _code(code: vocabulary.Code | None) -> Code | None:
    return None if code is None else _required(code)
