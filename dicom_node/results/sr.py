"""Findings of a study as a structured report: TID 1500 Imaging Measurement Report (PS3.16, PS3.3 A.35)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from dicom_node import elements
from dicom_node.errors import EncodingFailed
from dicom_node.results import codes, composite, header, items, uids
from dicom_node.results.composite import position, referenceable
from dicom_node.results.encoding import dataset, put
from dicom_node.results.equipment import MODEL_NAME, Equipment
from dicom_node.results.items import (
    CONTAINS,
    HAS_ACQ_CONTEXT,
    HAS_CONCEPT_MOD,
    HAS_OBS_CONTEXT,
    HAS_PROPERTIES,
    INFERRED_FROM,
)
from dicom_node.results.regions import hot_box
from dicom_node.results.report import Algorithm, Code, Finding, Presence, Report, Source

SrClass: TypeAlias = Literal["comprehensive3d", "comprehensive", "enhanced"]

SOP_CLASSES: Final[Mapping[str, str]] = {
    "comprehensive3d": Comprehensive3DSRStorage,
    "comprehensive": ComprehensiveSRStorage,
    "enhanced": EnhancedSRStorage,
}
SERIES_NUMBER: Final = 9901
SERIES_DESCRIPTION: Final = f"AI findings - {codes.RESEARCH_USE_ONLY}"

_MODALITIES: Final = {
    "CR": Code("CR", "DCM", "Computed Radiography"),
    "DX": Code("DX", "DCM", "Digital Radiography"),
    "RG": Code("RG", "DCM", "Radiographic imaging"),
}
"""Of CID 29."""
_OTHER_MODALITY: Final = Code("OT", "DCM", "Other Modality")


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The report of an earlier revision, which this one takes the place of (PS3.3 C.17.2, C.17.2.2)."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def write_sr(
    report: Report,
    *,
    equipment: Equipment,
    sop_class: SrClass = "comprehensive3d",
    predecessor: Predecessor | None = None,
) -> Dataset:
    """Write a report as a structured report.

    Every label has its measurement group, absent ones too, so that absence is said and not left out. A
    refused study gets the same document with the coded reason in place of the measurements.

    Parameters
    ----------
    report
        What is to be said.
    equipment
        Who says it.
    sop_class
        Key of `SOP_CLASSES`; the content is the same in each.
    predecessor
        The same study's report of an earlier revision.

    Returns
    -------
    pydicom.dataset.Dataset
        Complete, with file meta information. The same report gives the same bytes.

    Raises
    ------
    EncodingFailed
        When a value cannot be written, or the reason of a refusal is unknown.
    """
    ds = composite.begin(
        report,
        equipment,
        kind="sr",
        sop_class_uid=SOP_CLASSES[sop_class],
        modality="SR",
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        instance_number=1,
    )
    complete = all(source.analysed for source in report.sources)
    put(
        ds,
        CompletionFlag="COMPLETE" if complete else "PARTIAL",
        PreliminaryFlag="PRELIMINARY",
        VerificationFlag="UNVERIFIED",
        ReferencedPerformedProcedureStepSequence=[],
        PerformedProcedureCodeSequence=[],
    )
    if not complete:
        put(ds, CompletionFlagDescription="Not every received image was analysed")
    evidence = _evidence(report)
    if evidence:
        put(ds, CurrentRequestedProcedureEvidenceSequence=evidence)
    if predecessor is not None:
        put(ds, PredecessorDocumentsSequence=[_predecessor(report, predecessor)])
    ds.update(_root(report, equipment))
    return composite.finish(ds, report, kind="sr", key=sop_class)


def _evidence(report: Report) -> list[Dataset]:
    """References by study and series (PS3.3 C.17.2)."""
    found: dict[str, dict[str, list[Dataset]]] = {}
    for source in report.sources:
        item = referenceable(source)
        if item is not None:
            study = header.repaired(source.header, "StudyInstanceUID") or report.study_instance_uid
            series = header.repaired(source.header, "SeriesInstanceUID")
            found.setdefault(study, {}).setdefault(series, []).append(item)
    return [
        dataset(
            StudyInstanceUID=study,
            ReferencedSeriesSequence=[
                dataset(SeriesInstanceUID=series, ReferencedSOPSequence=instances)
                for series, instances in by_series.items()
            ],
        )
        for study, by_series in found.items()
    ]


def _predecessor(report: Report, predecessor: Predecessor) -> Dataset:
    instance = items.reference(predecessor.sop_class_uid, predecessor.sop_instance_uid)
    series = dataset(SeriesInstanceUID=predecessor.series_instance_uid, ReferencedSOPSequence=[instance])
    return dataset(StudyInstanceUID=report.study_instance_uid, ReferencedSeriesSequence=[series])


# --- the tree --------------------------------------------------------------------------------------


def _root(report: Report, equipment: Equipment) -> Dataset:
    """TID 1500."""
    source = composite.lead_source(report.sources).header
    children = [
        items.code(HAS_CONCEPT_MOD, codes.LANGUAGE, codes.ENGLISH),
        *_observer(equipment),
        items.code(HAS_CONCEPT_MOD, codes.PROCEDURE_REPORTED, _procedure(source)),
        *_image_library(report),
    ]
    if report.algorithm is not None and report.findings:
        children.append(_measurements(report, report.algorithm, equipment))
    children.append(_evaluations(report))
    return items.container(None, codes.IMAGING_MEASUREMENT_REPORT, children, template="1500")


def _observer(equipment: Equipment) -> Iterator[Dataset]:
    """TID 1002, 1004."""
    yield items.code(HAS_OBS_CONTEXT, codes.OBSERVER_TYPE, codes.DEVICE)
    yield items.uidref(HAS_OBS_CONTEXT, codes.DEVICE_UID, equipment.device_uid)
    for name, value in (
        (codes.DEVICE_NAME, equipment.station_name),
        (codes.DEVICE_MANUFACTURER, equipment.manufacturer),
        (codes.DEVICE_MODEL, MODEL_NAME),
        (codes.DEVICE_SERIAL, equipment.serial_number),
    ):
        yield items.text(HAS_OBS_CONTEXT, name, value)


def _procedure(source: Dataset) -> Code:
    """Procedure that the source names, else one of CID 100."""
    for item in elements.items(source, "ProcedureCodeSequence"):
        parts = [
            header.repaired(item, keyword)
            for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
        ]
        if all(parts):
            return Code(*parts)
    return codes.IMAGING_PROCEDURE


def _image_library(report: Report) -> Iterator[Dataset]:
    """TID 1600, 1601, 1602, 1603: the images that were analysed."""
    images = [
        items.image(CONTAINS, None, item, list(_acquisition(source)))
        for source in report.sources
        if source.analysed and (item := referenceable(source)) is not None
    ]
    if images:
        group = items.container(CONTAINS, codes.IMAGE_LIBRARY_GROUP, images)
        yield items.container(CONTAINS, codes.IMAGE_LIBRARY, [group], template="1600")


def _acquisition(source: Source) -> Iterator[Dataset]:
    modality = _MODALITIES.get(elements.text(source.header, "Modality").upper(), _OTHER_MODALITY)
    yield items.code(HAS_ACQ_CONTEXT, codes.MODALITY, modality)
    if study_date := header.repaired(source.header, "StudyDate"):
        yield items.date(HAS_ACQ_CONTEXT, codes.STUDY_DATE, study_date)
    if view := codes.VIEWS.get(_view(source)):
        yield items.code(HAS_ACQ_CONTEXT, codes.IMAGE_VIEW, view)


def _view(source: Source) -> str:
    """View Position; where the picture shows another view than the header says, the picture is right."""
    stated = elements.text(source.header, "ViewPosition").upper()
    if not source.view or (source.view == "lateral") == (stated in codes.LATERAL_VIEWS):
        return stated
    return "LATERAL" if source.view == "lateral" else ""


def _measurements(report: Report, algorithm: Algorithm, equipment: Equipment) -> Dataset:
    """Container of the measurement groups, with the algorithm that computed them all (TID 4019)."""
    sources = {source.sop_instance_uid: item for source, item in _analysed(report)}
    children = [
        items.text(HAS_CONCEPT_MOD, codes.ALGORITHM_NAME, algorithm.name),
        items.text(HAS_CONCEPT_MOD, codes.ALGORITHM_VERSION, algorithm.version),
        items.text(HAS_CONCEPT_MOD, codes.ALGORITHM_MANUFACTURER, equipment.manufacturer),
        items.code(HAS_CONCEPT_MOD, codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE),
        *(
            items.text(HAS_CONCEPT_MOD, codes.ALGORITHM_PARAMETERS, parameter)
            for parameter in algorithm.parameters
        ),
        *(_group(report, algorithm, finding, sources) for finding in report.findings),
    ]
    return items.container(CONTAINS, codes.IMAGING_MEASUREMENTS, children)


def _analysed(report: Report) -> Iterator[tuple[Source, Dataset]]:
    for source in report.sources:
        item = referenceable(source) if source.analysed else None
        if item is not None:
            yield source, item


def _group(report: Report, algorithm: Algorithm, finding: Finding, sources: Mapping[str, Dataset]) -> Dataset:
    """TID 1410 for a finding that has a region, TID 1501 for the others."""
    region = _region(finding, sources)
    tracking = uids.tracking_uid(report.study_instance_uid, algorithm.name, finding.key)
    qualifiers = () if finding.qualifier is None else (finding.qualifier,)
    properties = [items.code(HAS_PROPERTIES, codes.QUALIFIER, qualifier) for qualifier in qualifiers]
    children = [
        items.text(HAS_OBS_CONTEXT, codes.TRACKING_IDENTIFIER, f"{algorithm.name}/{finding.key}"),
        items.uidref(HAS_OBS_CONTEXT, codes.TRACKING_UID, tracking),
        items.code(CONTAINS, codes.FINDING, finding.code, properties),
    ]
    if finding.site is not None:
        children.append(items.code(HAS_CONCEPT_MOD, codes.FINDING_SITE, finding.site))
    if region is not None:
        children.append(region)
    children.append(_certainty(algorithm, finding))
    children.append(items.code(CONTAINS, codes.PRESENCE, codes.PRESENCES[finding.presence]))
    children += [items.image(CONTAINS, codes.SOURCE_OF_MEASUREMENT, item) for item in sources.values()]
    template = "1501" if region is None else "1410"
    return items.container(CONTAINS, codes.MEASUREMENT_GROUP, children, template=template)


def _certainty(algorithm: Algorithm, finding: Finding) -> Dataset:
    """Calibrated probability in percent, or a score that is none, with what tells the two apart."""
    computed = [
        items.text(HAS_CONCEPT_MOD, codes.ALGORITHM_NAME, algorithm.name),
        items.text(HAS_CONCEPT_MOD, codes.ALGORITHM_VERSION, algorithm.version),
        items.text(HAS_CONCEPT_MOD, codes.ALGORITHM_PARAMETERS, f"threshold={finding.threshold:.6g}"),
    ]
    if finding.certainty is None:
        return items.num(CONTAINS, codes.MODEL_SCORE, f"{finding.score:.6g}", codes.NO_UNITS, computed)
    return items.num(CONTAINS, codes.CERTAINTY, f"{100 * finding.certainty:.6g}", codes.PERCENT, computed)


def _region(finding: Finding, sources: Mapping[str, Dataset]) -> Dataset | None:
    """Box around where the model looked, for a finding that is present."""
    if finding.presence is not Presence.PRESENT:
        return None
    for saliency in finding.saliency:
        box = hot_box(saliency.values)
        if box is not None and saliency.sop_instance_uid in sources:
            left, top, right, bottom = box
            corners = (left, top, right, top, right, bottom, left, bottom, left, top)
            source = sources[saliency.sop_instance_uid]
            return items.polyline(CONTAINS, codes.IMAGE_REGION, corners, source)
    return None


def _evaluations(report: Report) -> Dataset:
    """Of the study as a whole: normality or the reason of a refusal, what was left out, the research flag."""
    children = []
    if report.refusal is None:
        normality = codes.NORMALITIES[report.normality]
        children.append(items.code(CONTAINS, codes.NORMALITY, normality))
    else:
        reason = codes.REFUSALS.get(report.refusal.reason)
        if reason is None:
            raise EncodingFailed(f"{report.refusal.reason} is no reason of codes.REFUSALS; add it there")
        children += [
            items.code(CONTAINS, codes.PROCESSING_SUMMARY, codes.NO_ALGORITHM_SUCCEEDED),
            items.code(CONTAINS, codes.REASON_NOT_ANALYSED, reason.code),
            items.text(CONTAINS, codes.EXPLANATION, report.refusal.text or reason.sentence),
        ]
    children.append(items.text(CONTAINS, codes.INTENDED_USE_STATEMENT, codes.INTENDED_USE))
    for source in report.sources:
        if not source.analysed:
            item = referenceable(source)
            inferred = [] if item is None else [items.image(INFERRED_FROM, None, item)]
            text = f"{position(source)}: {source.exclusion}"
            children.append(items.text(CONTAINS, codes.IMAGE_NOT_ANALYSED, text, inferred))
    return items.container(CONTAINS, codes.QUALITATIVE_EVALUATIONS, children)
