"""Query/Retrieve SCU (PS3.4 annex C, Study Root): finds a patient's studies, moves series to the node."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Final, Self

from pydicom.dataset import Dataset
from pynetdicom.presentation import build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.config.destinations import DicomDestination
from dicom_node.config.sections import SenderSettings
from dicom_node.dimse.client.association import RequestedAssociation
from dicom_node.dimse.client.peer import Peer
from dicom_node.dimse.contexts import UNCOMPRESSED
from dicom_node.dimse.status import meaning_of
from dicom_node.errors import PeerRejected, PeerUnavailable
from dicom_node.store.prior_requests import move_message_id

SERVICES: Final = (StudyRootQueryRetrieveInformationModelFind, StudyRootQueryRetrieveInformationModelMove)
"""SOP classes that are proposed to the source of priors."""
STUDY_KEYS: Final = (
    "StudyInstanceUID",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "StudyDate",
    "StudyTime",
    "StudyDescription",
    "ModalitiesInStudy",
)
"""Keywords of the matching and return keys of a query for studies, by C-FIND and by QIDO-RS."""
SERIES_KEYS: Final = (
    "SeriesInstanceUID",
    "Modality",
    "BodyPartExamined",
    "ProtocolName",
    "SeriesDescription",
)
"""Keywords of the return keys of a query for the series of a study."""
_PENDING: Final = (0xFF00, 0xFF01)  # (PS3.4 tables C.4-1, C.4-2)
_SOME_FAILED: Final = 0xB000
_UNKNOWN_DESTINATION: Final = 0xA801


@dataclass(eq=False)
class QueryRetrieveSession(Peer):
    """Queries and moves at one archive over one association; to be used by one thread at a time.

    Attributes
    ----------
    deadline
        Moment of the monotonic clock, in seconds, after which a request is given up.
    """

    deadline: float = field(kw_only=True)
    _association: RequestedAssociation | None = field(default=None, init=False)

    @classmethod
    def of(
        cls, destination: DicomDestination, calling_ae: str, settings: SenderSettings, **more: Any
    ) -> Self:
        """Return a configured destination as a peer to be queried; raises as :meth:`Peer.of`."""
        return super().of(destination.asked, calling_ae, settings, **more)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        association, self._association = self._association, None
        if association is not None:
            association.end(orderly=True)

    def check(self) -> None:
        """Check that the peer offers both services.

        Raises
        ------
        PeerUnavailable, PeerRejected
            When the peer cannot be reached, or does not offer them.
        """
        self._associated()

    def studies(self, patient_id: str, first: str, last: str) -> list[Dataset]:
        """Return the studies of a patient between two days (C-FIND, level STUDY).

        Parameters
        ----------
        patient_id
            Patient ID, matched exactly.
        first, last
            First and last Study Date, YYYYMMDD.

        Raises
        ------
        PeerUnavailable, PeerRejected
            When the peer gives no complete answer in time.
        """
        identifier = _identifier("STUDY", STUDY_KEYS)
        identifier.PatientID = patient_id
        identifier.StudyDate = f"{first}-{last}"
        return self._find(identifier)

    def series(self, study_instance_uid: str) -> list[Dataset]:
        """Return the series of a study (C-FIND, level SERIES); raises as :meth:`studies` does."""
        identifier = _identifier("SERIES", SERIES_KEYS)
        identifier.StudyInstanceUID = study_instance_uid
        return self._find(identifier)

    def fetch(self, study_instance_uid: str, series_instance_uids: Sequence[str]) -> Iterator[IO[bytes]]:
        """Move series to the node (C-MOVE, level SERIES).

        Returns
        -------
        Iterator of files
            Empty: the instances arrive at the node's SCP by C-STORE.

        Raises
        ------
        PeerUnavailable, PeerRejected
            When the peer does not send them in time; some may have arrived.
        """
        identifier = Dataset()
        identifier.QueryRetrieveLevel = "SERIES"
        identifier.StudyInstanceUID = study_instance_uid
        identifier.SeriesInstanceUID = list(series_instance_uids)
        association = self._associated()
        move = StudyRootQueryRetrieveInformationModelMove
        answers = association.send_c_move(
            identifier, self.calling_ae, move, msg_id=move_message_id(study_instance_uid)
        )
        self._answered("C-MOVE", association, answers)
        return iter(())

    def _find(self, identifier: Dataset) -> list[Dataset]:
        association = self._associated()
        find = StudyRootQueryRetrieveInformationModelFind
        return self._answered("C-FIND", association, association.send_c_find(identifier, find))

    def _associated(self) -> RequestedAssociation:
        if self._association is None or not self._association.is_established:
            self._association = self.associate(
                [build_context(service, list(UNCOMPRESSED)) for service in SERVICES]
            )
        accepted = {context.abstract_syntax for context in self._association.accepted_contexts}
        if missing := [service.name for service in SERVICES if service not in accepted]:
            raise PeerRejected(f"{self.name}: does not accept {', '.join(missing)}")
        self._association.dimse_timeout = max(0.1, self.deadline - time.monotonic())
        return self._association

    def _answered(
        self,
        operation: str,
        association: RequestedAssociation,
        answers: Iterator[tuple[Dataset, Dataset | None]],
    ) -> list[Dataset]:
        """Return the identifiers of the pending responses; raise unless the final one reports completion."""
        found = []
        code: int | None = None
        with self.translated(operation, association):
            for status, identifier in self.bounded(operation, association, answers):
                code = status.get("Status")
                if time.monotonic() > self.deadline:
                    association.end()
                    raise PeerUnavailable(f"{self.name}: {operation} was not answered in time")
                if code in _PENDING and identifier is not None:
                    found.append(identifier)
        if code is None:
            association.end()
            why = association.dimse.end or "not answered in time"
            raise PeerUnavailable(f"{self.name}: {operation}: {why}")
        if code == _UNKNOWN_DESTINATION:
            raise PeerRejected(
                f"{self.name}: C-MOVE answered {code:04X}: the archive does not know the address of "
                f"{self.calling_ae}; add host and port of the node to its settings"
            )
        if code not in (0, _SOME_FAILED):
            raise PeerUnavailable(f"{self.name}: {operation} answered {code:04X}: {meaning_of(code).text}")
        return found


def _identifier(level: str, keys: Sequence[str]) -> Dataset:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword in keys:
        setattr(identifier, keyword, "")
    return identifier
