"""List of studies for ``status --studies``: state, reason, destinations, and what waits for what."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence

from dicom_node.cli.output import counted
from dicom_node.config.settings import Settings
from dicom_node.runtime.logs import uid_hash
from dicom_node.store.audit import StudyDeliveries, StudyRow
from dicom_node.store.received_instances import SetAsideReason
from dicom_node.store.states import ResultState, StudyState

SET_ASIDE = {
    SetAsideReason.CONFLICT: "the same SOP Instance UID as an earlier image, with other content",
    SetAsideReason.OWN_RESULT: "written by a dicom-node",
    SetAsideReason.PRIOR: "fetched for the comparison with another study",
}
"""Reasons why an instance was set aside, in words."""


def study_lines(row: StudyRow, settings: Settings) -> Iterator[str]:
    """Yield the lines of one study; the first names it, by its UID and as the log does."""
    confirmed = ", confirmed" if row.confirmed else ""
    yield (
        f"{row.study_instance_uid}  {row.state}{confirmed}  {counted(row.instances, 'image')}, "
        f"revision {row.revision}, in the log {uid_hash(row.study_instance_uid)}"
    )
    if row.reason:
        yield f"    reason: {row.reason}"
    for reason, count in row.set_aside.items():
        yield f"    {count} set aside: {SET_ASIDE[reason]}"
    for name, entry in row.deliveries.items():
        yield f"    {name}: {counts(entry.states)}"
    if row.results and not row.deliveries:
        yield f"    no destination: {row.results} results stay on this node"
    for sentence in waiting(row, settings):
        yield f"    waiting: {sentence}"


def study_as_json(row: StudyRow, settings: Settings) -> dict[str, object]:
    """Return one study for ``--json``."""
    return {
        "study_instance_uid": row.study_instance_uid,
        "log_name": uid_hash(row.study_instance_uid),
        "state": str(row.state),
        "confirmed": row.confirmed,
        "revision": row.revision,
        "reason": row.reason,
        "instances": row.instances,
        "set_aside": {str(reason): count for reason, count in row.set_aside.items()},
        "results": row.results,
        "destinations": {
            name: {
                "results": {str(state): count for state, count in entry.states.items()},
                "error": entry.error,
                "next_try_at": entry.next_try_at,
            }
            for name, entry in row.deliveries.items()
        },
        "waiting": list(waiting(row, settings)),
        "updated_at": row.updated_at,
    }


def waiting(row: StudyRow, settings: Settings) -> Iterator[str]:
    """Yield one sentence for each thing that a study waits for."""
    tries = f", attempt {row.attempts} of {settings.worker.max_attempts}" if row.attempts else ""
    match row.state:
        case StudyState.RECEIVING:
            quiet = settings.study.quiet_seconds
            yield f"for more images; it is complete {quiet:g} s after the last one (study.quiet_seconds)"
        case StudyState.COMPLETE if row.queued_at is not None:
            yield f"for a worker, queued {_seconds(time.time() - row.queued_at)} ago{tries}"
        case StudyState.COMPLETE:
            yield "to be queued, once the broker answers" + (
                " and its prior was looked for" if settings.priors.source else ""
            )
        case StudyState.ANALYSING:
            yield f"for its analysis by {row.owner or 'a worker'}{tries}"
    configured = {each.name for each in settings.destinations}
    for name, entry in row.deliveries.items():
        yield from _waiting_for(name, entry, configured=name in configured)


def counts(states: Mapping[ResultState, int]) -> str:
    """Return the number of deliveries by state, as text."""
    return ", ".join(f"{count} {state}" for state, count in sorted(states.items()))


def _waiting_for(name: str, entry: StudyDeliveries, *, configured: bool) -> Iterator[str]:
    unsent, unconfirmed = (entry.states.get(state, 0) for state in (ResultState.ENCODED, ResultState.SENT))
    why = f": {entry.error}" if entry.error else ""
    left = max(0.0, (entry.next_try_at or 0.0) - time.time())
    then = f"; next try in {_seconds(left)}" if left >= 1 else ""
    if (unsent or unconfirmed) and not configured:
        yield f"{unsent + unconfirmed} results for {name}, which is no destination of the settings any more"
        return
    if unsent:
        yield f"{unsent} results to be sent to {name}{why}{then}"
    if unconfirmed:
        yield f"{unconfirmed} results until {name} confirms that it keeps them{'' if unsent else why + then}"
    if rejected := entry.states.get(ResultState.REJECTED, 0):
        yield f"nothing: {name} rejected {rejected} results{why}; `dicom-node retry` sends them again"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


def set_aside_lines(reasons: Mapping[SetAsideReason, int]) -> Sequence[str]:
    """Return a line for each reason for which instances were set aside."""
    return [f"{count} set aside: {SET_ASIDE[reason]}" for reason, count in reasons.items()]
