"""Errors of the node: every one that it raises on purpose.

::

    NodeError                      base class; one clear sentence: what, where, what to do
    ├── ConfigurationError         a setting is wrong; exit code 2
    ├── AlreadyRunning             another node uses the data directory; exit code 3
    ├── StoppedByUser              the user interrupted what can be resumed; exit code 130
    ├── StorageFull                no room on the disk or in the database   (retryable)
    ├── StorageFailed              disk or database cannot be written       (retryable)
    │   └── IndexDamaged           the index is damaged or gone; exit code 4
    ├── BadInstance                bytes that are not an acceptable DICOM instance
    ├── NotDeidentified            an instance that must not leave, because its identity stays in it
    ├── NotAnalysable              a kept instance that models must not read; has a coded reason
    ├── PeerError                  failure at the other side of a connection
    │   ├── PeerUnavailable        not reachable, too slow or refusing associations (retryable)
    │   ├── InstanceDeferred       one instance was not taken; others may be     (retryable)
    │   └── PeerRejected           the peer refuses the request for good
    └── EncodingFailed             a result could not be written as valid DICOM

``retryable`` is True when the same call may succeed later without any change.
"""

from __future__ import annotations

from typing import ClassVar


class NodeError(Exception):
    """Base class of the errors; its text is a sentence that can be shown to a user."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class ConfigurationError(NodeError):
    """Error in a setting, or in a combination of settings."""

    exit_code = 2


class AlreadyRunning(NodeError):
    """Error because another node holds the lock of the data directory."""

    exit_code = 3


class StoppedByUser(NodeError):
    """The user interrupted what can be resumed."""

    exit_code = 130


class StorageFull(NodeError):
    """Error because the disk or the database is full; a C-STORE is answered A700."""

    retryable = True


class StorageFailed(NodeError):
    """Error because a file or the database could not be written."""

    retryable = True


class IndexDamaged(StorageFailed):
    """Error because the index is damaged, was deleted or was replaced: a person has to bring it back."""

    exit_code = 4


class BadInstance(NodeError):
    """Error in bytes that cannot be kept as a DICOM instance; a C-STORE is answered Cxxx or A900."""


class NotDeidentified(NodeError):
    """Error in an instance whose identity cannot be removed, so that it must not leave."""


class NotAnalysable(NodeError):
    """Error in a kept instance, because of which models must not read it.

    Parameters
    ----------
    reason
        Key into ``results.codes.REFUSALS``.
    text
        Sentence for a person.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class PeerError(NodeError):
    """Error at the other side of a connection, which did not do what was asked."""


class PeerUnavailable(PeerError):
    """Error at a peer that may pass: the same request may succeed later."""

    retryable = True


class InstanceDeferred(PeerError):
    """Error of a peer about one instance that may pass; it says nothing about other instances."""

    retryable = True


class PeerRejected(PeerError):
    """Refusal of a peer; the same request would be refused again."""


class EncodingFailed(NodeError):
    """Error because a result could not be written as valid DICOM."""
