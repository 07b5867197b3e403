"""Secret key of the node, from which pseudonyms of patients and the tokens of the page are derived."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

from dicom_node.errors import StorageFailed
from dicom_node.runtime import temporary_files

_KEY_BYTES: Final = 32


def read_secret_key(path: Path) -> bytes:
    """Return the node's secret of 32 bytes; the file is created if it does not exist.

    Raises
    ------
    StorageFailed
        When the file can neither be read nor written, or is damaged.
    """
    try:
        if not path.exists():
            # Linked into place when complete: another process of the node may create it at the same moment.
            handle, temporary = temporary_files.create(path.parent)
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(secrets.token_bytes(_KEY_BYTES))
                    stream.flush()
                    os.fsync(stream.fileno())
                with contextlib.suppress(FileExistsError):
                    os.link(temporary, path)
            finally:
                temporary.unlink(missing_ok=True)
        key = path.read_bytes()
        if len(key) != _KEY_BYTES or not any(key):
            # A new one would change the pseudonyms of all patients: that is for a person to decide.
            raise StorageFailed(
                f"{path}: the secret is damaged; bring it back from a backup, or delete it for a new one"
            )
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}; check the disk and its permissions") from error
    return key


def person_key(key: bytes, patient_id: str, issuer: str, study_instance_uid: str) -> str:
    """Return the keyed hash of a patient, equal for all studies of one patient.

    Parameters
    ----------
    key
        Secret of the node.
    patient_id, issuer
        Patient ID and Issuer of Patient ID.
    study_instance_uid
        UID that stands for the patient when there is no Patient ID: then it is unknown whether two studies
        belong to one patient.
    """
    subject = f"patient:{issuer}:{patient_id}" if patient_id else f"study:{study_instance_uid}"
    return hmac.new(key, subject.encode("utf-8", "replace"), hashlib.sha256).hexdigest()


def pseudonym(person: str) -> str:
    """Return the pseudonym of a patient, such as ``P-0123456789``, for a :func:`person_key`."""
    return f"P-{person[:10]}"
