"""What every page of the reading room is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.store.analysis_records import Readings
from dicom_node.store.audit import Audit
from dicom_node.store.index import Index
from dicom_node.web.auth.access_log import Accesses
from dicom_node.web.auth.accounts import Accounts, Tries
from dicom_node.web.feedback import Feedback
from dicom_node.web.media.films import Films
from dicom_node.web.read_models.background_job import Repeated
from dicom_node.web.read_models.event_stream import Changes
from dicom_node.web.templating import Pages


@dataclass(frozen=True, slots=True, eq=False)
class Room:
    """One reading room.

    Attributes
    ----------
    key
        Secret of the node: tokens and pseudonyms are made with it.
    audits
        Of the whole index, in the background: no view may wait for one.
    """

    settings: Settings
    engine: Engine
    key: bytes
    data_dir: DataDir
    index: Index
    readings: Readings
    accounts: Accounts
    tries: Tries
    accesses: Accesses
    feedback: Feedback
    films: Films
    changes: Changes
    pages: Pages
    audits: Repeated[Audit]


def room_of(request: Request) -> Room:
    """Return the room that a request is made to."""
    room: Room = request.app.state.room
    return room


RoomOf = Annotated[Room, Depends(room_of)]
