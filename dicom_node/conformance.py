"""The conformance statement (PS3.2), printed from the settings and from the tables that the program obeys."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files

from jinja2 import Environment, StrictUndefined
from pydicom.uid import (
    UID,
    EncapsulatedPDFStorage,
    GrayscaleSoftcopyPresentationStateStorage,
    KeyObjectSelectionDocumentStorage,
    ParametricMapStorage,
    SecondaryCaptureImageStorage,
    SegmentationStorage,
)

from dicom_node.config.sections import DicomDestination, DicomwebDestination
from dicom_node.config.settings import Settings
from dicom_node.dimse import contexts, status
from dicom_node.dimse.client import query_retrieve
from dicom_node.dimse.client.inquiry import SERVICES
from dicom_node.dimse.commitment import FAILURES
from dicom_node.results import codes
from dicom_node.results.report import Code
from dicom_node.results.sr.document import SOP_CLASSES
from dicom_node.store.recorded_results import REJECTION


@dataclass(frozen=True, slots=True)
class SentObject:
    """A kind of object that the node writes.

    Attributes
    ----------
    kind
        As the index and the settings name it.
    content
        One line for a person, with the template where there is one.
    """

    kind: str
    sop_class: UID
    content: str


def sent_objects(settings: Settings) -> Iterator[SentObject]:
    """Yield what these settings make the node write."""
    report = UID(SOP_CLASSES[settings.results.sr_class])
    classes = {
        "sr": (report, "findings, absences included, or why a study was not read (TID 1500)"),
        "similar": (report, "similar cases of a reference set (TID 1500)"),
        "sc": (SecondaryCaptureImageStorage, "film beside the heat map of one finding"),
        "pdf": (EncapsulatedPDFStorage, "summary for a person"),
        "seg": (SegmentationStorage, "heat maps of one film, fractional, a segment for each finding"),
        "pm": (ParametricMapStorage, "heat maps of one film, a frame for each finding"),
        "pr": (GrayscaleSoftcopyPresentationStateStorage, "boxes of the findings of one film"),
        "ko": (KeyObjectSelectionDocumentStorage, "For Research: films and results (TID 2010)"),
    }
    for kind, (sop_class, content) in classes.items():
        if kind in settings.results.objects:
            yield SentObject(kind, sop_class, content)
    note = "rejection note, written by dicom-node retract (TID 2010)"
    yield SentObject(REJECTION, KeyObjectSelectionDocumentStorage, note)


def conformance_statement(settings: Settings) -> str:
    """Return the statement as Markdown.

    Parameters
    ----------
    settings
        Of the node that it describes. Hosts and paths are left out, AE titles are not.
    """
    text = files("dicom_node").joinpath("templates", "conformance.md").read_text(encoding="utf-8")
    environment = Environment(  # noqa: S701 - what comes out is no HTML
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    return environment.from_string(text).render(
        settings=settings,
        version=importlib.metadata.version("dicom-node"),
        pynetdicom=importlib.metadata.version("pynetdicom"),
        contexts=contexts,
        services=SERVICES,
        retrieval=query_retrieve,
        sent=list(sent_objects(settings)),
        statuses=list(status.Status),
        answers=status.ANSWERS,
        failures=FAILURES,
        dicom=[each for each in settings.destinations if isinstance(each, DicomDestination)],
        web=[each for each in settings.destinations if isinstance(each, DicomwebDestination)],
        read="yes" if settings.web.patient == "name" else 'with `web.patient = "name"`',
        codes=list(_private_codes()),
        scheme=(codes.PRIVATE_SCHEME, codes.PRIVATE_SCHEME_UID, codes.PRIVATE_SCHEME_NAME),
        refusals=codes.REFUSALS.values(),
        intended_use=codes.INTENDED_USE,
    )


def _private_codes() -> Iterator[Code]:
    """Yield our own codes that are neither a refusal's nor a label's."""
    for value in vars(codes).values():
        if isinstance(value, Code) and value.scheme == codes.PRIVATE_SCHEME:
            yield value
