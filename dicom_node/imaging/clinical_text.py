"""Clinical text of a study: indication and history, which a model may read beside the films.

Only what was known before the films were read. Comments, descriptions of findings and interpretations are
written after reading and are never used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from dicom_node.imaging import attributes

REASONS = (
    "ReasonForTheRequestedProcedure",
    "ReasonForTheImagingServiceRequest",
    "AdditionalPatientHistory",
    "AdmittingDiagnosesDescription",
)
"""Keywords of the elements that give the reason for an examination as text: of the imaging service request
(PS3.3 C.4.12), of the visit (C.3.2) and of the patient's study (C.7.2.2)."""
CODED_REASONS = (
    "ReasonForRequestedProcedureCodeSequence",
    "ReasonForVisitCodeSequence",
    "AdmittingDiagnosesCodeSequence",
)
"""Keywords of the sequences that give the same as codes; the code meaning is used."""


def indication(headers: Sequence[Dataset]) -> str | None:
    """Return indication and history of a study, one sentence each; None when no header gives any.

    Parameters
    ----------
    headers
        Headers of the study's images. A sentence that several of them hold is returned once.
    """
    said: dict[str, str] = {}
    for header in headers:
        for sentence in _sentences(header):
            said.setdefault(sentence.casefold(), sentence)
    return " ".join(said.values()) or None


def _sentences(header: Dataset) -> Iterator[str]:
    for ds in (header, *attributes.items(header, "RequestAttributesSequence")):
        found = [text for keyword in REASONS for text in attributes.texts(ds, keyword)]
        found += [
            attributes.text(item, "CodeMeaning")
            for keyword in CODED_REASONS
            for item in attributes.items(ds, keyword)
        ]
        for text in found:
            sentence = " ".join(text.split())
            if sentence:
                yield sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."
