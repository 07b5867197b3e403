"""Events of the node as audit messages (PS3.15 A.5.3): who takes part in each, and what it is about."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from dicom_node.audit_trail import codes
from dicom_node.audit_trail.codes import Action, Code, LifeCycle, ObjectRole, ObjectType, Outcome
from dicom_node.audit_trail.message import ActiveParticipant, AuditMessage, ParticipantObject
from dicom_node.audit_trail.subjects import StudySubject

_STUDY_ROOT_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"  # QIDO-RS asks what this class asks (PS3.18 10.6)


@dataclass(frozen=True, slots=True)
class Actor:
    """Person or peer who did something.

    Attributes
    ----------
    name
        Name of the account, or of the user of the operating system.
    address
        IP address or host name; empty when it is not known.
    ae_title
        AE title of a DICOM peer.
    """

    name: str
    address: str = ""
    ae_title: str = ""

    def participant(self, *, requestor: bool = True, role: Code | None = None) -> ActiveParticipant:
        """Return the actor as a participant of a message."""
        return ActiveParticipant(
            self.name or self.ae_title, requestor, role, ae_title=self.ae_title, address=self.address
        )


def operator() -> Actor:
    """Return the user of the operating system who runs this process."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        name = str(os.getuid())
    return Actor(name, socket.gethostname())


def _node(*, requestor: bool = False, role: Code | None = None) -> ActiveParticipant:
    """Return this process as a participant."""
    return ActiveParticipant(f"dicom-node:{os.getpid()}", requestor, role, address=socket.gethostname())


# -- application


def application_started(part: str) -> AuditMessage:
    """Return the event that a command of the node has begun to run."""
    return _application(part, codes.APPLICATION_START)


def application_stopped(part: str) -> AuditMessage:
    """Return the event that a command of the node has ended."""
    return _application(part, codes.APPLICATION_STOP)


def _application(part: str, kind: Code) -> AuditMessage:
    process = ActiveParticipant(
        f"dicom-node {part}:{os.getpid()}", role=codes.APPLICATION, address=socket.gethostname()
    )
    launcher = operator().participant(role=codes.APPLICATION_LAUNCHER)
    return AuditMessage(codes.APPLICATION_ACTIVITY, Action.EXECUTE, [process, launcher], types=[kind])


def settings_changed(actor: Actor, names: Sequence[str]) -> AuditMessage:
    """Return the event that settings differ from those of the start before; their values are not said."""
    return _alert(
        codes.SOFTWARE_CONFIGURATION,
        actor,
        f"settings changed: {', '.join(names)}",
        subject=("settings", codes.URI),
    )


def model_promoted(actor: Actor, roles: str) -> AuditMessage:
    """Return the event that models changed their roles: whose results are sent, and whose are not.

    Parameters
    ----------
    roles
        The new roles, such as ``ours primary, theirs shadow``.
    """
    return _alert(codes.SOFTWARE_CONFIGURATION, actor, f"models: {roles}", subject=("settings", codes.URI))


# -- films and results


def instances_transferred(
    sender: Actor, receiver: Actor, subject: StudySubject, action: Action, *, incoming: bool
) -> AuditMessage:
    """Return the event that instances of one study were sent from one application to another.

    Parameters
    ----------
    action
        CREATE when the receiver is this node and did not hold them; READ otherwise.
    incoming
        True when this node received them.
    """
    return AuditMessage(
        codes.INSTANCES_TRANSFERRED,
        action,
        [
            sender.participant(requestor=True, role=codes.SOURCE),
            receiver.participant(requestor=False, role=codes.DESTINATION),
            _node(),
        ],
        subject.objects(),
        description="received" if incoming else "sent",
    )


def instances_accessed(
    actor: Actor, subject: StudySubject, action: Action, what: str, life_cycle: LifeCycle | None = None
) -> AuditMessage:
    """Return the event that somebody viewed or changed what this node holds of a study."""
    return AuditMessage(
        codes.INSTANCES_ACCESSED,
        action,
        [actor.participant(), _node()],
        subject.objects(life_cycle),
        description=what,
    )


def study_deleted(actor: Actor | None, subject: StudySubject, reason: str) -> AuditMessage:
    """Return the event that instances of a study were erased for good.

    Parameters
    ----------
    actor
        Who asked for it; None when the node did by its rules.
    reason
        Rule or wish, as a sentence.
    """
    who = [actor.participant(), _node()] if actor else [_node(requestor=True)]
    return AuditMessage(
        codes.STUDY_DELETED,
        Action.DELETE,
        who,
        subject.objects(LifeCycle.PERMANENT_ERASURE),
        description=reason,
    )


def exported(actor: Actor, what: str, subject: StudySubject | None = None) -> AuditMessage:
    """Return the event that data left the node as a file for a person."""
    media = ActiveParticipant(
        actor.name, role=codes.DESTINATION_MEDIA, address=actor.address, media=codes.MEDIA_URI
    )
    objects = subject.objects() if subject else [_resource(what)]
    return AuditMessage(
        codes.EXPORT,
        Action.READ,
        [actor.participant(), _node(role=codes.SOURCE), media],
        objects,
        description=what,
    )


def imported(actor: Actor, what: str, subject: StudySubject | None = None) -> AuditMessage:
    """Return the event that a person brought data into the node as files."""
    media = ActiveParticipant(
        actor.name, role=codes.SOURCE_MEDIA, address=actor.address, media=codes.MEDIA_URI
    )
    return AuditMessage(
        codes.IMPORT,
        Action.CREATE,
        [actor.participant(), _node(role=codes.DESTINATION), media],
        subject.objects() if subject else [_resource(what)],
        description=what,
    )


def queried(actor: Actor, responder: Actor | None, query: str, what: str) -> AuditMessage:
    """Return the event of a query for studies.

    Parameters
    ----------
    responder
        Node that answers; None for this one.
    query
        Keys of the query; their values only where the trail may name patients.
    """
    answers = (
        _node(role=codes.DESTINATION)
        if responder is None
        else responder.participant(requestor=False, role=codes.DESTINATION)
    )
    asked = ParticipantObject(
        _STUDY_ROOT_FIND,
        codes.SOP_CLASS_UID,
        ObjectType.SYSTEM_OBJECT,
        ObjectRole.REPORT,
        query=query.encode("utf-8", "replace"),
    )
    return AuditMessage(
        codes.QUERY,
        Action.EXECUTE,
        [actor.participant(role=codes.SOURCE), answers],
        [asked],
        description=what,
    )


# -- users


def logged_in(actor: Actor) -> AuditMessage:
    """Return the event of a login."""
    return _authentication(actor, codes.LOGIN)


def logged_out(actor: Actor) -> AuditMessage:
    """Return the event of a logout."""
    return _authentication(actor, codes.LOGOUT)


def login_refused(actor: Actor) -> AuditMessage:
    """Return the event of a login with a wrong name or password."""
    return _authentication(actor, codes.LOGIN, Outcome.MINOR_FAILURE)


def _authentication(actor: Actor, kind: Code, outcome: Outcome = Outcome.SUCCESS) -> AuditMessage:
    return AuditMessage(
        codes.USER_AUTHENTICATION,
        Action.EXECUTE,
        [actor.participant(), _node()],
        types=[kind],
        outcome=outcome,
    )


def account_changed(actor: Actor, account: str, change: str) -> AuditMessage:
    """Return the event that an account was added, changed or removed, or got a token or lost it."""
    return _alert(
        codes.USER_SECURITY_ATTRIBUTES,
        actor,
        change,
        subject=(account, codes.USER_IDENTIFIER),
    )


# -- alerts


def access_refused(actor: Actor, what: str) -> AuditMessage:
    """Return the event that a reader asked for what they may not do."""
    return _alert(
        codes.RESTRICTED_FUNCTION,
        actor,
        "the request was refused",
        subject=(what, codes.URI),
        outcome=Outcome.MINOR_FAILURE,
    )


def association_refused(actor: Actor, reason: str) -> AuditMessage:
    """Return the event that a peer's association was refused."""
    return _alert(
        codes.NODE_AUTHENTICATION,
        actor,
        reason,
        subject=(actor.ae_title or actor.address, codes.NODE_ID),
        outcome=Outcome.MINOR_FAILURE,
    )


def recording_stopped(entries: int) -> AuditMessage:
    """Return the event that entries are missing because the trail could not be written."""
    return _alert(
        codes.AUDIT_RECORDING_STOPPED,
        Actor(f"dicom-node:{os.getpid()}", socket.gethostname()),
        f"{entries} entries were lost while the audit trail could not be written",
        subject=("audit trail", codes.URI),
        outcome=Outcome.SERIOUS_FAILURE,
    )


def audit_trail_used(actor: Actor, what: str) -> AuditMessage:
    """Return the event that somebody read the audit trail, or removed a part of it."""
    return AuditMessage(
        codes.AUDIT_LOG_USED,
        Action.READ,
        [actor.participant()],
        [_resource("Security Audit Log")],
        description=what,
    )


def _alert(
    kind: Code,
    actor: Actor,
    description: str,
    *,
    subject: tuple[str, Code],
    outcome: Outcome = Outcome.SUCCESS,
) -> AuditMessage:
    object_id, id_type = subject
    details: Mapping[str, str] = {"Alert Description": description}
    user = id_type is codes.USER_IDENTIFIER
    found = ParticipantObject(
        object_id,
        id_type,
        ObjectType.PERSON if user else ObjectType.SYSTEM_OBJECT,
        ObjectRole.SECURITY_USER_ENTITY if user else ObjectRole.SECURITY_RESOURCE,
        details=details,
    )
    return AuditMessage(
        codes.SECURITY_ALERT,
        Action.EXECUTE,
        [_node(requestor=True), actor.participant(requestor=False)],
        [found],
        types=[kind],
        outcome=outcome,
        description=description,
    )


def _resource(name: str) -> ParticipantObject:
    return ParticipantObject(name, codes.URI, ObjectType.SYSTEM_OBJECT, ObjectRole.SECURITY_RESOURCE)
