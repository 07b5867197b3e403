"""What was known of a patient before the films were read: the text that a model may see beside them.

Never what somebody said after reading them: comments, descriptions of findings, interpretations.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydicom.dataset import Dataset

from dicom_node.imaging import attributes

#: In which the reason for an examination stands: of the imaging service request (PS3.3 C.4.12), of the visit
#: (C.3.2) and of the patient's study (C.7.2.2).
REASONS = (
    "ReasonForTheRequestedProcedure",
    "ReasonForTheImagingServiceRequest",
    "AdditionalPatientHistory",
    "AdmittingDiagnosesDescription",
)
CODED_REASONS = (
    "ReasonForRequestedProcedureCodeSequence",
    "ReasonForVisitCodeSequence",
    "AdmittingDiagnosesCodeSequence",
)


def indication(headers: Sequence[Dataset]) -> str | None:
    """Indication and history of a study, a sentence each; None when no header tells any.

    Parameters
    ----------
    headers
        Of the study's images; what several of them say is said once.
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
