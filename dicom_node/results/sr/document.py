"""Parts of every structured report: document modules, evidence, observation context, algorithm.

PS3.3 C.17.2 (SR Document General), PS3.16 TID 1002, 1004, 1600 and 4019.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage, ComprehensiveSRStorage, EnhancedSRStorage

from dicom_node import MODEL_NAME
from dicom_node.imaging import attributes
from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite, header
from dicom_node.results.encoding.composite import referenceable
from dicom_node.results.encoding.part10 import content_digest, dataset, put
from dicom_node.results.equipment import Equipment
from dicom_node.results.report import Algorithm, Code, PriorComparison, Report, Source
from dicom_node.results.sr import content_items
from dicom_node.results.sr.content_items import CONTAINS, HAS_ACQ_CONTEXT, HAS_CONCEPT_MOD, HAS_OBS_CONTEXT

SrClass: TypeAlias = Literal["comprehensive3d", "comprehensive", "enhanced"]

SOP_CLASSES: Final[Mapping[str, str]] = {
    "comprehensive3d": Comprehensive3DSRStorage,
    "comprehensive": ComprehensiveSRStorage,
    "enhanced": EnhancedSRStorage,
}

_MODALITIES: Final = {
    "CR": Code("CR", "DCM", "Computed Radiography"),
    "DX": Code("DX", "DCM", "Digital Radiography"),
    "RG": Code("RG", "DCM", "Radiographic imaging"),
}
"""Modality (CID 29)."""
_OTHER_MODALITY: Final = Code("OT", "DCM", "Other Modality")


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The report of an earlier revision, which this one takes the place of (PS3.3 C.17.2, C.17.2.2)."""

    series_instance_uid: str
    sop_class_uid: str
    sop_instance_uid: str


def begin(
    report: Report,
    equipment: Equipment,
    *,
    kind: str,
    sop_class: SrClass,
    series_number: int,
    series_description: str,
    predecessor: Predecessor | None,
) -> Dataset:
    """Return a report of TID 1500 without its content tree; parameters as for `composite.begin_result`.

    It refers to every source of `report` as its evidence.
    """
    ds = composite.begin_result(
        report,
        equipment,
        kind=kind,
        sop_class_uid=SOP_CLASSES[sop_class],
        modality="SR",
        series_number=series_number,
        series_description=series_description,
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
    if sources := source_evidence(report):
        put(ds, CurrentRequestedProcedureEvidenceSequence=sources)
    if predecessor is not None:
        put(ds, PredecessorDocumentsSequence=[_predecessor(report, predecessor)])
    return ds


def source_evidence(report: Report, results: Iterable[Dataset] = ()) -> list[Dataset]:
    """References to every source, and to results of the report, by study and series (PS3.3 C.17.2)."""
    return evidence([*_entries(report.sources, report.study_instance_uid), *map(evidence_entry, results)])


def prior_evidence(prior: PriorComparison) -> list[Dataset]:
    """References to the images of an earlier study, which are pertinent other evidence (PS3.3 C.17.2.3)."""
    return evidence(_entries(prior.sources, prior.study_instance_uid))


def _entries(sources: Iterable[Source], study_instance_uid: str) -> Iterator[tuple[str, str, Dataset]]:
    for source in sources:
        if (item := referenceable(source)) is not None:
            study = header.repaired(source.header, "StudyInstanceUID") or study_instance_uid
            yield study, header.repaired(source.header, "SeriesInstanceUID"), item


def evidence_entry(result: Dataset) -> tuple[str, str, Dataset]:
    """Entry of a result in :func:`evidence`: study UID, series UID, reference."""
    item = content_items.reference(str(result.SOPClassUID), str(result.SOPInstanceUID))
    return str(result.StudyInstanceUID), str(result.SeriesInstanceUID), item


def evidence(entries: Iterable[tuple[str, str, Dataset]]) -> list[Dataset]:
    """References grouped by study and series, from (study UID, series UID, reference to the instance)."""
    found: dict[str, dict[str, list[Dataset]]] = {}
    for study, series, item in entries:
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
    instance = content_items.reference(predecessor.sop_class_uid, predecessor.sop_instance_uid)
    series = dataset(SeriesInstanceUID=predecessor.series_instance_uid, ReferencedSOPSequence=[instance])
    return dataset(StudyInstanceUID=report.study_instance_uid, ReferencedSeriesSequence=[series])


def observation_context(
    report: Report, observed_by: Iterable[Dataset], earlier: Sequence[Source] = ()
) -> Iterator[Dataset]:
    """Observation context that TID 1500 begins with: language, observer, procedure, image library.

    Parameters
    ----------
    observed_by
        Items of :func:`device_observer` or :func:`person_observer`.
    earlier
        Images of an earlier study that the content refers to.
    """
    source = composite.lead_source(report.sources).header
    yield content_items.code(HAS_CONCEPT_MOD, codes.LANGUAGE, codes.ENGLISH)
    yield from observed_by
    yield content_items.code(HAS_CONCEPT_MOD, codes.PROCEDURE_REPORTED, _procedure(source))
    yield from _image_library(report, earlier)


def person_observer(name: str) -> Iterator[Dataset]:
    """A person as observer, by a PN (TID 1002, 1003)."""
    yield content_items.code(HAS_OBS_CONTEXT, codes.OBSERVER_TYPE, codes.PERSON)
    yield content_items.pname(HAS_OBS_CONTEXT, codes.PERSON_NAME, name)


def device_observer(equipment: Equipment) -> Iterator[Dataset]:
    """The node as observer (TID 1002, 1004)."""
    yield content_items.code(HAS_OBS_CONTEXT, codes.OBSERVER_TYPE, codes.DEVICE)
    yield content_items.uidref(HAS_OBS_CONTEXT, codes.DEVICE_UID, equipment.device_uid)
    for name, value in (
        (codes.DEVICE_NAME, equipment.station_name),
        (codes.DEVICE_MANUFACTURER, equipment.manufacturer),
        (codes.DEVICE_MODEL, MODEL_NAME),
        (codes.DEVICE_SERIAL, equipment.serial_number),
    ):
        yield content_items.fixed_text(HAS_OBS_CONTEXT, name, value)


def _procedure(source: Dataset) -> Code:
    """Procedure that the source names, else one of CID 100."""
    for item in attributes.items(source, "ProcedureCodeSequence"):
        parts = [
            header.repaired(item, keyword)
            for keyword in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
        ]
        if all(parts):
            return Code(*parts)
    return codes.IMAGING_PROCEDURE


def _image_library(report: Report, earlier: Sequence[Source]) -> Iterator[Dataset]:
    """TID 1600, 1601, 1602, 1603: the images that were analysed, an earlier study in another group."""
    groups = [
        content_items.container(
            CONTAINS,
            codes.IMAGE_LIBRARY_GROUP,
            [
                content_items.image(CONTAINS, None, item, list(_acquisition(source)))
                for source, item in images
            ],
        )
        for images in (list(analysed_sources(report.sources)), list(analysed_sources(earlier)))
        if images
    ]
    if groups:
        yield content_items.container(CONTAINS, codes.IMAGE_LIBRARY, groups, template="1600")


def _acquisition(source: Source) -> Iterator[Dataset]:
    modality = _MODALITIES.get(attributes.text(source.header, "Modality").upper(), _OTHER_MODALITY)
    yield content_items.code(HAS_ACQ_CONTEXT, codes.MODALITY, modality)
    if study_date := header.repaired(source.header, "StudyDate"):
        yield content_items.date(HAS_ACQ_CONTEXT, codes.STUDY_DATE, study_date)
    if view := codes.VIEWS.get(_view(source)):
        yield content_items.code(HAS_ACQ_CONTEXT, codes.IMAGE_VIEW, view)


def _view(source: Source) -> str:
    """View Position; where the picture shows another view than the header says, the picture is right."""
    stated = attributes.text(source.header, "ViewPosition").upper()
    if not source.view or (source.view == "lateral") == (stated in codes.LATERAL_VIEWS):
        return stated
    return "LATERAL" if source.view == "lateral" else ""


def analysed_sources(sources: Iterable[Source]) -> Iterator[tuple[Source, Dataset]]:
    """Sources that a model read, each with the item that refers to it."""
    for source in sources:
        item = referenceable(source) if source.analysed else None
        if item is not None:
            yield source, item


def observation_moment(report: Report) -> str:
    """Moment of the observations of a report, as DT (PS3.3 C.17.3, Observation DateTime)."""
    moment, _ = header.local_time(report.created, composite.lead_source(report.sources).header)
    return moment.strftime("%Y%m%d%H%M%S.%f%z")


def measurement_group(moment: str, children: Sequence[Dataset], template: str) -> Dataset:
    """Measurement group with the moment and the UID that name it outside of its document (PS3.3 C.17.3).

    Parameters
    ----------
    moment
        As :func:`observation_moment` returns it.
    template
        TID that it follows.
    """
    values = {"template": template, "ObservationDateTime": moment}
    unnamed = content_items.container(CONTAINS, codes.MEASUREMENT_GROUP, children, **values)
    uid = uids.observation_uid(content_digest(unnamed))
    return content_items.container(CONTAINS, codes.MEASUREMENT_GROUP, children, ObservationUID=uid, **values)


def algorithm_identification(algorithm: Algorithm, equipment: Equipment) -> Iterator[Dataset]:
    """TID 4019, of all that stands in one container."""
    yield content_items.fixed_text(HAS_CONCEPT_MOD, codes.ALGORITHM_NAME, algorithm.name)
    yield content_items.fixed_text(HAS_CONCEPT_MOD, codes.ALGORITHM_VERSION, algorithm.version)
    yield content_items.fixed_text(HAS_CONCEPT_MOD, codes.ALGORITHM_MANUFACTURER, equipment.manufacturer)
    yield content_items.code(HAS_CONCEPT_MOD, codes.ALGORITHM_FAMILY, codes.ARTIFICIAL_INTELLIGENCE)
    for parameter in algorithm.parameters:
        yield content_items.fixed_text(HAS_CONCEPT_MOD, codes.ALGORITHM_PARAMETERS, parameter)


def evaluations(children: list[Dataset], intended_use: str = codes.INTENDED_USE) -> Dataset:
    """Container of what is said of the study as a whole; the intended use statement is added."""
    statement = content_items.fixed_text(CONTAINS, codes.INTENDED_USE_STATEMENT, intended_use)
    return content_items.container(CONTAINS, codes.QUALITATIVE_EVALUATIONS, [*children, statement])
