"""Pipeline of one study, from the lease to the recorded outcome; independent of Celery."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.delivery.routing import RoutingAttributes, route
from dicom_node.errors import EncodingFailed, NodeError, NotAnalysable, StorageFailed, StorageFull
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import read_header
from dicom_node.priors.matching import LATE_REASON
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.report import Refusal
from dicom_node.results.sr.document import Predecessor
from dicom_node.runtime import logs
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store import database
from dicom_node.store.analysis_leases import AnalysisLease, AnalysisLeases, EncodedResult
from dicom_node.store.analysis_records import AnalysisRecord, AnalysisRecords
from dicom_node.store.files import Spool, storage_error
from dicom_node.store.index import TRIAL_HOST, Index
from dicom_node.store.prior_pairs import PriorPairing, PriorPairs
from dicom_node.store.purge_trace import sentence
from dicom_node.store.recorded_results import RecordedResult, RecordedResults
from dicom_node.store.states import StudyState
from dicom_node.store.study_embeddings import StudyEmbeddings
from models.errors import ModelError, ModelUnavailable
from worker.analysis_record import copy_model_card, make_analysis_record, write_remote_card
from worker.prior_study import PriorStudy
from worker.study_reader import StudyAnalysis, StudyReader
from worker.study_revision import StudyRevision

_LOG = logging.getLogger(__name__)
_REPLACED = ("sr", "similar")
"""Kinds of reports, which name those of earlier revisions that they replace."""
_END_SECONDS = 30.0
"""Time in which a worker whose study took too long should have ended, in seconds."""


class Pipeline:
    """Pipeline that claims studies, analyses them and records the outcome.

    Parameters
    ----------
    settings
        Settings of the node.
    index
        Database in which studies are claimed and outcomes recorded.
    reader
        Reader of the films, with the models loaded.
    """

    def __init__(self, settings: Settings, index: Index, reader: StudyReader) -> None:
        self._settings = settings
        self._index = index
        self._leases = AnalysisLeases(index.engine)
        self._recorded = RecordedResults(index.engine)
        self._priors = PriorPairs(index.engine)
        self._readings = AnalysisRecords(index.engine)
        self._reader = reader
        self._runs_on = reader.runs_on
        self._data_dir = DataDir(settings)
        self._states: list[dict[str, object]] = []
        self._owner = LeaseOwner.this_process()
        self._end_at: float | None = None  # time.monotonic() by which the study must be done

    @classmethod
    def open(cls, settings: Settings) -> Pipeline:
        """Return a pipeline over the configured data directory, database and bundle."""
        return cls(settings, Index.open(settings.database, create=False), StudyReader.open(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._index.close()

    def warm_up(self) -> None:
        """Prepare the first analysis, and publish the model card and the hardware to the reading room.

        Raises
        ------
        StorageFull, StorageFailed
            When the data directory or the database cannot be written.
        """
        self._reader.warm_up()
        try:
            for bundle in self._reader.models.bundles:
                copy_model_card(bundle, self._data_dir.cards)
            for model in self._reader.models.remote:
                write_remote_card(model, self._data_dir.cards)
            self._say_runs_on()
            self._say_states()
        except OSError as error:
            raise storage_error(error, self._data_dir.root) from error
        if not self._settings.retrieval.own_studies and (
            count := StudyEmbeddings(self._index.engine).clear()
        ):
            _LOG.info("retrieval.own_studies is off: deleted the embeddings of %d studies", count)

    def _say_runs_on(self) -> None:
        self._runs_on = self._reader.runs_on
        self._data_dir.runs_on.write_text(json.dumps(self._runs_on), encoding="utf-8")

    def _say_states(self) -> None:
        """Write the states of the models for the reading room, if they changed."""
        now = [asdict(each) for each in self._reader.models.states]
        if now != self._states:
            self._states = now
            self._data_dir.model_states.write_text(json.dumps(now), encoding="utf-8")

    def stop(self) -> None:
        """End the decoder process."""
        self._reader.close()

    def uid_of(self, study_id: int) -> str | None:
        """Return the Study Instance UID of the study that a message names; None when there is no such study.

        Raises
        ------
        StorageFull, StorageFailed
            When the database does not answer.
        """
        return self._index.study_uid(study_id)

    def analyse(self, study_instance_uid: str, revision: int) -> StudyState | None:
        """Analyse one revision of one study and record the outcome.

        After an error of the node, such as a full disk, the study is put back. Any other error counts as a
        try, and so does the end of this process; after ``worker.max_attempts`` tries the study is recorded as
        failed. An analysis that takes longer than ``worker.study_seconds`` ends this process.

        Returns
        -------
        StudyState or None
            Outcome; None when the study could not be leased or was put back, or the lease was lost during the
            analysis.

        Raises
        ------
        StorageFull, StorageFailed
            When the database does not answer.
        """
        worker = self._settings.worker
        lease = self._leases.acquire(study_instance_uid, revision, self._owner, worker.lease_seconds)
        if lease is None:
            return None
        with logs.study(study_instance_uid), self._watched(lease):
            try:
                return self._analyse(lease)
            # Broad on purpose: whatever fails in one study, the others go on.
            except Exception as error:  # noqa: BLE001
                counts = not _is_of_the_node(error)
                if isinstance(error, NodeError):
                    _LOG.error("put back: %s", error)
                else:
                    _LOG.exception("try %d of %d failed", lease.attempts, worker.max_attempts)
                self._leases.release(lease, _sentence(error), counts=counts)
        return None

    def _analyse(self, lease: AnalysisLease) -> StudyState | None:
        if lease.purged:
            text = f"{sentence('film', lease.purged)}; send the whole study again to have it analysed"
            paths = [self._data_dir.spool.path(entry.file) for entry in lease.instances]
            return self._fail(lease, paths, Refusal("films_purged", text))
        if not lease.instances:
            text = (
                "the study holds only instances that were set aside: results of a node, conflicting copies, "
                "or films that were fetched to be compared with"
            )
            return self._finish(lease, StudyState.SKIPPED, text, [])
        paths = [self._data_dir.spool.path(entry.file) for entry in lease.instances]
        if lease.attempts > self._settings.worker.max_attempts:
            last = f", the last time with: {lease.last_error}" if lease.last_error else ""
            text = f"the analysis failed or ended its worker {lease.attempts - 1} times{last}; see the log"
            if lease.attempts > self._settings.worker.max_attempts + 1:  # so did the report of the failure
                return self._end(lease, text)
            return self._fail(lease, paths, Refusal("set_aside", text))
        present = [path for path in paths if path.exists()]
        if lost := [path.name for path in paths if path not in present]:
            text = f"the spool lost {len(lost)} files of the study, such as {lost[0]}"
            return self._fail(lease, present, Refusal("files_lost", text))
        try:
            study = self._revision(lease, self._prior(lease))
            try:
                with _unreadable_files():
                    analysis = self._reader.read(study, paths)
            finally:
                with contextlib.suppress(OSError):
                    self._say_states()
            if self._reader.runs_on != self._runs_on:  # the processor reads in place of a device that failed
                with contextlib.suppress(OSError):
                    self._say_runs_on()
            results = self._store_results(analysis)
        except ModelUnavailable as error:
            raise _ModelAway(str(error)) from error
        except ModelError as error:
            return self._fail(lease, paths, Refusal("model_failed", str(error)))
        except EncodingFailed as error:
            return self._fail(lease, paths, Refusal("result_failed", str(error)))
        return self._finish(lease, analysis.state, analysis.reason, results, analysis)

    def _fail(self, lease: AnalysisLease, paths: Sequence[Path], refusal: Refusal) -> StudyState | None:
        """Record the study as failed, with a report of the reason if one can be written."""
        _LOG.error("failed: %s", refusal.text)
        try:
            with _unreadable_files():
                analysis = self._reader.refuse(self._revision(lease), paths, refusal)
            results = self._store_results(analysis)
            return self._finish(lease, StudyState.FAILED, refusal.text, results, analysis)
        # Broad on purpose: what kept the study from being read may keep its report from being written.
        except Exception as error:
            if _is_of_the_node(error):
                raise
            _LOG.error("no report of the failure: %s", _sentence(error))
        return self._end(lease, refusal.text)

    def _end(self, lease: AnalysisLease, reason: str) -> StudyState | None:
        """Record the study as failed, without a report."""
        if not self._leases.finish(lease, StudyState.FAILED, reason, [], []):
            return None
        _LOG.error("revision %d: %s without a report: %s", lease.revision, StudyState.FAILED, reason)
        return StudyState.FAILED

    def _revision(self, lease: AnalysisLease, prior: PriorStudy | None = None) -> StudyRevision:
        tried = any(entry.peer_host == TRIAL_HOST for entry in lease.instances)
        return StudyRevision(
            lease.study_instance_uid,
            lease.revision,
            lease.created,
            self._predecessors(lease),
            prior,
            () if tried else tuple(dict.fromkeys(entry.calling_ae for entry in lease.instances)),
            lease.gate_overridden,
        )

    def _predecessors(self, lease: AnalysisLease) -> dict[tuple[str, str], Predecessor]:
        """Return the reports of earlier revisions that this one replaces, by kind and model."""
        found = self._recorded.before_revision(lease.study_id, lease.revision)
        return predecessors(found, self._data_dir.results)

    def _prior(self, lease: AnalysisLease) -> PriorStudy | None:
        """Return the prior study to compare with, and fix the choice for this revision."""
        pairing = self._priors.get(lease.study_id, lease.revision)
        if pairing is None and self._settings.prior_source is not None:
            late = PriorPairing(reason=LATE_REASON.format(self._settings.priors.wait_seconds))
            pairing = self._priors.pair(lease.study_id, lease.revision, late)
        kept = () if pairing is None else tuple(self._readings.all_latest_of(pairing.prior_uid))
        return prior_study(pairing, self._data_dir.spool, kept)

    def _store_results(self, analysis: StudyAnalysis) -> list[EncodedResult]:
        return [
            EncodedResult(
                kind=kind,
                sop_instance_uid=str(ds.SOPInstanceUID),
                sop_class_uid=str(ds.SOPClassUID),
                file=self._data_dir.results.keep(encoded(ds)),
                withheld=frozenset(
                    destination.name
                    for destination in self._settings.destinations
                    if not destination.wants(kind)
                ),
                model=each.model,
            )
            for each in analysis.analyses
            for kind, ds in each.objects
        ]

    def _finish(
        self,
        lease: AnalysisLease,
        state: StudyState,
        reason: str,
        results: Sequence[EncodedResult],
        analysis: StudyAnalysis | None = None,
    ) -> StudyState | None:
        reports = () if analysis is None else analysis.reports
        facts = RoutingAttributes.of(reports, [entry.calling_ae for entry in lease.instances])
        routing = route(facts, self._settings.rules, self._settings.destinations)
        for remark in routing.remarks:
            _LOG.warning("%s", remark)
        tried = any(entry.peer_host == TRIAL_HOST for entry in lease.instances)
        names = () if tried else routing.destinations
        records = [
            make_analysis_record(each, self._data_dir.maps)
            for each in (() if analysis is None else analysis.analyses)
        ]
        if not self._leases.finish(lease, state, reason, results, names, records):
            _LOG.warning("the lease was lost: a late image came, or it expired")
            return None
        if routing.rules:
            destinations = ", ".join(routing.destinations) or "no destination"
            _LOG.info("results go to %s by the rules %s", destinations, ", ".join(routing.rules))
        _LOG.info(
            "revision %d: %s, %d results%s", lease.revision, state, len(results), reason and f": {reason}"
        )
        return state

    @property
    def overdue(self) -> bool:
        """True when a study has taken longer than it may, and this process could not end by itself."""
        return self._end_at is not None and time.monotonic() > self._end_at + _END_SECONDS

    @contextlib.contextmanager
    def _watched(self, lease: AnalysisLease) -> Iterator[None]:
        """Renew the lease until the end of the block; end this process when that takes too long."""
        done = threading.Event()
        worker = self._settings.worker
        self._end_at = end_at = time.monotonic() + worker.study_seconds

        def watch() -> None:
            with logs.study(lease.study_instance_uid):
                while (left := end_at - time.monotonic()) > 0:
                    if done.wait(min(worker.lease_seconds / 3, left)):
                        return
                    with contextlib.suppress(StorageFailed, StorageFull):
                        self._leases.renew(lease, worker.lease_seconds)
                text = f"the analysis took longer than {worker.study_seconds:g} s (worker.study_seconds)"
                _LOG.error("%s: the worker ends", text)
                with contextlib.suppress(StorageFailed, StorageFull):
                    self._leases.release(lease, text, counts=True)
                os._exit(os.EX_TEMPFAIL)  # nothing else stops a thread that runs C code

        thread = threading.Thread(target=watch, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._end_at = None


class _UnreadableFile(NodeError):
    """Error because a received file of a study cannot be read."""


class _ModelAway(NodeError):
    """Error because a remote model does not answer; the study is tried again."""


@contextlib.contextmanager
def _unreadable_files() -> Iterator[None]:
    """Run the body, which reads received files; an error of the disk is then one of the study.

    Raises
    ------
    _UnreadableFile
    """
    try:
        yield
    except StorageFailed as error:
        raise _UnreadableFile(str(error)) from error


def _is_of_the_node(error: Exception) -> bool:
    """Return whether an error would also befall other studies: the disk is full, or the database away."""
    own = isinstance(error, database.KeyConflict | database.ValueRefused)
    return isinstance(error, StorageFull | StorageFailed) and not own


def _sentence(error: Exception) -> str:
    # Only errors of the node are known to hold nothing of a patient.
    return str(error) if isinstance(error, NodeError) else type(error).__name__


def predecessors(
    recorded: Mapping[tuple[str, str], RecordedResult], results: Spool
) -> dict[tuple[str, str], Predecessor]:
    """Return the references by which a new report names the reports that it replaces.

    Parameters
    ----------
    recorded
        Last result of each kind and model that is still in force.
    results
        Folder of their files. A report whose file is lost or damaged is left out.
    """
    found = {}
    for (kind, model), entry in recorded.items():
        if kind not in _REPLACED:
            continue
        try:
            series = attributes.text(read_header(results.path(entry.file)), "SeriesInstanceUID")
        except (NotAnalysable, StorageFailed):
            series = ""
        if series:
            found[kind, model] = Predecessor(series, entry.sop_class_uid, entry.sop_instance_uid)
        else:
            _LOG.warning(
                "the new report does not name the %s of revision %d that it replaces: %s cannot be read",
                kind, entry.revision, entry.file,
            )  # fmt: skip
    return found


def prior_study(
    pairing: PriorPairing | None, spool: Spool, kept: tuple[AnalysisRecord, ...] = ()
) -> PriorStudy | None:
    """Return the prior study of a recorded pair; None when no prior was looked for.

    Parameters
    ----------
    pairing
        Recorded pair.
    spool
        Folder of the received films.
    kept
        Records of the prior's own analysis, one a model.
    """
    if pairing is None:
        return None
    return PriorStudy(tuple(spool.path(name) for name in pairing.files), pairing.reason, kept)
