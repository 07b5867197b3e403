"""Context of the web application: settings, repositories and services that the routes use."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import Engine

from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.store.audit import Audit
from dicom_node.store.index import Index
from dicom_node.store.reserve import Reserve
from dicom_node.web.auth.access_log import AccessLog
from dicom_node.web.auth.accounts import Accounts, LoginThrottle
from dicom_node.web.background.event_stream import EventStream
from dicom_node.web.background.periodic_task import PeriodicTask
from dicom_node.web.feedback import Feedback
from dicom_node.web.media.films import FilmDecoder
from dicom_node.web.notes import Notes
from dicom_node.web.read_models.score_drift import ScoreDrift
from dicom_node.web.saved_filters import SavedFilters
from dicom_node.web.templating import PageRenderer


@dataclass(frozen=True, slots=True, eq=False)
class WebContext:
    """Everything that one web application works with.

    Attributes
    ----------
    key
        Secret of the node, 32 bytes; CSRF tokens, login states and pseudonyms are derived from it.
    uploads
        Turns of uploads that are being read.
    audit_task, drift_task
        Audit of the whole index, and test of all scores for drift, repeated in the background because they
        are slow.
    """

    settings: Settings
    engine: Engine
    key: bytes
    data_dir: DataDir
    index: Index
    reserve: Reserve
    accounts: Accounts
    login_throttle: LoginThrottle
    access_log: AccessLog
    audit_trail: AuditTrail
    feedback: Feedback
    notes: Notes
    saved_filters: SavedFilters
    film_decoder: FilmDecoder
    event_stream: EventStream
    page_renderer: PageRenderer
    uploads: asyncio.Semaphore
    audit_task: PeriodicTask[Audit]
    drift_task: PeriodicTask[ScoreDrift]


def get_context(request: Request) -> WebContext:
    """Return the context of the application that a request was sent to."""
    context: WebContext = request.app.state.context
    return context


Context = Annotated[WebContext, Depends(get_context)]
