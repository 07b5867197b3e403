"""Storage SCU: sends files as they are."""

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
from dicom_node.dimse.status import Meaning, Outcome, meaning_of
from dicom_node.errors import BadInstance, PeerRejected, PeerUnavailable
from dicom_node.imaging import attributes

# A file is sent in pieces as it lies on disk, instead of being decoded and encoded again.
_config.STORE_SEND_CHUNKED_DATASET = True

_MAX_CONTEXTS = 128  # odd context ids of one byte (PS3.8 9.3.2.2)
# How slow a connection may be before a large file counts as stuck.
_SLOWEST_BYTES_PER_SECOND = 64 * 1024
# The one conversion that changes no value, for peers that take only the default (PS3.5 10.1).
_CONVERTIBLE = {
    ExplicitVRLittleEndian: ImplicitVRLittleEndian,
    ImplicitVRLittleEndian: ExplicitVRLittleEndian,
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What has to be negotiated for a file.

    Attributes
    ----------
    sop_class, transfer_syntax
        Of its file meta information.
    """

    sop_class: UID
    transfer_syntax: UID

    @classmethod
    def of(cls, path: Path) -> Kind:
        """Read the kind of a Part 10 file, or of a data set that was stored bare.

        Raises
        ------
        BadInstance
            When it is neither.
        OSError
            When it cannot be read.
        """
        try:
            meta, _ = split_dataset(path)
            return cls(UID(meta.MediaStorageSOPClassUID), UID(meta.TransferSyntaxUID))
        except (InvalidDicomError, AttributeError, EOFError, ValueError):
            return cls.of_bare(_bare(path))

    @classmethod
    def of_bare(cls, ds: Dataset) -> Kind:
        """Return the kind of a data set from :func:`_bare`."""
        return cls(UID(ds.SOPClassUID), UID(ds.file_meta.TransferSyntaxUID))


def _bare(path: Path) -> Dataset:
    """Read a data set without file meta information, as old archives hold; its encoding is guessed."""
    try:
        with attributes.tolerance():  # of what is odd in it: the peer is the judge of that
            ds = dcmread(path, force=True)
    except (AttributeError, EOFError, NotImplementedError, RecursionError, ValueError, struct.error):
        ds = FileDataset(str(path), {})
    if not (ds.get("SOPClassUID") and ds.get("SOPInstanceUID")):
        raise BadInstance(f"{path}: no DICOM file (PS3.10 7.1)")
    implicit, little_endian = ds.original_encoding
    explicit = ExplicitVRLittleEndian if little_endian else ExplicitVRBigEndian
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else explicit
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    return ds


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer said to a stored instance.

    Attributes
    ----------
    status
        (0000,0900); its outcome is one of those that are delivered.
    meaning
        Of the status.
    """

    status: int
    meaning: Meaning


@dataclass(eq=False)
class StoreSession(Peer):
    """Sends files to a peer over one association that stays open between them.

    It proposes only the contexts that the files at hand need. Not for several threads at once.
    """

    _expected: dict[Kind, None] = field(default_factory=dict, init=False)
    _proposed: frozenset[Kind] = field(default=frozenset(), init=False)
    _association: Association | None = field(default=None, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def expect(
        self, sop_class_uids: Iterable[str], transfer_syntax_uid: str = ExplicitVRLittleEndian
    ) -> None:
        """Name what will be sent next, so that one association serves it all.

        Parameters
        ----------
        sop_class_uids
            Of the files to come.
        transfer_syntax_uid
            That they are encoded in.
        """
        kinds = [Kind(UID(sop_class), UID(transfer_syntax_uid)) for sop_class in sop_class_uids]
        self._expected = dict.fromkeys([*kinds, *self._expected][: _MAX_CONTEXTS // 2])

    def send(self, path: Path) -> Answer:
        """Store a Part 10 file at the peer.

        Returns
        -------
        Answer
            Success or a warning: the peer has it.

        Raises
        ------
        PeerUnavailable
            When the peer is away or has no room: the same file may be sent later.
        PeerRejected
            When it will not take this file.
        BadInstance
            When the file is no DICOM file.
        OSError
            When it cannot be read.
        """
        kind = Kind.of(path)
        association = self._associated(kind)
        association.dimse_timeout = self.response_seconds + path.stat().st_size / _SLOWEST_BYTES_PER_SECOND
        try:
            answer = association.send_c_store(self._as_accepted(association, kind, path))
        except RuntimeError:  # the peer ended the association a moment ago
            answer = Dataset()
        status = answer.get("Status")
        if status is None:
            self._drop()
            raise PeerUnavailable(f"{self.name}: the association ended without an answer to C-STORE")
        meaning = meaning_of(status)
        if meaning.outcome.delivered:
            return Answer(status, meaning)
        comment = f" ({answer.ErrorComment})" if answer.get("ErrorComment") else ""
        sentence = f"{self.name}: C-STORE answered {status:04X}: {meaning.text}{comment}"
        if meaning.outcome is Outcome.PERMANENT:
            raise PeerRejected(sentence)
        raise PeerUnavailable(sentence)

    def release(self) -> None:
        """End the association, if there is one; the next file opens another."""
        if self._association is not None:
            self._association.release()
        self._drop()

    def _associated(self, kind: Kind) -> Association:
        association = self._association
        if association is not None and association.is_established and kind in self._proposed:
            return association
        self.release()
        self.expect([kind.sop_class], kind.transfer_syntax)
        # Each in a context of its own: a peer chooses one transfer syntax for each.
        proposed = dict.fromkeys(self._expected)
        for expected in self._expected:
            if expected.transfer_syntax in _CONVERTIBLE:
                proposed[Kind(expected.sop_class, _CONVERTIBLE[expected.transfer_syntax])] = None
        self._association = self.associate(
            [build_context(item.sop_class, item.transfer_syntax) for item in proposed]
        )
        self._proposed = frozenset(proposed)
        return self._association

    def _as_accepted(self, association: Association, kind: Kind, path: Path) -> Path | Dataset:
        """Return what to send: the file, or its data set when the peer takes only the other encoding."""
        accepted = {
            Kind(UID(context.abstract_syntax or ""), context.transfer_syntax[0])
            for context in association.accepted_contexts
        }
        if kind in accepted:
            return path if is_dicom(path) else _bare(path)
        if Kind(kind.sop_class, _CONVERTIBLE.get(kind.transfer_syntax, UID(""))) in accepted:
            return dcmread(path)
        raise PeerRejected(
            f"{self.name}: does not accept {kind.sop_class.name} in {kind.transfer_syntax.name}"
        )

    def _drop(self) -> None:
        if self._association is not None and self._association.is_established:
            self._association.abort()
        self._association = None
