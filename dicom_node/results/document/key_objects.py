"""Key Object Selections of a result set, and of withdrawn results (PS3.3 A.35.4, TID 2010).

A selection is titled For Research. A rejection note is what IHE's Imaging Object Change Management (RAD TF-1
34) calls one: a PACS that knows the profile hides what it names.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite
from dicom_node.results.encoding.part10 import put
from dicom_node.results.equipment import Equipment
from dicom_node.results.report import Code, Report
from dicom_node.results.sr import content_items, document
from dicom_node.results.sr.content_items import CONTAINS, HAS_CONCEPT_MOD

SERIES_NUMBER: Final = 9905
SERIES_DESCRIPTION: Final = f"AI key objects - {codes.RESEARCH_USE_ONLY}"
REJECTION_SERIES_NUMBER: Final = 9909
REJECTION_SERIES_DESCRIPTION: Final = f"AI results withdrawn - {codes.RESEARCH_USE_ONLY}"

_PICTURES: Final = frozenset({SecondaryCaptureImageStorage, SegmentationStorage, ParametricMapStorage})
"""Results that an IMAGE refers to; a COMPOSITE refers to the others."""


def write_kos(report: Report, results: Sequence[Dataset], *, equipment: Equipment) -> Dataset:
    """Select the films that were analysed and the other results.

    Parameters
    ----------
    results
        Other objects written for the report.

    Raises
    ------
    EncodingFailed
        When a value cannot be written.
    """
    ds = composite.begin_result(
        report,
        equipment,
        kind="ko",
        sop_class_uid=KeyObjectSelectionDocumentStorage,
        modality="KO",
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        instance_number=1,
    )
    films = [
        content_items.image(CONTAINS, None, item) for _, item in document.analysed_sources(report.sources)
    ]
    put(
        ds,
        ReferencedPerformedProcedureStepSequence=[],
        CurrentRequestedProcedureEvidenceSequence=document.source_evidence(report, results),
    )
    ds.update(_tree(codes.FOR_RESEARCH, codes.INTENDED_USE, [*films, *map(_selected, results)], equipment))
    return composite.finish_result(ds, report, kind="ko", key="")


def write_rejection(
    results: Sequence[Dataset],
    *,
    title: Code,
    reason: str,
    created: datetime,
    revision: int,
    equipment: Equipment,
) -> Dataset:
    """Write the note that withdraws results.

    Parameters
    ----------
    results
        At least one, all of one study, as they were written; patient and study are taken from the first.
    title
        `codes.REJECTED_FOR_QUALITY` or `codes.REJECTED_FOR_SAFETY`.
    reason
        One sentence for a person.
    created
        When they were withdrawn; aware.
    revision
        Revision of the study.

    Raises
    ------
    EncodingFailed
        When a value cannot be written.
    """
    first = results[0]
    study = str(first.StudyInstanceUID)
    ds = composite.begin_from_header(
        first,
        equipment,
        study_instance_uid=study,
        series_instance_uid=uids.series_uid(study, revision, "rejection", ""),
        created=created,
        sop_class_uid=KeyObjectSelectionDocumentStorage,
        modality="KO",
        series_number=REJECTION_SERIES_NUMBER,
        series_description=REJECTION_SERIES_DESCRIPTION,
        instance_number=1,
    )
    put(
        ds,
        ReferencedPerformedProcedureStepSequence=[],
        CurrentRequestedProcedureEvidenceSequence=document.evidence(map(document.evidence_entry, results)),
    )
    ds.update(_tree(title, reason, list(map(_selected, results)), equipment))
    return composite.finish_from_header(first, ds, kind="rejection", key="")


def _tree(title: Code, description: str, selected: list[Dataset], equipment: Equipment) -> Dataset:
    """Content tree of a Key Object Selection (TID 2010)."""
    children = [
        *_modifiers(title),
        content_items.code(HAS_CONCEPT_MOD, codes.LANGUAGE, codes.ENGLISH),
        *document.device_observer(equipment),
        content_items.text(CONTAINS, codes.KEY_OBJECT_DESCRIPTION, description),
        *selected,
    ]
    return content_items.container(None, title, children, template="2010")


def _modifiers(title: Code) -> Iterator[Dataset]:
    # The template wants a coded reason beside this title, and beside this title only.
    if title == codes.REJECTED_FOR_QUALITY:
        yield content_items.code(
            HAS_CONCEPT_MOD, codes.DOCUMENT_TITLE_MODIFIER, codes.INAPPROPRIATE_PROCESSING
        )


def _selected(result: Dataset) -> Dataset:
    item = content_items.reference(str(result.SOPClassUID), str(result.SOPInstanceUID))
    kind = content_items.image if result.SOPClassUID in _PICTURES else content_items.composite
    return kind(CONTAINS, None, item)
