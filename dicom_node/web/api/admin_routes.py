"""REST API of administration: withdraw the results of a study, reproduce and compare them, pin the study.

They do the same as ``dicom-node retract``, ``replay``, ``pin`` and ``unpin``. The web process holds no model,
so it starts ``replay`` as a command, one at a time, with its own settings.
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
from dicom_node.store.pins import Pins
from dicom_node.web.api.parameters import StudyNumber, study_or_404
from dicom_node.web.api.schemas import INTENDED_USE, PREFIX, error_responses
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.request_auth import Admin, CurrentUser, check_csrf, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

REASON_LENGTH: Final = 400
REPLAY_SECONDS: Final = 300.0

_replay_lock = threading.Lock()


class RetractIn(BaseModel):
    """Reason for the withdrawal of all results of a study."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field(min_length=1, max_length=REASON_LENGTH, pattern=r"\S", description="one sentence")
    quality: bool = Field(
        False, description="rejected for quality, which a PACS may still show, instead of patient safety"
    )


@dataclass(frozen=True, slots=True)
class Retracted:
    """Outcome of a withdrawal: results, stopped deliveries, destinations that get the rejection note."""

    results: int
    stopped: int
    told: Sequence[str]


@dataclass(frozen=True, slots=True)
class ReplayedResult:
    """Comparison of one reproduced result; `difference` is a sentence, empty when all bytes are equal."""

    kind: str
    sop_instance_uid: str
    difference: str


@dataclass(frozen=True, slots=True)
class Replayed:
    """Stored results of a study, reproduced with the recorded model bundle."""

    intended_use: str
    results: Sequence[ReplayedResult]


@router.post("/studies/{study_id}/retract", responses=error_responses(404, 413, 415, 422))
def retract(context: Context, user: Admin, study_id: StudyNumber, said: RetractIn) -> Retracted:
    """Withdraw all results of a study, as ``dicom-node retract`` does; 422 when there are none."""
    done = withdraw_study(context, user, study_id, said)
    return Retracted(done.results, done.stopped, done.told)


@router.post("/studies/{study_id}/replay", responses=error_responses(404, 422))
def replay(context: Context, user: Admin, study_id: StudyNumber) -> Replayed:
    """Reproduce the stored results of a study and compare, as ``dicom-node replay`` does; takes seconds."""
    return Replayed(INTENDED_USE, replay_study(context, user, study_id))


@dataclass(frozen=True, slots=True)
class Pinned:
    """Whether the study is pinned: nothing of it is purged."""

    pinned: bool


@router.post("/studies/{study_id}/pin", responses=error_responses(404))
def pin(context: Context, user: Admin, study_id: StudyNumber) -> Pinned:
    """Pin a study, as ``dicom-node pin`` does: nothing of it is purged until it is unpinned."""
    return pin_study(context, user, study_id, pinned=True)


@router.post("/studies/{study_id}/unpin", responses=error_responses(404))
def unpin(context: Context, user: Admin, study_id: StudyNumber) -> Pinned:
    """Let the rules of retention have a pinned study again, as ``dicom-node unpin`` does."""
    return pin_study(context, user, study_id, pinned=False)


def pin_study(context: WebContext, user: CurrentUser, study_id: int, *, pinned: bool) -> Pinned:
    """Pin or unpin a study for an admin.

    Raises
    ------
    HTTPException
        404 when there is no such study.
    """
    view = study_or_404(context, study_id)
    pins = Pins(context.engine)
    (pins.pin if pinned else pins.unpin)([view.study_instance_uid])
    context.access_log.record(user.name, user.address, "pin" if pinned else "unpin", study_id, always=True)
    return Pinned(pinned)


def withdraw_study(context: WebContext, user: CurrentUser, study_id: int, said: RetractIn) -> Withdrawal:
    """Withdraw all results of a study for an admin.

    Raises
    ------
    HTTPException
        404 when there is no such study, 422 when it has no results.
    """
    view = study_or_404(context, study_id)
    context.access_log.record(user.name, user.address, "retract", study_id, always=True)
    title = codes.REJECTED_FOR_QUALITY if said.quality else codes.REJECTED_FOR_SAFETY
    try:
        return withdraw(
            context.settings, context.index, view.study_instance_uid, title=title, reason=said.reason.strip()
        )
    except NodeError as error:
        raise HTTPException(422, _without_uid(view.study_instance_uid, str(error))) from None


def replay_study(context: WebContext, user: CurrentUser, study_id: int) -> list[ReplayedResult]:
    """Reproduce the results of a study for an admin.

    Raises
    ------
    HTTPException
        404 when there is no such study; 422 while another study is being reproduced, or when it fails.
    """
    view = study_or_404(context, study_id)
    context.access_log.record(user.name, user.address, "replay", study_id, always=True)
    if not _replay_lock.acquire(blocking=False):
        raise HTTPException(422, "Another study is being reproduced; try again in a minute.")
    try:
        return _run_replay(context.settings, view.study_instance_uid)
    finally:
        _replay_lock.release()


def _run_replay(settings: Settings, study_instance_uid: str) -> list[ReplayedResult]:
    argv = [sys.executable, "-m", "dicom_node", "replay", study_instance_uid, "--json"]
    environment = {**os.environ, **settings.variables()}
    try:
        done = subprocess.run(
            argv, env=environment, capture_output=True, text=True, timeout=REPLAY_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise HTTPException(422, f"The analysis took longer than {REPLAY_SECONDS:.0f} seconds.") from None
    try:
        return [ReplayedResult(**entry) for entry in json.loads(done.stdout)["results"]]
    except (ValueError, KeyError, TypeError):
        lines = done.stderr.strip().splitlines()
        reason = lines[-1] if lines else "the command replay gave no output"
        raise HTTPException(422, _without_uid(study_instance_uid, reason)) from None


def _without_uid(study_instance_uid: str, sentence: str) -> str:
    """Replace the UID of the study by "this study", because the page shows which study it is."""
    text = sentence.replace(f"study {study_instance_uid}", "this study").replace(
        study_instance_uid, "this study"
    )
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."
