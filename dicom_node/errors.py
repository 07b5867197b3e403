"""Every error that the node raises on purpose.

::

    NodeError                      one clear sentence: what, where, what to do
    ├── ConfigurationError         a setting is wrong; exit code 2
    ├── AlreadyRunning             the data directory belongs to another node
    ├── StorageFull                spool or database has no room          (retryable)
    ├── StorageFailed              spool or database cannot be written    (retryable)
    ├── BadInstance                bytes that are no acceptable DICOM instance
    ├── NotAnalysable              a good instance that no model may read; carries a coded reason
    ├── PeerError                  the other side of an association
    │   ├── PeerUnavailable        refused, down, timed out, out of resources (retryable)
    │   └── PeerRejected           the peer will never take this
    └── EncodingFailed             a result that could not be written as valid DICOM

``retryable`` says whether the same call may succeed later without anybody changing anything.
"""

from __future__ import annotations

from typing import ClassVar


class NodeError(Exception):
    """Base of all; ``str()`` of it may be shown to a user as it is."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class ConfigurationError(NodeError):
    """A setting, or a combination of settings, cannot be used."""

    exit_code = 2


class AlreadyRunning(NodeError):
    """Another node holds the lock of the data directory."""

    exit_code = 3


class StorageFull(NodeError):
    """No room for another instance; answered as A700."""

    retryable = True


class StorageFailed(NodeError):
    """The spool or the database could not be written."""

    retryable = True


class BadInstance(NodeError):
    """Received bytes that cannot be kept as a DICOM instance; answered in the C000 range or as A900."""


class NotAnalysable(NodeError):
    """A kept instance that no model may read.

    Parameters
    ----------
    reason
        Key into ``results.codes.REFUSALS``.
    text
        One sentence for a person.
    """

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class PeerError(NodeError):
    """The other side of an association did not do what was asked."""


class PeerUnavailable(PeerError):
    """Try again later."""

    retryable = True


class PeerRejected(PeerError):
    """The peer understood and said no; the same request will be refused again."""


class EncodingFailed(NodeError):
    """A result could not be written as valid DICOM."""
