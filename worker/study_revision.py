"""Revision of a study that is analysed: its identity, its time, and what came before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dicom_node.results.sr.document import Predecessor
from worker.prior_study import PriorStudy


@dataclass(frozen=True, slots=True)
class StudyRevision:
    """One revision of a study: the set of its instances at one time.

    Attributes
    ----------
    study_instance_uid
        Study Instance UID.
    revision
        Number of the revision, from 1.
    created
        Time that the results carry; timezone-aware.
    predecessors
        Reports of earlier revisions that are still in force, by kind and name of the model, oldest first.
    prior
        Prior study to compare with; None when no prior was looked for.
    calling_aes
        AE titles that sent its images; empty for films that no peer sent.
    gate_overridden
        True when films that the gate refuses are read too, because an admin asked for it.
    """

    study_instance_uid: str
    revision: int
    created: datetime
    predecessors: Mapping[tuple[str, str], Predecessor] = field(default_factory=dict)
    prior: PriorStudy | None = None
    calling_aes: tuple[str, ...] = ()
    gate_overridden: bool = False

    def replaced_by(self, model: str, others: frozenset[str] = frozenset()) -> dict[str, Predecessor]:
        """Return the reports that those of a model replace, by kind.

        They are its own; where it has none, the last one of a model that reads this revision no more.

        Parameters
        ----------
        model
            Name of the model; empty for the report of a refusal.
        others
            Names of the models whose reports this one leaves alone.
        """
        found: dict[str, Predecessor] = {}
        for (kind, name), each in self.predecessors.items():
            if name not in others:
                found[kind] = each
        own = {kind: each for (kind, name), each in self.predecessors.items() if name == model}
        return {**found, **own}
