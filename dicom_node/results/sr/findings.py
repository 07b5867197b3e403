"""Findings of a study as a structured report: TID 1500 Imaging Measurement Report (PS3.16, PS3.3 A.35)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, TypeAlias

from pydicom.dataset import Dataset

from dicom_node.errors import EncodingFailed
from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite
from dicom_node.results.encoding.composite import position, referenceable
from dicom_node.results.encoding.part10 import put
from dicom_node.results.equipment import Equipment
from dicom_node.results.regions import hot_box
from dicom_node.results.report import (
    Algorithm,
    Finding,
    Presence,
    PriorAnswer,
    PriorComparison,
    Report,
    Source,
)
from dicom_node.results.sr import content_items, document
from dicom_node.results.sr.content_items import (
    CONTAINS,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    HAS_PROPERTIES,
    INFERRED_FROM,
)
from dicom_node.results.sr.document import Predecessor, SrClass

SERIES_NUMBER: Final = 9901
SERIES_DESCRIPTION: Final = f"AI findings - {codes.RESEARCH_USE_ONLY}"


@dataclass(frozen=True, slots=True, eq=False)
class Explanation:
    """Picture of where the model looked for one finding.

    Attributes
    ----------
    picture
        Result that shows it.
    part
        Referenced Frame Number or Referenced Segment Number, by its keyword, where the picture shows other
        findings too (PS3.3 table 10-3).
    """

    picture: Dataset
    part: Mapping[str, int] = field(default_factory=dict)

    def reference(self) -> Dataset:
        """Item that refers to the picture."""
        return content_items.reference(
            str(self.picture.SOPClassUID), str(self.picture.SOPInstanceUID), **self.part
        )


Explanations: TypeAlias = Mapping[str, Sequence[Explanation]]
"""Pictures by the key of their finding."""

_NONE: Final[Explanations] = MappingProxyType({})


def write_sr(
    report: Report,
    *,
    equipment: Equipment,
    sop_class: SrClass = "comprehensive3d",
    predecessor: Predecessor | None = None,
    explanations: Explanations = _NONE,
) -> Dataset:
    """Write a report as a structured report.

    Every label has its measurement group, absent ones too, so that absence is said and not left out. A
    refused study gets the same document with the coded reason in place of the measurements.

    Parameters
    ----------
    report
        Report to write.
    equipment
        Equipment named as the observer.
    sop_class
        Key of `SOP_CLASSES`; the content is the same in each.
    predecessor
        The same study's report of an earlier revision.
    explanations
        Pictures that were written of the findings; they join the evidence.

    Returns
    -------
    pydicom.dataset.Dataset
        Complete, with file meta information. The same report gives the same bytes.

    Raises
    ------
    EncodingFailed
        When a value cannot be written, or the reason of a refusal is unknown.
    """
    ds = document.begin(
        report,
        equipment,
        kind="sr",
        sop_class=sop_class,
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        predecessor=predecessor,
    )
    pictures = {
        str(each.picture.SOPInstanceUID): each.picture for found in explanations.values() for each in found
    }
    if pictures:
        evidence = document.source_evidence(report, pictures.values())
        put(ds, CurrentRequestedProcedureEvidenceSequence=evidence)
    if report.prior is not None and report.prior.sources:
        put(ds, PertinentOtherEvidenceSequence=document.prior_evidence(report.prior))
    ds.update(_root(report, equipment, explanations))
    return composite.finish_result(ds, report, kind="sr", key=sop_class)


# --- the tree --------------------------------------------------------------------------------------


def _root(report: Report, equipment: Equipment, explanations: Explanations) -> Dataset:
    """TID 1500."""
    earlier = () if report.prior is None else report.prior.sources
    children = list(document.observation_context(report, document.device_observer(equipment), earlier))
    if report.algorithm is not None and report.findings:
        children.append(_measurements(report, report.algorithm, equipment, explanations))
    children.append(document.evaluations(_evaluations(report)))
    return content_items.container(None, codes.IMAGING_MEASUREMENT_REPORT, children, template="1500")


def _measurements(
    report: Report, algorithm: Algorithm, equipment: Equipment, explanations: Explanations
) -> Dataset:
    """Container of the measurement groups, with the algorithm that computed them all."""
    sources = {source.sop_instance_uid: item for source, item in document.analysed_sources(report.sources)}
    measured_in = [
        content_items.image(CONTAINS, codes.SOURCE_OF_MEASUREMENT, item) for item in sources.values()
    ]
    moment = document.observation_moment(report)
    children = [*document.algorithm_identification(algorithm, equipment)]
    for finding in report.findings:
        region = _region(report, finding, sources)
        content = _content(report, algorithm, finding, region, measured_in, explanations.get(finding.key, ()))
        # TID 1410 for a finding that has a region, TID 1501 for the others.
        children.append(document.measurement_group(moment, content, "1501" if region is None else "1410"))
    return content_items.container(CONTAINS, codes.IMAGING_MEASUREMENTS, children)


def _content(
    report: Report,
    algorithm: Algorithm,
    finding: Finding,
    region: Dataset | None,
    measured_in: Sequence[Dataset],
    explanations: Sequence[Explanation],
) -> list[Dataset]:
    """Content of a measurement group; `measured_in` are the images of the measurement."""
    tracking = uids.tracking_uid(report.study_instance_uid, algorithm.name, finding.key)
    qualifiers = () if finding.qualifier is None else (finding.qualifier,)
    properties = [content_items.code(HAS_PROPERTIES, codes.QUALIFIER, qualifier) for qualifier in qualifiers]
    children: list[Dataset] = [
        content_items.fixed_text(
            HAS_OBS_CONTEXT, codes.TRACKING_IDENTIFIER, f"{algorithm.name}/{finding.key}"
        ),
        content_items.uidref(HAS_OBS_CONTEXT, codes.TRACKING_UID, tracking),
        content_items.code(CONTAINS, codes.FINDING_CATEGORY, codes.finding_category(finding.code)),
        content_items.code(CONTAINS, codes.FINDING, finding.code, properties),
    ]
    if finding.site is not None:
        children.append(content_items.code(HAS_CONCEPT_MOD, codes.FINDING_SITE, finding.site))
    if region is not None:
        children.append(region)
    children += [
        content_items.image(CONTAINS, codes.VISUAL_EXPLANATION, each.reference()) for each in explanations
    ]
    children.append(_certainty(algorithm, finding))
    children.append(content_items.code(CONTAINS, codes.PRESENCE, codes.PRESENCES[finding.presence]))
    children += measured_in
    if finding.withheld:
        text = f"The heat map of {finding.name} is not shown: {finding.withheld}"
        children.append(content_items.text(CONTAINS, codes.MAP_WITHHELD, text))
    if finding.earlier is not None and report.prior is not None:
        children.append(_difference(finding.earlier, report.prior))
    return children


def _certainty(algorithm: Algorithm, finding: Finding) -> Dataset:
    """Calibrated probability in percent, or a score that is none, with what tells the two apart."""
    computed = [
        content_items.fixed_text(HAS_CONCEPT_MOD, codes.ALGORITHM_NAME, algorithm.name),
        content_items.fixed_text(HAS_CONCEPT_MOD, codes.ALGORITHM_VERSION, algorithm.version),
        content_items.fixed_text(
            HAS_CONCEPT_MOD, codes.ALGORITHM_PARAMETERS, f"threshold={finding.threshold:.6g}"
        ),
    ]
    if finding.certainty is None:
        return content_items.num(
            CONTAINS, codes.MODEL_SCORE, f"{finding.score:.6g}", codes.NO_UNITS, computed
        )
    certainty = f"{100 * finding.certainty:.6g}"
    children = [*_uncertainty(finding.certainty, finding.interval), *computed]
    return content_items.num(CONTAINS, codes.CERTAINTY, certainty, codes.PERCENT, children)


def _uncertainty(certainty: float, interval: tuple[float, float] | None) -> list[Dataset]:
    """Measurement uncertainty: distances of the interval's ends from the value (TID 310, CID 225)."""
    if interval is None:
        return []
    low, high = interval
    ranges = ((codes.UNCERTAINTY_BELOW, certainty - low), (codes.UNCERTAINTY_ABOVE, high - certainty))
    return [
        content_items.num(HAS_PROPERTIES, name, f"{100 * span:.6g}", codes.PERCENT) for name, span in ranges
    ]


def _difference(earlier: PriorAnswer, prior: PriorComparison) -> Dataset:
    """Change since the prior, inferred from the same model's answer to the prior's images."""
    which = content_items.uidref(HAS_OBS_CONTEXT, codes.PROCEDURE_STUDY_UID, prior.study_instance_uid)
    if earlier.certainty is None:
        value = content_items.num(
            INFERRED_FROM, codes.MODEL_SCORE, f"{earlier.score:.6g}", codes.NO_UNITS, [which]
        )
    else:
        value = content_items.num(
            INFERRED_FROM, codes.CERTAINTY, f"{100 * earlier.certainty:.6g}", codes.PERCENT, [which]
        )
    images = [
        content_items.image(INFERRED_FROM, None, item) for _, item in document.analysed_sources(prior.sources)
    ]
    change = codes.CHANGES[earlier.change]
    return content_items.code(CONTAINS, codes.QUALITATIVE_DIFFERENCE, change, [value, *images])


def _region(report: Report, finding: Finding, sources: Mapping[str, Dataset]) -> Dataset | None:
    """Box around where the model looked, for a finding that is present."""
    if finding.presence is not Presence.PRESENT:
        return None
    for saliency in finding.saliency:
        source = report.source(saliency.sop_instance_uid)
        if source is None or source.sop_instance_uid not in sources:
            continue
        box = hot_box(saliency.values, source.shape)
        if box is not None:
            left, top, right, bottom = box
            corners = (left, top, right, top, right, bottom, left, bottom, left, top)
            return content_items.polyline(
                CONTAINS, codes.IMAGE_REGION, corners, sources[source.sop_instance_uid]
            )
    return None


def _evaluations(report: Report) -> list[Dataset]:
    """Evaluations of the whole study: normality or the reason of a refusal, and images left out."""
    children: list[Dataset] = []
    if report.refusal is None:
        normality = codes.NORMALITIES[report.normality]
        children.append(content_items.code(CONTAINS, codes.NORMALITY, normality))
    else:
        reason = codes.REFUSALS.get(report.refusal.reason)
        if reason is None:
            raise EncodingFailed(f"{report.refusal.reason} is no reason of codes.REFUSALS; add it there")
        children += [
            content_items.code(CONTAINS, codes.PROCESSING_SUMMARY, codes.NO_ALGORITHM_SUCCEEDED),
            content_items.code(CONTAINS, codes.REASON_NOT_ANALYSED, reason.code),
            content_items.text(CONTAINS, codes.EXPLANATION, report.refusal.text or reason.sentence),
        ]
    if report.prior is not None:
        children.append(_comparison(report.prior))
    for source in report.sources:
        children += _said_of(source)
    return children


def _said_of(source: Source) -> Iterator[Dataset]:
    """Why an image was left out, and what was set aside to read it."""
    item = referenceable(source)
    inferred = [] if item is None else [content_items.image(INFERRED_FROM, None, item)]
    said = [] if source.analysed else [(codes.IMAGE_NOT_ANALYSED, source.exclusion)]
    said += [(codes.IMAGE_REMARK, remark) for remark in source.remarks]
    for name, sentence in said:
        yield content_items.text(CONTAINS, name, f"{position(source)}: {sentence}", inferred)


def _comparison(prior: PriorComparison) -> Dataset:
    """Comparison with an earlier study: with which one, or why with none."""
    if prior.reason:
        explanation = content_items.text(
            HAS_PROPERTIES, codes.EXPLANATION, f"prior: not available: {prior.reason}"
        )
        return content_items.code(CONTAINS, codes.COMPARED_WITH_PRIOR, codes.NO, [explanation])
    which = content_items.uidref(HAS_OBS_CONTEXT, codes.PROCEDURE_STUDY_UID, prior.study_instance_uid)
    return content_items.code(CONTAINS, codes.COMPARED_WITH_PRIOR, codes.YES, [which])
