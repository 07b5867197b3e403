"""Index made anew from the received files and the results.

What no file says is decided on the side of safety: a result that may have been confirmed is sent again,
which changes nothing at a destination that has it, because its UIDs and bytes are the same; a study without a
report is read again. Results of an analysis that was given up for a later image stay without a row.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from pydicom import dcmread

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.delivery.routing import RoutingAttributes, route, view_of
from dicom_node.errors import BadInstance, NotAnalysable, StorageFailed
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import read_header
from dicom_node.recovery.received_files import ReceivedFile, read_received
from dicom_node.recovery.result_files import Conclusion, ResultFile, conclusion_of, place_of, read_result
from dicom_node.results.report import Presence
from dicom_node.store import index_file
from dicom_node.store.analysis_leases import EncodedResult
from dicom_node.store.files import StoredFile
from dicom_node.store.index import TRIAL_HOST, Index
from dicom_node.store.received_instances import SetAsideReason
from dicom_node.store.recorded_results import REJECTION_NOTE
from dicom_node.store.restored_studies import (
    RestoredInstance,
    RestoredResult,
    RestoredStudies,
    RestoredStudy,
)
from dicom_node.store.states import StudyState

_BATCH: Final = 200

Progress = Callable[[str, int, int], None]
"""Called with what is read, the number of files that were read, and their number in all."""


@dataclass(slots=True)
class Rebuild:
    """Summary of an index that was made anew.

    Attributes
    ----------
    set_aside
        Files of the earlier index, where they lie now.
    studies, instances, results
        Numbers of what was entered.
    deliveries
        Number of deliveries that are sent again.
    read_again
        Number of studies that are analysed again.
    given_up
        Number of results of analyses that were given up: they stay without a row.
    damaged
        Files that are damaged but say to which study they belong: name and what is wrong.
    unreadable
        Files that do not say to which study they belong: name and reason.
    """

    set_aside: list[str] = field(default_factory=list)
    studies: int = 0
    instances: int = 0
    results: int = 0
    deliveries: int = 0
    read_again: int = 0
    given_up: int = 0
    damaged: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)


def set_aside_index(path: Path) -> list[str]:
    """Rename the files of a SQLite index, so that a new one can be made; return their new paths."""
    mark = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    moved = []
    for suffix in ("", "-wal", "-shm", "-journal", index_file.NOTE):
        source = Path(f"{path}{suffix}")
        if source.exists():
            target = Path(f"{path}.set-aside-{mark}{suffix}")
            source.rename(target)
            moved.append(str(target))
    return moved


class IndexRebuild:
    """Rebuild of an empty index.

    Parameters
    ----------
    settings
        Settings of the node: destinations, rules and AE title.
    index
        Index to fill.
    progress
        Called after each file.
    """

    def __init__(
        self, settings: Settings, index: Index, progress: Progress = lambda _part, _number, _all: None
    ) -> None:
        self._settings = settings
        self._data_dir = DataDir(settings)
        self._index = index
        self._studies = RestoredStudies(index.engine)
        self._progress = progress
        self._found = Rebuild()

    def run(self) -> Rebuild:
        """Read every file and enter what it says.

        Raises
        ------
        StorageFull, StorageFailed
            When the database did not commit.
        """
        received = self._received()
        results = self._results()
        own = {entry.sop_instance_uid for entries in results.values() for entry in entries}
        compared = self._compared(results)
        first = _first_digests(received, own, priors=compared - results.keys())
        batch: list[RestoredStudy] = []
        for uid in sorted({*received, *results}, key=lambda uid: _first_time(received.get(uid, ()))):
            is_prior = uid in compared and uid not in results
            batch.append(
                self._study(uid, received.get(uid, []), results.get(uid, []), own, first, is_prior=is_prior)
            )
            if len(batch) == _BATCH:
                self._enter(batch)
                batch = []
        self._enter(batch)
        return self._found

    def add_missing(self) -> Rebuild:
        """Enter the received files that a kept index does not know, as if they came now."""
        known, _ = self._studies.known_files()
        for uid, entries in sorted(self._received(known).items()):
            for entry in sorted(entries, key=lambda each: each.received_at):
                if entry.fetched:
                    continue
                self._index.add_instance(entry.instance)
                self._found.instances += 1
            self._found.studies += bool(uid)
        return self._found

    # -- reading -------------------------------------------------------------------------------------

    def _received(self, known: set[str] | None = None) -> dict[str, list[ReceivedFile]]:
        found: dict[str, list[ReceivedFile]] = defaultdict(list)
        spool = self._data_dir.spool
        names = [name for name in spool.names() if known is None or name not in known]
        for number, name in enumerate(names, 1):
            try:
                entry = read_received(spool, name, self._settings.dicom.ae_title)
            except BadInstance as error:
                self._found.unreadable.append((f"spool/{name}", str(error)))
            else:
                found[entry.instance.study_instance_uid].append(entry)
                if entry.damage:
                    self._found.damaged.append((f"spool/{name}", entry.damage))
            self._progress("received files", number, len(names))
        return found

    def _results(self) -> dict[str, list[ResultFile]]:
        found: dict[str, list[ResultFile]] = defaultdict(list)
        spool = self._data_dir.results
        names = list(spool.names())
        for number, name in enumerate(names, 1):
            try:
                entry = read_result(spool, name)
            except BadInstance as error:
                self._found.unreadable.append((f"results/{name}", str(error)))
            else:
                found[entry.study_instance_uid].append(entry)
                if entry.damage:
                    self._found.damaged.append((f"results/{name}", entry.damage))
            self._progress("results", number, len(names))
        return found

    def _compared(self, results: dict[str, list[ResultFile]]) -> set[str]:
        """Study Instance UIDs of the priors that reports compare with."""
        return {uid for entries in results.values() for entry in entries for uid in entry.compared_with}

    # -- one study -----------------------------------------------------------------------------------

    def _study(
        self,
        uid: str,
        files: Sequence[ReceivedFile],
        results: Sequence[ResultFile],
        own: set[str],
        first: Mapping[str, str],
        *,
        is_prior: bool,
    ) -> RestoredStudy:
        instances = _instances(files, own, first, is_prior=is_prior)
        placed = self._placed(results)
        analysed = [each for each in instances if not each.set_aside]
        latest = max((each.revision for each in placed), default=0)
        conclusions = self._conclusions(
            [each for each in placed if each.kind == "sr"],
            [each.received.sop_instance_uid for each in instances],
        )
        times = [each.received_at for each in instances] or [each.file.created for each in placed]
        state, revision, completed_at, reason = StudyState.RECEIVING, max(latest, 1), None, ""
        last_said = [(report.file, said) for report, said in conclusions if report.revision == latest]
        if last_said:
            report, said = next(
                (each for each in last_said if not each[1].refusal), last_said[0]
            )  # one model that answered is enough
            created, named = report.created, report.refers_to
            if any(
                each.received_at > created and each.received.sop_instance_uid not in named
                for each in analysed
            ):
                revision = latest + 1  # an image came after the last report
            else:
                state, completed_at, reason = _outcome(said), created, said.refusal
        elif placed:
            revision = latest + 1  # the UIDs of that revision are taken by what is left of it
        elif instances and all(each.set_aside == SetAsideReason.PRIOR for each in instances):
            state, revision = StudyState.PRIOR, 0
        if state is StudyState.RECEIVING:
            self._found.read_again += 1
        restored = self._restored(placed, self._destinations(analysed, [said for _, said in last_said]))
        return RestoredStudy(
            study_instance_uid=uid,
            state=state,
            revision=revision,
            reason=reason,
            first_received_at=min(times),
            last_received_at=max(times),
            completed_at=completed_at,
            instances=instances,
            results=restored,
            records=[(report.revision, report.file.written_at, said.record) for report, said in conclusions],
        )

    def _placed(self, results: Sequence[ResultFile]) -> list[_PlacedResult]:
        """Return the results that were recorded with their places, the oldest first."""
        models = [entry.model for entry in results]
        found: dict[tuple[int, str], list[_PlacedResult]] = defaultdict(list)
        notes = []
        for entry in sorted(results, key=lambda each: (each.created, each.written_at, each.name)):
            place = place_of(entry, models)
            if place is None:
                self._found.unreadable.append((f"results/{entry.name}", "its series is none of this node's"))
                continue
            placed = _PlacedResult(*place, entry)
            if placed.kind == REJECTION_NOTE:
                notes.append(placed)
            else:
                found[placed.revision, placed.model].append(placed)
        named = {uid for entry in results for uid in (*entry.replaces,)}
        named |= {uid for note in notes for uid in note.file.refers_to}
        last = max((revision for revision, _ in found), default=0)
        kept: list[_PlacedResult] = []
        for revision in sorted({revision for revision, _ in found}):
            groups = [entries for (number, _), entries in found.items() if number == revision]
            recorded = [g for g in groups if any(e.file.sop_instance_uid in named for e in g)]
            if not recorded and revision == last:
                # Results that were written before a worker gave up are older than those that were recorded.
                groups.sort(key=lambda g: max(e.file.written_at for e in g))
                recorded = groups[-len(self._settings.primary_models) :]
            kept += [each for group in recorded for each in group]
            self._found.given_up += sum(len(group) for group in groups if group not in recorded)
        return [*kept, *notes]

    def _conclusions(
        self, reports: Sequence[_PlacedResult], films: Sequence[str]
    ) -> list[tuple[_PlacedResult, Conclusion]]:
        """Return what the reports of findings say, those that answer before refusals of the same revision."""
        found = []
        for each in reports:
            try:
                with attributes.tolerance():
                    report = dcmread(self._data_dir.results.path(each.file.name))
                    found.append((each, conclusion_of(report, set(films))))
            except (OSError, *attributes.MALFORMED) as error:
                self._found.damaged.append(
                    (f"results/{each.file.name}", f"its content cannot be read: {error}")
                )
        return sorted(found, key=lambda each: (each[0].revision, bool(each[1].refusal)))

    def _destinations(
        self, instances: Sequence[RestoredInstance], said: Sequence[Conclusion]
    ) -> tuple[str, ...]:
        """Return the names of the destinations that the rules choose for a study."""
        if any(_is_trial(each) for each in instances):
            return ()
        headers = []
        if self._settings.rules:
            for each in instances:
                try:
                    headers.append(read_header(self._data_dir.spool.path(each.received.file)))
                except (NotAnalysable, StorageFailed):
                    continue
        findings = [finding for each in said for finding in each.record.findings]
        facts = RoutingAttributes(
            calling_ae=_once(each.received.calling_ae for each in instances),
            modality=_once(attributes.text(header, "Modality") for header in headers),
            body_part=_once(attributes.text(header, "BodyPartExamined") for header in headers),
            view=_once(view_of(header) for header in headers),
            finding=_once(each.key for each in findings if each.presence == Presence.PRESENT.value),
        )
        return route(facts, self._settings.rules, self._settings.destinations).destinations

    def _restored(self, placed: Sequence[_PlacedResult], destinations: Sequence[str]) -> list[RestoredResult]:
        withdrawn = {
            uid: each.file.created
            for each in placed
            if each.kind == REJECTION_NOTE
            for uid in each.file.refers_to
        }
        wanting = {each.name: each for each in self._settings.destinations}
        found = []
        for revision, kind, model, entry in placed:
            names = tuple(
                name for name in destinations if kind == REJECTION_NOTE or wanting[name].wants(kind)
            )
            at = withdrawn.get(entry.sop_instance_uid)
            self._found.deliveries += len(names) if at is None else 0
            file = StoredFile(entry.digest, entry.size, entry.name)
            result = EncodedResult(kind, entry.sop_instance_uid, entry.sop_class_uid, file, model=model)
            found.append(RestoredResult(result, revision, entry.written_at, names, at))
        return found

    def _enter(self, studies: Sequence[RestoredStudy]) -> None:
        self._studies.enter(studies)
        self._found.studies += len(studies)
        self._found.instances += sum(len(each.instances) for each in studies)
        self._found.results += sum(len(each.results) for each in studies)


class _PlacedResult(NamedTuple):
    """Result with the place that the UID of its series says."""

    revision: int
    kind: str
    model: str
    file: ResultFile


def _first_digests(
    received: Mapping[str, Sequence[ReceivedFile]], own: set[str], *, priors: Collection[str]
) -> dict[str, str]:
    """Return the digest that came first by SOP Instance UID, of all studies but the priors."""
    first: dict[str, str] = {}
    files = [entry for uid, entries in received.items() if uid not in priors for entry in entries]
    for entry in sorted(files, key=_arrival):
        if not (entry.fetched or entry.instance.own_result or entry.instance.sop_instance_uid in own):
            first.setdefault(entry.instance.sop_instance_uid, entry.instance.digest)
    return first


def _arrival(entry: ReceivedFile) -> tuple[float, str]:
    return entry.received_at, entry.instance.file


def _instances(
    files: Sequence[ReceivedFile], own: set[str], first: Mapping[str, str], *, is_prior: bool
) -> list[RestoredInstance]:
    """Return the instances of a study in order of arrival, with the reason where one is set aside."""
    found = []
    for entry in sorted(files, key=_arrival):
        uid, digest = entry.instance.sop_instance_uid, entry.instance.digest
        reason = ""
        if entry.instance.own_result or uid in own:
            reason = SetAsideReason.OWN_RESULT
        elif entry.fetched or is_prior:
            reason = SetAsideReason.PRIOR
        elif first.get(uid, digest) != digest:
            reason = SetAsideReason.CONFLICT
        found.append(RestoredInstance(entry.instance, entry.received_at, reason))
    return found


def _outcome(said: Conclusion) -> StudyState:
    if not said.refusal:
        return StudyState.REPORTED
    return StudyState.FAILED if said.failed else StudyState.SKIPPED


def _is_trial(entry: RestoredInstance) -> bool:
    return entry.received.peer_host == TRIAL_HOST


def _first_time(files: Sequence[ReceivedFile]) -> float:
    return min((entry.received_at for entry in files), default=0.0)


def _once(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(value for value in values if value))
