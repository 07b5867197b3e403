"""States of a study and of a delivery, and the transitions between them: pure tables, no database.

::

    RECEIVING ──quiet or forced──> COMPLETE ──lease──> ANALYSING ──> REPORTED | SKIPPED | FAILED
        ^                             |  ^                |                      |
        |                             |  └─lease expired──┤                      |
        ├───────── late image, revision + 1 ──────────────┴──────────────────────┤
        |                                ^                                       |
      PRIOR                              └──────── retry, revision + 1 ──────────┘

    ENCODED ──the destination took it──> SENT ──and confirms that it keeps it──> CONFIRMED
      ^  |                                | |
      |  └───will never take it─────┐     | └──will never confirm it──┐
      |                             v     |                           v
      ├──────────retry────────── REJECTED <───────────────────────────┘
      └──────────has lost it──────────────┘

A result that was withdrawn is never sent again: where one of these transitions would lead to ENCODED or
REJECTED, it leads to WITHDRAWN. If it was being sent at that moment and arrived, it becomes SENT.

A study in the state PRIOR was fetched for comparison and sent by nobody: it is not analysed by itself.

::

    KEPT ──a rule of retention──> PURGING ──its file is gone──> PURGED
      ^                              |                             |
      └────── the same film again ───┴─────────────────────────────┘

These are the states of a file: of a received film, of a result, of the heat maps of an analysis. The row
stays when its file goes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class StudyState(enum.StrEnum):
    """State of a study in the index."""

    RECEIVING = "RECEIVING"
    COMPLETE = "COMPLETE"
    ANALYSING = "ANALYSING"
    REPORTED = "REPORTED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    PRIOR = "PRIOR"


class ResultState(enum.StrEnum):
    """State of the delivery of one result to one destination.

    A study has no state "confirmed": it follows from the states of its deliveries
    (:data:`dicom_node.store.audit.STUDY_IS_CONFIRMED`).
    """

    ENCODED = "ENCODED"
    SENT = "SENT"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"


class FileState(enum.StrEnum):
    """State of the file of a received instance, of a result, or of the heat maps of an analysis."""

    KEPT = "KEPT"
    PURGING = "PURGING"  # a rule has decided that it goes; it may still be there
    PURGED = "PURGED"


class Confirmation(enum.StrEnum):
    """Way in which a destination confirms that it keeps a result."""

    COMMITMENT = "commitment"  # storage commitment (PS3.4 annex J)
    QUERY = "query"  # a query finds the result: C-FIND or QIDO-RS
    RESPONSE = "response"  # by setting, the answer to the C-STORE or STOW-RS request is enough


class DeliveryEvent(enum.Enum):
    """Event that changes the state of a delivery."""

    TAKEN = "taken"  # the destination answered Success
    POSTPONED = "postponed"  # not sent this time; to be tried again
    REJECTED = "rejected"  # the destination will never take it
    CONFIRMED = "confirmed"  # the destination keeps it
    UNCONFIRMED = "unconfirmed"  # the destination did not say whether it keeps it; to be asked again
    CONFIRMATION_REFUSED = "confirmation refused"  # the destination will never say that it keeps it
    LOST = "lost"  # the destination took it, but does not have it; to be sent again
    RETRIED = "retried"  # a person asks for another try
    WITHDRAWN = "withdrawn"  # the node takes the result back


_S = StudyState
STUDY_TRANSITIONS: Mapping[StudyState, frozenset[StudyState]] = MappingProxyType(
    {
        _S.RECEIVING: frozenset({_S.RECEIVING, _S.COMPLETE}),
        _S.COMPLETE: frozenset({_S.RECEIVING, _S.ANALYSING}),
        _S.ANALYSING: frozenset({_S.RECEIVING, _S.COMPLETE, _S.REPORTED, _S.SKIPPED, _S.FAILED}),
        _S.REPORTED: frozenset({_S.RECEIVING, _S.COMPLETE}),
        _S.SKIPPED: frozenset({_S.RECEIVING, _S.COMPLETE}),
        _S.FAILED: frozenset({_S.RECEIVING, _S.COMPLETE}),
        _S.PRIOR: frozenset({_S.RECEIVING, _S.PRIOR}),
    }
)
"""States that each state of a study may be followed by."""

_F = FileState
FILE_TRANSITIONS: Mapping[FileState, frozenset[FileState]] = MappingProxyType(
    {
        _F.KEPT: frozenset({_F.PURGING}),
        _F.PURGING: frozenset({_F.PURGED, _F.KEPT}),
        _F.PURGED: frozenset({_F.KEPT}),
    }
)
"""States that each state of a file may be followed by."""

_R = ResultState
_E = DeliveryEvent
DELIVERY_TRANSITIONS: Mapping[DeliveryEvent, Mapping[ResultState, ResultState]] = MappingProxyType(
    {
        # A result that was withdrawn while it was being sent has arrived all the same.
        _E.TAKEN: {_R.ENCODED: _R.SENT, _R.WITHDRAWN: _R.SENT},
        _E.POSTPONED: {_R.ENCODED: _R.ENCODED},
        _E.REJECTED: {_R.ENCODED: _R.REJECTED},
        _E.CONFIRMED: {_R.SENT: _R.CONFIRMED},
        _E.UNCONFIRMED: {_R.SENT: _R.SENT},
        _E.CONFIRMATION_REFUSED: {_R.SENT: _R.REJECTED},
        _E.LOST: {_R.SENT: _R.ENCODED},
        _E.RETRIED: {_R.ENCODED: _R.ENCODED, _R.REJECTED: _R.ENCODED},
        _E.WITHDRAWN: {_R.ENCODED: _R.WITHDRAWN, _R.REJECTED: _R.WITHDRAWN},
    }
)
"""Next state of a delivery for each event and state; an event does nothing in a state that is not named."""

OUTCOMES = frozenset({StudyState.REPORTED, StudyState.SKIPPED, StudyState.FAILED})
"""States in which the analysis of a study has ended."""

OPEN = frozenset({StudyState.RECEIVING, StudyState.COMPLETE, StudyState.ANALYSING})
"""States in which a study still has its analysis before it."""

DELIVERED = frozenset({ResultState.SENT, ResultState.CONFIRMED})
"""States in which a destination holds the result."""


def study_sources(target: StudyState) -> tuple[StudyState, ...]:
    """Return the states from which `target` may be reached; a compare-and-set compares with these."""
    return tuple(state for state, targets in STUDY_TRANSITIONS.items() if target in targets)


def next_delivery_state(event: DeliveryEvent, state: ResultState, *, withdrawn: bool) -> ResultState:
    """Return the state of a delivery after an event.

    Parameters
    ----------
    withdrawn
        Whether the result was withdrawn.

    Raises
    ------
    ValueError
        When the event cannot happen in this state.
    """
    target = DELIVERY_TRANSITIONS[event].get(state)
    if target is None:
        raise ValueError(f"no transition: a delivery that is {state} cannot be {event.value}")
    return _R.WITHDRAWN if withdrawn and target in (_R.ENCODED, _R.REJECTED) else target
