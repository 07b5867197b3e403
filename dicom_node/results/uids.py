"""UIDs of the node's results: the same content gives the same UID, other content another (PS3.5 B.2).

A PACS may keep the object that it has when a UID comes again, so the UID of an instance holds a hash of
its content; and a repeated analysis must not file a second copy, so nothing random goes in.
"""

from __future__ import annotations

import hashlib
import uuid

_NAMESPACE = uuid.UUID("0f6b5f0e-3d0d-5b8e-9c0f-6a0b8b3e7d21")

IMPLEMENTATION_CLASS_UID = "2.25.101486346118640829043513216843573320533"
"""Implementation Class UID of the file meta information (PS3.10 7.1)."""


def derived_uid(*parts: object) -> str:
    """UID of at most 44 characters that is the same for the same parts.

    Parts are kept apart, so that ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    name = "".join(f"{len(text)}:{text}" for text in map(str, parts))
    return f"2.25.{uuid.uuid5(_NAMESPACE, name).int}"


def device_uid(*installation: str) -> str:
    """UID of the device observer: one installation of the node (TID 1004).

    Parameters
    ----------
    installation
        Names that tell this installation from others and survive an upgrade: AE title, station.
    """
    return derived_uid("device", *installation)


def series_uid(study_instance_uid: str, revision: int, kind: str, model: str) -> str:
    """UID of the series that holds one kind of result (``sr``, ``sc``) of one model for one revision."""
    return derived_uid("series", study_instance_uid, revision, kind, model)


def tracking_uid(study_instance_uid: str, model: str, key: str) -> str:
    """UID that follows one label of one model through the revisions of a study (TID 1501)."""
    return derived_uid("tracking", study_instance_uid, model, key)


def observation_uid(content_digest: str) -> str:
    """UID of a content item with all below it, by its digest (PS3.3 C.17.3, Observation UID)."""
    return derived_uid("observation", content_digest)


def instance_uid(series_instance_uid: str, kind: str, key: str, content: bytes) -> str:
    """UID of one result.

    Parameters
    ----------
    series_instance_uid
        UID of its series.
    kind, key
        Which of the series' results.
    content
        The encoded data set without this UID.
    """
    return derived_uid("instance", series_instance_uid, kind, key, hashlib.sha256(content).hexdigest())
