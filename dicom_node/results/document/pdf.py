"""The summary of a report as an Encapsulated PDF (PS3.3 A.45.1, C.24), for viewers without reports."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_node.results import codes
from dicom_node.results.document.summary import draw_pages
from dicom_node.results.encoding import composite
from dicom_node.results.encoding.part10 import put
from dicom_node.results.encoding.pixel_history import burned_in_annotation
from dicom_node.results.equipment import Equipment
from dicom_node.results.report import FloatArray, Report

SERIES_NUMBER: Final = 9906
SERIES_DESCRIPTION: Final = f"AI summary - {codes.RESEARCH_USE_ONLY}"


def write_pdf(report: Report, pixels: Mapping[str, FloatArray], *, equipment: Equipment) -> Dataset:
    """Draw a report's summary and encapsulate it.

    Parameters
    ----------
    pixels
        As :func:`dicom_node.results.document.summary.draw_pages` takes it.

    Raises
    ------
    EncodingFailed
        When a value cannot be written.
    """
    ds = composite.begin_result(
        report,
        equipment,
        kind="pdf",
        sop_class_uid=EncapsulatedPDFStorage,
        modality="DOC",
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        instance_number=1,
    )
    pages = draw_pages(report, pixels)
    sources = [item for source in report.sources if (item := composite.referenceable(source)) is not None]
    put(
        ds,
        ConversionType="WSD",
        # The pages repeat the films.
        BurnedInAnnotation=burned_in_annotation(*(source.header for source in report.sources)),
        RecognizableVisualFeatures="NO",
        AcquisitionDateTime="",
        DocumentTitle=f"{codes.RESEARCH_USE_ONLY}: answers of a model to a chest radiograph",
        ConceptNameCodeSequence=[],
        VerificationFlag="UNVERIFIED",
        MIMETypeOfEncapsulatedDocument="application/pdf",
        EncapsulatedDocument=pages + b"\0" * (len(pages) % 2),
        EncapsulatedDocumentLength=len(pages),
    )
    if sources:
        put(ds, SourceInstanceSequence=sources)
    return composite.finish_result(ds, report, kind="pdf", key="")
