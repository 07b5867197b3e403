"""What an admin does to the results of a study: take them back, make them anew and compare.

Both do what the commands of the same names do. The page holds no model: ``replay`` runs as a command of its
own, one at a time, with the page's settings.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter, Depends, HTTPException
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.config.settings import Settings
from dicom_node.delivery.withdrawal import Withdrawal, withdraw
from dicom_node.errors import NodeError
from dicom_node.results import codes
from dicom_node.web.api.schemas import INTENDED_USE, PREFIX, StudyNumber, answers, study_or_404
from dicom_node.web.dependencies import Room, RoomOf
from dicom_node.web.request_auth import Admin, Visitor, reader, unforged

router = APIRouter(dependencies=[Depends(reader), Depends(unforged)])

REASON_LENGTH: Final = 400
REPLAY_SECONDS: Final = 300.0

_replaying = threading.Lock()


class RetractIn(BaseModel):
    """Why all results of a study are taken back."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=REASON_LENGTH, pattern=r"\S", description="one sentence")
    quality: bool = Field(
        False, description="rejected for quality, which a PACS may still show, not for safety"
    )


@dataclass(frozen=True, slots=True)
class Retracted:
    """What was taken back: results, deliveries that stopped, and destinations that get the rejection note."""

    results: int
    stopped: int
    told: Sequence[str]


@dataclass(frozen=True, slots=True)
class ReplayedResult:
    """One result, then and now; `difference` is one sentence, and empty when every byte is the same."""

    kind: str
    sop_instance_uid: str
    difference: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """The stored results of a study, made anew with the recorded bundle."""

    intended_use: str
    results: Sequence[ReplayedResult]


@router.post(f"{PREFIX}/studies/{{study_id}}/retract", responses=answers(404, 413, 415, 422))
def retract(room: RoomOf, who: Admin, study_id: StudyNumber, said: RetractIn) -> Retracted:
    """Withdraw all results of a study, as ``dicom-node retract``; 422 when there are none."""
    done = withdraw_study(room, who, study_id, said)
    return Retracted(done.results, done.stopped, done.told)


@router.post(f"{PREFIX}/studies/{{study_id}}/replay", responses=answers(404, 422))
def replay(room: RoomOf, who: Admin, study_id: StudyNumber) -> Replayed:
    """Make the stored results of a study anew and compare them, as ``dicom-node replay``; takes seconds."""
    return Replayed(INTENDED_USE, replay_study(room, who, study_id))


def withdraw_study(room: Room, who: Visitor, study_id: int, said: RetractIn) -> Withdrawal:
    """Withdraw all results of a study for an admin; 422 when there are none."""
    view = study_or_404(room, study_id)
    room.accesses.record(who.name, who.address, "retract", study_id, repeats=True)
    title = codes.REJECTED_FOR_QUALITY if said.quality else codes.REJECTED_FOR_SAFETY
    try:
        return withdraw(
            room.settings, room.index, view.study_instance_uid, title=title, reason=said.reason.strip()
        )
    except NodeError as error:
        raise HTTPException(422, _shown(view.study_instance_uid, str(error))) from None


def replay_study(room: Room, who: Visitor, study_id: int) -> list[ReplayedResult]:
    """Replay a study for an admin; 422 while another study is replayed, or when it cannot be."""
    view = study_or_404(room, study_id)
    room.accesses.record(who.name, who.address, "replay", study_id, repeats=True)
    if not _replaying.acquire(blocking=False):
        raise HTTPException(422, "Another study is being replayed; try again in a minute.")
    try:
        return _compared(room.settings, view.study_instance_uid)
    finally:
        _replaying.release()


def _compared(settings: Settings, study_instance_uid: str) -> list[ReplayedResult]:
    argv = [sys.executable, "-m", "dicom_node", "replay", study_instance_uid, "--json"]
    environment = {**os.environ, **settings.variables()}
    try:
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=REPLAY_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise HTTPException(422, f"The study was not read within {REPLAY_SECONDS:.0f} seconds.") from None
    try:
        return [ReplayedResult(**entry) for entry in json.loads(done.stdout)["results"]]
    except (ValueError, KeyError, TypeError):
        said = done.stderr.strip().splitlines()
        raise HTTPException(
            422, _shown(study_instance_uid, said[-1] if said else "the replay said nothing")
        ) from None


def _shown(study_instance_uid: str, sentence: str) -> str:
    """For a reader, who sees which study it is: without its UID."""
    text = sentence.replace(f"study {study_instance_uid}", "this study").replace(
        study_instance_uid, "this study"
    )
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
