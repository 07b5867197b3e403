"""Store Instances Response (PS3.18 10.5.3 and I.2), as services write it, right or wrong."""

from __future__ import annotations

from typing import Final
from xml.etree.ElementTree import fromstring

import requests
from dicomweb_client.web import _load_xml_dataset
from pydicom.dataset import Dataset

from dicom_node.dimse.status import Outcome, meaning_of
from dicom_node.imaging import attributes

_PROCESSING_FAILURE: Final = 0x0110
_STORED_TEXTS: Final = ("already exist", "already stored", "already been stored")
"""Words by which services without a Failure Reason say that they have an instance."""


class StoreAnswer:
    """Answer of a service about one instance.

    Parameters
    ----------
    response
        Response to the STOW-RS request.
    sop_instance_uid
        SOP Instance UID of the instance; what is said about others is passed over.

    Attributes
    ----------
    stored
        Whether the service says that it has the instance, now or from before.
    failure
        Failure Reason (0008,1197) for the instance; None when the answer holds none.
    permanent, meaning
        Whether the same request would fail again, and the reason in the words of the standard.
    media_type
        Media type of the answer.
    """

    def __init__(self, response: requests.Response, sop_instance_uid: str) -> None:
        self.media_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        answer = _dataset(response.content, self.media_type)
        reasons = [] if answer is None else _reasons(answer, sop_instance_uid)
        failures = [reason for reason in reasons if not meaning_of(reason).outcome.delivered]
        self.failure = failures[0] if failures else None
        meaning = meaning_of(self.failure or 0)
        self.permanent, self.meaning = meaning.outcome is Outcome.PERMANENT, meaning.text
        if response.ok:
            self.stored = answer is not None and not failures
        else:
            text = response.content.decode("utf-8", "replace").lower()
            duplicate = bool(reasons) and not failures
            self.stored = duplicate or any(words in text for words in _STORED_TEXTS)


def _dataset(content: bytes, media_type: str) -> Dataset | None:
    """Return the data set of an answer, empty when it has no content; None when it cannot be read."""
    if not content.strip():
        return Dataset()
    try:
        if media_type.endswith("xml"):
            if b"<!" in content.replace(b"\0", b""):  # declares entities, or is none of PS3.19's XML
                return None
            found: Dataset = _load_xml_dataset(fromstring(content))  # noqa: S314 - without entities
            return found
        with attributes.tolerance():
            return Dataset.from_json(content.decode().strip().removeprefix("[").removesuffix("]"))
    except (SyntaxError, *attributes.MALFORMED):
        return None


def _reasons(answer: Dataset, sop_instance_uid: str) -> list[int]:
    """Return the Failure Reasons that are about one instance, or about none in particular."""
    stored = {
        attributes.text(item, "ReferencedSOPInstanceUID")
        for item in attributes.items(answer, "ReferencedSOPSequence")
    }
    reasons = []
    for keyword in ("FailedSOPSequence", "OtherFailuresSequence"):
        for item in attributes.items(answer, keyword):
            about = attributes.text(item, "ReferencedSOPInstanceUID")
            if about == sop_instance_uid or (not about and sop_instance_uid not in stored):
                reason = str(attributes.value(item, "FailureReason"))
                reasons.append(int(reason) if reason.isdecimal() else _PROCESSING_FAILURE)
    return reasons
