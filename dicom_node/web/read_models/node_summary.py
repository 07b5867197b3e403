"""Node summary: studies and results by state, and the backlog of each destination."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from dicom_node.config.destinations import AnyDestination
from dicom_node.store.audit import IndexQueries
from dicom_node.store.delivery_queue import DeliveryQueue, DestinationBacklog
from dicom_node.store.states import DELIVERED, ResultState, StudyState


@dataclass(frozen=True, slots=True)
class DestinationSummary:
    """Deliveries to one destination, configured now or in the past.

    Attributes
    ----------
    address
        ``AE@host:port`` or URL; empty when the destination is no longer configured.
    states
        Deliveries by state.
    oldest
        Time when the longest waiting result was made, in seconds since the epoch; None when none waits.
    error
        Error of the last failed attempt among the deliveries that still wait.
    """

    name: str
    address: str
    states: Mapping[ResultState, int]
    oldest: float | None
    error: str

    @property
    def waiting(self) -> int:
        """Number of results still to be delivered."""
        return self.states.get(ResultState.ENCODED, 0)

    @property
    def rejected(self) -> int:
        """Number of results that the destination refused for good."""
        return self.states.get(ResultState.REJECTED, 0)

    @property
    def delivered(self) -> int:
        """Number of results that the destination has."""
        return sum(count for state, count in self.states.items() if state in DELIVERED)


@dataclass(frozen=True, slots=True)
class NodeSummary:
    """Totals over all studies.

    Attributes
    ----------
    studies
        Studies by state.
    results
        Deliveries by state.
    """

    studies: Mapping[StudyState, int]
    results: Mapping[ResultState, int]
    destinations: Sequence[DestinationSummary]


def read_node_summary(engine: Engine, configured: Sequence[AnyDestination]) -> NodeSummary:
    """Query the totals; slow with many studies, so the worklist does not show them."""
    queries = IndexQueries(engine)
    return NodeSummary(
        studies=queries.study_counts(),
        results=queries.result_counts(),
        destinations=_destinations(configured, DeliveryQueue(engine).backlogs()),
    )


def _destinations(
    configured: Sequence[AnyDestination], backlogs: Sequence[DestinationBacklog]
) -> list[DestinationSummary]:
    """Join the configured destinations with those in the index, configured ones first."""
    addresses = {each.name: each.address for each in configured}
    known = {each.destination: each for each in backlogs}
    summaries = []
    for name in [*addresses, *(name for name in known if name not in addresses)]:
        backlog = known.get(name) or DestinationBacklog(destination=name, states={}, oldest=None, error="")
        summaries.append(
            DestinationSummary(name, addresses.get(name, ""), backlog.states, backlog.oldest, backlog.error)
        )
    return summaries
