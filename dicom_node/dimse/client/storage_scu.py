"""Storage SCU: sends files unchanged, or pictures of the node uncompressed to peers that take no other."""

from __future__ import annotations

import contextlib
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
from pynetdicom.dsutils import split_dataset
from pynetdicom.presentation import build_context

from dicom_node.dimse.client.association import RequestedAssociation
from dicom_node.dimse.client.peer import Peer
from dicom_node.dimse.contexts import UNCOMPRESSED
from dicom_node.dimse.status import Outcome, StatusMeaning, meaning_of
from dicom_node.errors import BadInstance, InstanceDeferred, PeerRejected, PeerUnavailable
from dicom_node.imaging import attributes
from dicom_node.imaging.transfer_syntaxes import ENCAPSULATED
from dicom_node.store.files import described

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
        with contextlib.suppress(BadInstance, KeyError, ValueError):
            # What this node wrote needs no parser of any file, which takes a millisecond.
            about = described(path)
            return cls(*(UID(about[element].decode("ascii").rstrip("\0 ")) for element in (0x0002, 0x0010)))
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

    Attributes
    ----------
    decompresses
        Whether a peer that does not take the transfer syntax of a compressed file gets it uncompressed.
    """

    decompresses: bool = field(default=False, kw_only=True)
    _expected: dict[ContextRequirement, None] = field(default_factory=dict, init=False)
    _proposed: frozenset[ContextRequirement] = field(default=frozenset(), init=False)
    _association: RequestedAssociation | None = field(default=None, init=False)
    _served: bool = field(default=False, init=False)  # whether the association has carried an answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def expect(self, paths: Iterable[Path]) -> None:
        """Announce the next files, so that one association serves them all; pass over what is unreadable."""
        for path in paths:
            with contextlib.suppress(BadInstance, OSError):
                self._expect(ContextRequirement.of(path))

    def _expect(self, requirement: ContextRequirement) -> None:
        # Of each there may be two more, uncompressed.
        self._expected = dict.fromkeys([requirement, *self._expected][: _MAX_CONTEXTS // 3])

    def send(self, path: Path) -> StoreResponse:
        """Store a Part 10 file at the peer.

        Returns
        -------
        Answer
            Success or a warning: the peer has the instance.

        Raises
        ------
        PeerUnavailable
            When the peer cannot be reached, refuses the association or gives no answer in time.
        InstanceDeferred
            When the peer does not take this file now: it answered so, or ended the association instead.
        PeerRejected
            When the peer refuses this file for good.
        BadInstance
            When the file is not a DICOM file.
        OSError
            When the file cannot be read.
        """
        requirement = ContextRequirement.of(path)
        try:
            answer = self._store(requirement, path)
        except InstanceDeferred:
            if not self._served:
                raise
            # Archives end an association after a while, or after each instance, whatever comes next.
            answer = self._store(requirement, path)
        self._served = True
        meaning = meaning_of(answer.Status)
        if meaning.outcome.delivered:
            return StoreResponse(answer.Status, meaning)
        comment = f" ({answer.ErrorComment})" if answer.get("ErrorComment") else ""
        sentence = f"{self.name}: C-STORE answered {answer.Status:04X}: {meaning.text}{comment}"
        raise (PeerRejected if meaning.outcome is Outcome.PERMANENT else InstanceDeferred)(sentence)

    def _store(self, requirement: ContextRequirement, path: Path) -> Dataset:
        """Return the answer to a C-STORE.

        Raises
        ------
        PeerUnavailable
            When there is no association, or no answer in time.
        InstanceDeferred
            When the association ended instead.
        """
        association = self._associated(requirement)
        dataset = self._as_accepted(association, requirement, path)
        seconds = self.response_seconds + path.stat().st_size / _SLOWEST_BYTES_PER_SECOND
        association.dimse_timeout = seconds
        try:
            with self.translated("C-STORE", association):
                answer = association.send_c_store(dataset)
        except PeerUnavailable as error:
            raise InstanceDeferred(str(error)) from error
        finally:
            if not association.is_established:
                self._drop()
        if "Status" in answer:
            return answer
        self._drop()
        if association.dimse.timed_out:
            raise PeerUnavailable(f"{self.name}: no answer to C-STORE within {seconds:.0f} s")
        end = association.dimse.end or "the answer is not valid"
        raise InstanceDeferred(f"{self.name}: {end}, without an answer to C-STORE")

    def release(self) -> None:
        """Release the association, if there is one; the next file opens another."""
        association, self._association = self._association, None
        if association is not None:
            association.end(orderly=True)

    def _associated(self, requirement: ContextRequirement) -> RequestedAssociation:
        association = self._association
        if association is not None and association.is_established and requirement in self._proposed:
            return association
        self.release()
        self._expect(requirement)
        # Each transfer syntax has a context of its own: a peer accepts only one in each context.
        proposed = dict.fromkeys(self._expected)
        for expected in self._expected:
            for syntax in self._others(expected.transfer_syntax):
                proposed[ContextRequirement(expected.sop_class, syntax)] = None
        self._association = self.associate(
            [build_context(item.sop_class, item.transfer_syntax) for item in proposed]
        )
        self._proposed = frozenset(proposed)
        self._served = False
        return self._association

    def _as_accepted(
        self, association: RequestedAssociation, requirement: ContextRequirement, path: Path
    ) -> Path | Dataset:
        """Return the file, or its data set when the peer accepts it only in another encoding."""
        accepted = {
            ContextRequirement(UID(context.abstract_syntax or ""), context.transfer_syntax[0])
            for context in association.accepted_contexts
        }
        if requirement in accepted:
            return path if is_dicom(path) else _bare(path)
        for syntax in self._others(requirement.transfer_syntax):
            if ContextRequirement(requirement.sop_class, syntax) not in accepted:
                continue
            if requirement.transfer_syntax in _CONVERTIBLE:
                return dcmread(path)
            from dicom_node.results.encoding.compression import decompressed  # noqa: PLC0415 - rarely needed

            return decompressed(path)
        raise PeerRejected(
            f"{self.name}: does not accept {requirement.sop_class.name} in {requirement.transfer_syntax.name}"
        )

    def _others(self, syntax: UID) -> tuple[UID, ...]:
        """Return the further transfer syntaxes in which a file may be sent, the best first."""
        if syntax in _CONVERTIBLE:
            return (_CONVERTIBLE[syntax],)
        return UNCOMPRESSED if self.decompresses and syntax in ENCAPSULATED else ()

    def _drop(self) -> None:
        association, self._association = self._association, None
        if association is not None:
            association.end()
