"""What every page of the reading room is made from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from dicom_node.data_dir import DataDir
from dicom_node.reading_room.accesses import Accesses
from dicom_node.reading_room.accounts import Accounts, Tries
from dicom_node.reading_room.changes import Changes
from dicom_node.reading_room.feedback import Feedback
from dicom_node.reading_room.films import Films
from dicom_node.reading_room.pages import Pages
from dicom_node.reading_room.repeated import Repeated
from dicom_node.settings import Settings
from dicom_node.store.audit import Audit
from dicom_node.store.index import Index
from dicom_node.store.readings import Readings


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
