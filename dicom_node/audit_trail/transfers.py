"""Transfers of instances, gathered: one message for each study of an association, not one for each film.

A message is written when the association ends; for one that stays open, a minute after the first film of the
study that was not yet in a message. So a receiver that is killed leaves out a minute at most.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from dicom_node.audit_trail import events
from dicom_node.audit_trail.codes import Action
from dicom_node.audit_trail.events import Actor
from dicom_node.audit_trail.trail import AuditTrail

LONGEST_SECONDS: Final = 60.0
"""Time after which the films of an open association are written."""
MOST_STUDIES: Final = 256
"""Most studies of an open association that are gathered; with one more, all of them are written."""


@dataclass(slots=True)
class _Gathered:
    path: Path
    since: float
    sop_classes: Counter[str] = field(default_factory=Counter)


class Transfers:
    """Transfers between this node and its peers, which several threads note.

    Parameters
    ----------
    trail
        Audit trail.
    ae_title
        AE title of this node.
    incoming
        True when the node receives; False when it sends.
    clock
        Function that returns a time in seconds that never goes back; tests pass another one.
    """

    def __init__(
        self,
        trail: AuditTrail,
        ae_title: str,
        *,
        incoming: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trail = trail
        self._own = Actor("", ae_title=ae_title)
        self._incoming = incoming
        self._clock = clock
        self._lock = threading.Lock()
        self._gathered: dict[Hashable, dict[tuple[str, Action, Actor], _Gathered]] = {}

    def note(
        self,
        association: Hashable,
        peer: Actor,
        *,
        study_instance_uid: str,
        sop_class_uid: str,
        path: Path,
        known: bool = False,
    ) -> None:
        """Note an instance that was transferred.

        Parameters
        ----------
        association
            Key of the association or session.
        peer
            Application at the other end.
        path
            File of the instance, from whose header the patient is read when the message is written.
        known
            True when the receiver held the instance already, or when that is not known.
        """
        action = Action.READ if known or not self._incoming else Action.CREATE
        key = (study_instance_uid, action, peer)
        with self._lock:
            groups = self._gathered.setdefault(association, {})
            if (group := groups.get(key)) is None:
                group = groups[key] = _Gathered(path, self._clock())
            group.sop_classes[sop_class_uid] += 1
            full = len(groups) > MOST_STUDIES
            if not full and self._clock() - group.since < LONGEST_SECONDS:
                return
        self.finish(association)

    def finish(self, association: Hashable) -> None:
        """Write what was noted of an association that has ended."""
        with self._lock:
            groups = self._gathered.pop(association, {})
        for key, group in groups.items():
            self._write(key, group)

    def _write(self, key: tuple[str, Action, Actor], group: _Gathered) -> None:
        study_instance_uid, action, peer = key
        sender, receiver = (peer, self._own) if self._incoming else (self._own, peer)
        self._trail.record_soon(
            lambda: events.instances_transferred(
                sender,
                receiver,
                self._trail.subjects.of_file(group.path, study_instance_uid, group.sop_classes),
                action,
                incoming=self._incoming,
            )
        )
