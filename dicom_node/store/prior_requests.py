"""Requests for priors, by which their films are told from films that a peer sends for analysis.

A film of a requested study is the prior's when it says so, or when nobody else can have sent it
(docs/decisions/0021-which-films-are-priors.md).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Connection, Row, bindparam, delete, select, update

from dicom_node.store import database
from dicom_node.store.tables import prior_request

if TYPE_CHECKING:
    from dicom_node.store.received_instances import ReceivedInstance

ARRIVAL_SECONDS: Final = 3600.0
"""Time after a request in which a film that names it is still the prior's."""
_MESSAGE_IDS = 0x7FFF  # sources count on from it, not all of them with 16 bits


def move_message_id(study_instance_uid: str) -> int:
    """Return the Message ID of the C-MOVE request for a study, 1 to 32767.

    The source repeats it as Move Originator Message ID (0000,1031) (PS3.7 9.1.1.1). It follows from the
    study, so that an SCP recognises it. Other applications mostly count from 1.
    """
    return zlib.crc32(study_instance_uid.encode()) % _MESSAGE_IDS + 1


_REQUESTS: Final = select(prior_request).where(
    prior_request.c.study_instance_uid.in_(bindparam("uids", expanding=True))
)


def find_requests(
    connection: Connection, study_instance_uids: Sequence[str]
) -> dict[str, Row[*tuple[Any, ...]]]:
    """Return the requests for some studies, by Study Instance UID."""
    rows = connection.execute(_REQUESTS, {"uids": study_instance_uids})
    return {row.study_instance_uid: row for row in rows}


def is_prior(asked: Row[*tuple[Any, ...]] | None, received: ReceivedInstance, now: float) -> bool:
    """Return whether an instance comes because the node requested its study as a prior.

    Parameters
    ----------
    asked
        Request for its study, from :func:`find_requests`; None when there was none.
    """
    if asked is None or asked.asked_at < now - ARRIVAL_SECONDS:
        return False
    originator, sender, source = (
        title.casefold() for title in (received.moved_for, received.calling_ae, asked.source_ae)
    )
    if originator == asked.move_destination.casefold():
        return True
    if received.move_message_id == move_message_id(received.study_instance_uid):
        return True
    # A source that names nobody, or itself, is believed while it answers the request; later it forwards.
    return bool(source) and originator in {"", sender, source} and (sender == source or received.from_source)


class PriorRequests(database.Repository):
    """Requests for priors."""

    def record(self, study_instance_uid: str, *, source_ae: str, move_destination: str) -> None:
        """Record that a study is requested as a prior, before the request is sent.

        From then on its images are received as a prior's.

        Parameters
        ----------
        source_ae
            AE title of the source; empty when it sends nothing by C-STORE.
        move_destination
            AE title of the node, to which the source sends them.
        """
        with database.writing(self._engine) as connection:
            connection.execute(
                delete(prior_request).where(prior_request.c.study_instance_uid == study_instance_uid)
            )
            connection.execute(
                prior_request.insert().values(
                    study_instance_uid=study_instance_uid,
                    source_ae=source_ae,
                    move_destination=move_destination,
                    asked_at=self._clock(),
                )
            )

    def close(self, study_instance_uid: str) -> None:
        """Record that the request has ended; from then on only films that name it are the prior's."""
        with database.writing(self._engine) as connection:
            connection.execute(
                update(prior_request)
                .where(prior_request.c.study_instance_uid == study_instance_uid)
                .values(source_ae="")
            )
