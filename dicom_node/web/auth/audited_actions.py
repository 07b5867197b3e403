"""Actions of readers as messages of the audit trail."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeAlias

from dicom_node.audit_trail import events
from dicom_node.audit_trail.codes import Action, LifeCycle
from dicom_node.audit_trail.events import Actor
from dicom_node.audit_trail.message import AuditMessage
from dicom_node.audit_trail.subjects import StudySubject

_Event: TypeAlias = Callable[[Actor, str, StudySubject | None, str], AuditMessage]


def _access(
    kind: Action,
    actor: Actor,
    action: str,
    subject: StudySubject | None,
    _query: str,
    life_cycle: LifeCycle | None = None,
) -> AuditMessage:
    return events.instances_accessed(actor, subject or StudySubject("unknown"), kind, action, life_cycle)


def _query(actor: Actor, action: str, _subject: StudySubject | None, query: str) -> AuditMessage:
    return events.queried(actor, None, query, action)


def _export(actor: Actor, action: str, subject: StudySubject | None, _query: str) -> AuditMessage:
    return events.exported(actor, action, subject)


def _import(actor: Actor, action: str, subject: StudySubject | None, _query: str) -> AuditMessage:
    return events.imported(actor, action, subject or StudySubject("unknown"))


def _account(actor: Actor, action: str, _subject: StudySubject | None, _query: str) -> AuditMessage:
    return events.account_changed(actor, actor.name, action)


_view: _Event = partial(_access, Action.READ)
_change: _Event = partial(_access, Action.UPDATE)

ACTIONS: Final[Mapping[str, _Event]] = {
    "worklist": _query,
    "cohort": _query,
    "dicomweb search": _query,
    "search of own studies": _query,
    "study": _view,
    "film": _view,
    "similar case": _view,
    "dicomweb": _view,
    "replay": _view,
    "retry": _change,
    "read anyway": _change,
    "pin": _change,
    "unpin": _change,
    "feedback": _change,
    "note": _change,
    "tag": _change,
    "retract": partial(_access, Action.DELETE, life_cycle=LifeCycle.LOGICAL_DELETION),
    "feedback export": _export,
    "cohort export": _export,
    "reader study made": _query,
    "reader study closed": _query,
    "reader study case": _view,
    "reader study answer": _change,
    "reader study box": _change,
    "reader study export": _export,
    "upload": _import,
    "try": _import,
    "login": lambda actor, *_: events.logged_in(actor),
    "token made": _account,
    "token revoked": _account,
    "logout": lambda actor, *_: events.logged_out(actor),
    "login refused": lambda actor, *_: events.login_refused(actor),
}
"""Event of each action; a view of a study for an action that is not listed, or else a query."""


def message_of(actor: Actor, action: str, subject: StudySubject | None, query: str) -> AuditMessage:
    """Return the message about an action.

    Parameters
    ----------
    subject
        Study and patient; None for an action that is about no single study.
    query
        Keys of a query, without their values.
    """
    event = ACTIONS.get(action, _query if subject is None else _view)
    return event(actor, action, subject, query)
