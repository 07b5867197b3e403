"""What the page shows: one consistent answer of the index, put together for a reader.

Nothing here tells who a patient is. A study goes by the first eight digits of the SHA-256 of its Study
Instance UID, as in the log.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from dicom_node import logs
from dicom_node.settings import AnyDestination
from dicom_node.store.audit import Audit, Overview, StudyRow
from dicom_node.store.outbox import Backlog, Outbox
from dicom_node.store.study import DELIVERED, ResultState, StudyState

PAGE_LENGTH = 50
"""Studies on one page."""


@dataclass(frozen=True, slots=True)
class DestinationLine:
    """One destination, configured now or in the past.

    Attributes
    ----------
    address
        ``AE@host:port`` or URL; empty when it is not configured any more.
    states
        Deliveries by state.
    oldest
        Seconds since the epoch at which the longest waiting result was made; None when none waits.
    error
        Of the last failed try that is still open.
    """

    name: str
    address: str
    states: Mapping[ResultState, int]
    oldest: float | None
    error: str

    @property
    def waiting(self) -> int:
        """Results that it is still to get."""
        return self.states.get(ResultState.ENCODED, 0)

    @property
    def rejected(self) -> int:
        """Results that it will never take."""
        return self.states.get(ResultState.REJECTED, 0)

    @property
    def delivered(self) -> int:
        """Results that it holds."""
        return sum(count for state, count in self.states.items() if state in DELIVERED)


@dataclass(frozen=True, slots=True)
class Worklist:
    """One page of studies, and what concerns them all.

    Attributes
    ----------
    studies
        All studies by state.
    results
        All deliveries by state.
    rows
        Of this page, last changed first.
    state
        Only studies in this state are shown; all when None.
    page, pages
        Both count from 1; a page beyond the last is the last.
    """

    studies: Mapping[StudyState, int]
    results: Mapping[ResultState, int]
    destinations: Sequence[DestinationLine]
    rows: Sequence[StudyRow]
    state: StudyState | None
    page: int
    pages: int

    @property
    def total(self) -> int:
        """All studies, whatever is shown of them."""
        return sum(self.studies.values())


def read_worklist(
    engine: Engine, configured: Sequence[AnyDestination], *, state: StudyState | None = None, page: int = 1
) -> Worklist:
    """Ask the index for one page.

    Raises
    ------
    StorageFailed
        When the database does not answer.
    """
    overview = Overview(engine)
    studies = overview.study_counts()
    shown = sum(studies.values()) if state is None else studies[state]
    pages = max(1, math.ceil(shown / PAGE_LENGTH))
    page = min(page, pages)
    return Worklist(
        studies=studies,
        results=overview.result_counts(),
        destinations=_destinations(configured, Outbox(engine).backlogs()),
        rows=overview.studies(offset=(page - 1) * PAGE_LENGTH, limit=PAGE_LENGTH, state=state),
        state=state,
        page=page,
        pages=pages,
    )


def as_json(worklist: Worklist, audit: Audit | None) -> dict[str, object]:
    """Return the counts as ``dicom-node status --json`` gives them, and the studies of the page."""
    return {
        "intended_use": "research use only",
        "studies": dict(worklist.studies),
        "results": dict(worklist.results),
        "destinations": [
            {
                "name": line.name,
                "results": dict(line.states),
                "oldest_waiting": line.oldest,
                "error": line.error,
            }
            for line in worklist.destinations
        ],
        "audit": None if audit is None else {**dataclasses.asdict(audit), "conserved": audit.conserved},
        "page": worklist.page,
        "pages": worklist.pages,
        "worklist": [
            {
                "study": logs.short(row.study_instance_uid),
                "state": row.state,
                "reason": row.reason,
                "revision": row.revision,
                "instances": row.instances,
                "results": row.results,
                "deliveries": dict(row.deliveries),
                "last_received_at": row.last_received_at,
            }
            for row in worklist.rows
        ],
    }


def _destinations(configured: Sequence[AnyDestination], backlogs: Sequence[Backlog]) -> list[DestinationLine]:
    """Join what is configured with what the index knows, configured ones first."""
    addresses = {each.name: each.address for each in configured}
    known = {each.destination: each for each in backlogs}
    lines = []
    for name in [*addresses, *(name for name in known if name not in addresses)]:
        backlog = known.get(name) or Backlog(destination=name, states={}, oldest=None, error="")
        lines.append(
            DestinationLine(name, addresses.get(name, ""), backlog.states, backlog.oldest, backlog.error)
        )
    return lines
