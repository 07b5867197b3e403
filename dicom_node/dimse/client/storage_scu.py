"""Storage SCU: sends files unchanged."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydicom import dcmread
from pydicom.dataset import Dataset, FileDataset
from pydicom.errors import InvalidDicomError
from pydicom.misc import is_dicom
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import _config
from pynetdicom.association import Association
from pynetdicom.dsutils import split_dataset
from pynetdicom.presentation import build_context

from dicom_node.dimse.client.peer import Peer
from dicom_node.dimse.status import Outcome, StatusMeaning, meaning_of
from dicom_node.errors import BadInstance, PeerRejected, PeerUnavailable
from dicom_node.imaging import attributes

# pynetdicom then sends a file in pieces from disk, instead of decoding and encoding its data set.
_config.STORE_SEND_CHUNKED_DATASET = True

_MAX_CONTEXTS = 128  # odd context ids of one byte (PS3.8 9.3.2.2)
# A large file gets more time: one second for so many bytes.
_SLOWEST_BYTES_PER_SECOND = 64 * 1024
# The one conversion that changes no value, for peers that accept only Implicit VR (PS3.5 10.1).
_CONVERTIBLE = {
    ExplicitVRLittleEndian: ImplicitVRLittleEndian,
    ImplicitVRLittleEndian: ExplicitVRLittleEndian,
}


@dataclass(frozen=True, slots=True)
class ContextRequirement:
    """Presentation context that a file needs.

    Attributes
    ----------
    sop_class, transfer_syntax
        SOP class and transfer syntax of the file.
    """

    sop_class: UID
    transfer_syntax: UID

    @classmethod
    def of(cls, path: Path) -> ContextRequirement:
        """Read the requirement of a Part 10 file, or of a data set without file meta information.

        Raises
        ------
        BadInstance
            When the file is neither.
        OSError
            When the file cannot be read.
        """
        try:
            meta, _ = split_dataset(path)
            return cls(UID(meta.MediaStorageSOPClassUID), UID(meta.TransferSyntaxUID))
        except (InvalidDicomError, AttributeError, EOFError, ValueError):
            return cls.of_bare(_bare(path))

    @classmethod
    def of_bare(cls, ds: Dataset) -> ContextRequirement:
        """Return the requirement of a data set from :func:`_bare`."""
        return cls(UID(ds.SOPClassUID), UID(ds.file_meta.TransferSyntaxUID))


def _bare(path: Path) -> Dataset:
    """Read a data set without file meta information, as old archives store it; guess its encoding."""
    try:
        with attributes.tolerance():  # the peer, not this node, judges odd values
            ds = dcmread(path, force=True)
    except (AttributeError, EOFError, NotImplementedError, RecursionError, ValueError, struct.error):
        ds = FileDataset(str(path), {})
    if not (ds.get("SOPClassUID") and ds.get("SOPInstanceUID")):
        raise BadInstance(f"{path}: not a DICOM file (PS3.10 7.1)")
    implicit, little_endian = ds.original_encoding
    explicit = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """Successful answer of a peer to a C-STORE request.

    Attributes
    ----------
    status
        Status (0000,0900), of a success or a warning.
    meaning
        Meaning of the status.
    """

    status: int
    meaning: StatusMeaning


@dataclass(eq=False)
class StoreSession(Peer):
    """Storage SCU that sends files to one peer over an association that stays open between them.

    It proposes only the presentation contexts that the files need. To be used by one thread at a time.
    """

    _expected: dict[ContextRequirement, None] = field(default_factory=dict, init=False)
    _proposed: frozenset[ContextRequirement] = field(default=frozenset(), init=False)
    _association: Association | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def expect(
        self, sop_class_uids: Iterable[str], transfer_syntax_uid: str = ExplicitVRLittleEndian
    ) -> None:
        """Announce the next files, so that one association serves them all.

        Parameters
        ----------
        sop_class_uids
            SOP classes of the files.
        transfer_syntax_uid
            Transfer syntax of the files.
        """
        requirements = [
            ContextRequirement(UID(sop_class), UID(transfer_syntax_uid)) for sop_class in sop_class_uids
        ]
        self._expected = dict.fromkeys([*requirements, *self._expected][: _MAX_CONTEXTS // 2])

    def send(self, path: Path) -> StoreResponse:
        """Store a Part 10 file at the peer.

        Returns
        -------
        Answer
            Success or a warning: the peer has the instance.

        Raises
        ------
        PeerUnavailable
            When the peer cannot be reached or has no room: the same file may be sent later.
        PeerRejected
            When the peer refuses this file for good.
        BadInstance
            When the file is not a DICOM file.
        OSError
            When the file cannot be read.
        """
        requirement = ContextRequirement.of(path)
        association = self._associated(requirement)
        association.dimse_timeout = self.response_seconds + path.stat().st_size / _SLOWEST_BYTES_PER_SECOND
        try:
            answer = association.send_c_store(self._as_accepted(association, requirement, path))
        except RuntimeError:  # the peer has just ended the association
            answer = Dataset()
        status = answer.get("Status")
        if status is None:
            self._drop()
            raise PeerUnavailable(f"{self.name}: the association ended without an answer to C-STORE")
        meaning = meaning_of(status)
        if meaning.outcome.delivered:
            return StoreResponse(status, meaning)
        comment = f" ({answer.ErrorComment})" if answer.get("ErrorComment") else ""
        sentence = f"{self.name}: C-STORE answered {status:04X}: {meaning.text}{comment}"
        if meaning.outcome is Outcome.PERMANENT:
            raise PeerRejected(sentence)
        raise PeerUnavailable(sentence)

    def release(self) -> None:
        """Release the association, if there is one; the next file opens another."""
        if self._association is not None:
            self._association.release()
        self._drop()

    def _associated(self, requirement: ContextRequirement) -> Association:
        association = self._association
        if association is not None and association.is_established and requirement in self._proposed:
            return association
        self.release()
        self.expect([requirement.sop_class], requirement.transfer_syntax)
        # Each transfer syntax has a context of its own: a peer accepts only one in each context.
        proposed = dict.fromkeys(self._expected)
        for expected in self._expected:
            if expected.transfer_syntax in _CONVERTIBLE:
                converted = _CONVERTIBLE[expected.transfer_syntax]
                proposed[ContextRequirement(expected.sop_class, converted)] = None
        self._association = self.associate(
            [build_context(item.sop_class, item.transfer_syntax) for item in proposed]
        )
        self._proposed = frozenset(proposed)
        return self._association

    def _as_accepted(
        self, association: Association, requirement: ContextRequirement, path: Path
    ) -> Path | Dataset:
        """Return the file, or its data set when the peer accepts only the other VR encoding."""
        accepted = {
            ContextRequirement(UID(context.abstract_syntax or ""), context.transfer_syntax[0])
            for context in association.accepted_contexts
        }
        if requirement in accepted:
            return path if is_dicom(path) else _bare(path)
        if (
            ContextRequirement(requirement.sop_class, _CONVERTIBLE.get(requirement.transfer_syntax, UID("")))
            in accepted
        ):
            return dcmread(path)
        raise PeerRejected(
            f"{self.name}: does not accept {requirement.sop_class.name} in {requirement.transfer_syntax.name}"
        )

    def _drop(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.abort()
        self._association = None
