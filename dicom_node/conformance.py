"""Conformance statement (PS3.2), printed from the settings and from the tables that the program uses."""

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

from dicom_node.config.destinations import DicomDestination, DicomwebDestination
from dicom_node.config.settings import Settings
from dicom_node.dimse import contexts, implementation, status
from dicom_node.dimse.client import query_retrieve
from dicom_node.dimse.client.confirmation import SERVICES
from dicom_node.dimse.commitment import FAILURE_REASONS
from dicom_node.imaging.radiographs import ACCEPTED_SOP_CLASSES
from dicom_node.results import codes
from dicom_node.results.encoding.compression import TRANSFER_SYNTAXES
from dicom_node.results.report import Code
from dicom_node.results.sr.document import SOP_CLASSES
from dicom_node.store.recorded_results import REJECTION_NOTE


@dataclass(frozen=True, slots=True)
class SentObject:
    """Kind of object that the node writes.

    Attributes
    ----------
    kind
        Name of the kind, as in ``results.objects``.
    sop_class
        SOP class of the object.
    content
        One line on the content, with its template if it has one.
    """

    kind: str
    sop_class: UID
    content: str


def sent_objects(settings: Settings) -> Iterator[SentObject]:
    """Yield the kinds of objects that the node writes with these settings."""
    report = UID(SOP_CLASSES[settings.results.sr_class])
    classes = {
        "sr": (report, "findings, present and absent, or the reason why a study was not read (TID 1500)"),
        "similar": (report, "similar cases of a reference set (TID 1500)"),
        "sc": (
            SecondaryCaptureImageStorage,
            "the films with their strongest findings outlined"
            if settings.results.overview
            else "a film beside the heat map of one finding",
        ),
        "pdf": (EncapsulatedPDFStorage, "summary for people"),
        "seg": (SegmentationStorage, "heat maps of one film, fractional, one segment for each finding"),
        "pm": (ParametricMapStorage, "heat maps of one film, one frame for each finding"),
        "pr": (GrayscaleSoftcopyPresentationStateStorage, "boxes around the findings of one film"),
        "ko": (
            KeyObjectSelectionDocumentStorage,
            '"For Research": references to films and results (TID 2010)',
        ),
    }
    for kind, (sop_class, content) in classes.items():
        if kind in settings.results.objects:
            yield SentObject(kind, sop_class, content)
    note = "rejection note, written by `dicom-node retract` (TID 2010)"
    yield SentObject(REJECTION_NOTE, KeyObjectSelectionDocumentStorage, note)


def conformance_statement(settings: Settings) -> str:
    """Return the conformance statement as Markdown.

    Parameters
    ----------
    settings
        Settings of the node. Host names and paths are left out; AE titles are included.
    """
    text = files("dicom_node").joinpath("templates", "conformance.md").read_text(encoding="utf-8")
    environment = Environment(  # noqa: S701 - the output is Markdown, not HTML
        trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True, undefined=StrictUndefined
    )
    return environment.from_string(text).render(
        settings=settings,
        version=importlib.metadata.version("dicom-node"),
        contexts=contexts,
        implementation=implementation,
        accepted_sop_classes=ACCEPTED_SOP_CLASSES,
        services=SERVICES,
        retrieval=query_retrieve,
        sent=list(sent_objects(settings)),
        picture_syntax=TRANSFER_SYNTAXES[settings.results.compression],
        statuses=list(status.Status),
        answers=status.RESPONSE_STATUSES,
        failures=FAILURE_REASONS,
        dicom=[each for each in settings.destinations if isinstance(each, DicomDestination)],
        web=[each for each in settings.destinations if isinstance(each, DicomwebDestination)],
        read="yes" if settings.web.patient == "name" else 'with `web.patient = "name"`',
        codes=list(_private_codes()),
        scheme=(codes.PRIVATE_SCHEME, codes.PRIVATE_SCHEME_UID, codes.PRIVATE_SCHEME_NAME),
        refusals=codes.REFUSALS.values(),
        intended_use=codes.INTENDED_USE,
    )


def _private_codes() -> Iterator[Code]:
    """Yield the private codes that belong neither to a refusal nor to a label."""
    for value in vars(codes).values():
        if isinstance(value, Code) and value.scheme == codes.PRIVATE_SCHEME:
            yield value
