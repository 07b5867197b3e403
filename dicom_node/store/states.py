"""States of a study and of a delivery, and the transitions between them: a pure table.

::

    RECEIVING ──quiet or forced──> COMPLETE ──claim──> ANALYSING ──> REPORTED | SKIPPED | FAILED
        ^                             |  ^                |                      |
        |                             |  └─lease lapsed───┤                      |
        ├───────── late image, revision + 1 ──────────────┴──────────────────────┤
        |                                ^                                       |
      PRIOR                              └──────── retry, revision + 1 ──────────┘

    ENCODED ──the destination took it──> SENT ──and says that it keeps it──> CONFIRMED
      ^  |                                | |
      |  └──────will never take it──┐     | └──will not keep it──┐
      |                             v     |                      v
      ├──────────retry────────── REJECTED <──────────────────────┘
      └──────────it has lost it───────────┘

A result that is withdrawn before it was delivered, or lost after it, becomes WITHDRAWN; if it was on its way
just then, SENT.

A study is PRIOR that was fetched to be compared with and that nobody sent: it is not analysed by itself.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType


class StudyState(enum.StrEnum):
    """Where a study stands."""

    RECEIVING = "RECEIVING"
    COMPLETE = "COMPLETE"
    ANALYSING = "ANALYSING"
    REPORTED = "REPORTED"
    SKIPPED = "SKIPPED"
    FAILED = "FAILED"
    PRIOR = "PRIOR"


class ResultState(enum.StrEnum):
    """Where one result stands on its way to one destination.

    That a study is confirmed is a question to these states, never a state of its own.
    """

    ENCODED = "ENCODED"
    SENT = "SENT"
    CONFIRMED = "CONFIRMED"
    REJECTED = "REJECTED"
    WITHDRAWN = "WITHDRAWN"


class Confirmation(enum.StrEnum):
    """How a destination said that it keeps a result."""

    COMMITMENT = "commitment"  # storage commitment (PS3.4 annex J)
    QUERY = "query"  # it found the result when asked: C-FIND or QIDO-RS
    RESPONSE = "response"  # by setting, the answer to the result itself counts


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

_R = ResultState
RESULT_TRANSITIONS: Mapping[ResultState, frozenset[ResultState]] = MappingProxyType(
    {
        _R.ENCODED: frozenset({_R.ENCODED, _R.SENT, _R.REJECTED, _R.WITHDRAWN}),
        _R.SENT: frozenset({_R.SENT, _R.CONFIRMED, _R.ENCODED, _R.REJECTED, _R.WITHDRAWN}),
        _R.CONFIRMED: frozenset(),
        _R.REJECTED: frozenset({_R.ENCODED, _R.WITHDRAWN}),
        _R.WITHDRAWN: frozenset({_R.SENT}),
    }
)

OUTCOMES = frozenset({StudyState.REPORTED, StudyState.SKIPPED, StudyState.FAILED})
"""States in which the node has said what it has to say."""

DELIVERED = frozenset({ResultState.SENT, ResultState.CONFIRMED})
"""States in which a destination holds the result."""


def sources(target: StudyState) -> tuple[StudyState, ...]:
    """Return the states from which `target` may be reached: what a compare-and-set must compare with."""
    return tuple(state for state, targets in STUDY_TRANSITIONS.items() if target in targets)


def result_sources(target: ResultState) -> tuple[ResultState, ...]:
    """Return the delivery states from which `target` may be reached."""
    return tuple(state for state, targets in RESULT_TRANSITIONS.items() if target in targets)
