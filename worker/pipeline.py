"""Pipeline of one study, from the lease to the recorded outcome; independent of Celery."""

from __future__ import annotations

import contextlib
import json
import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.delivery.routing import RoutingAttributes, route
from dicom_node.errors import EncodingFailed, StorageFailed, StorageFull
from dicom_node.imaging.pixels import read_header
from dicom_node.priors.matching import LATE_REASON
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.report import Refusal
from dicom_node.results.sr.document import Predecessor
from dicom_node.runtime import logs
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.analysis_leases import AnalysisLease, AnalysisLeases, EncodedResult
from dicom_node.store.analysis_records import AnalysisRecord, AnalysisRecords
from dicom_node.store.files import Spool
from dicom_node.store.index import TRIAL_HOST, Index
from dicom_node.store.prior_pairs import PriorPairing, PriorPairs
from dicom_node.store.recorded_results import RecordedResult, RecordedResults
from dicom_node.store.states import StudyState
from dicom_node.store.study_embeddings import StudyEmbeddings
from models.errors import ModelError
from worker.analysis_record import copy_model_card, make_analysis_record
from worker.study_reader import PriorStudy, StudyAnalysis, StudyReader, StudyRevision

_LOG = logging.getLogger(__name__)


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
        self._data_dir = DataDir(settings)
        self._owner = LeaseOwner.this_process()

    @classmethod
    def open(cls, settings: Settings) -> Pipeline:
        """Return a pipeline over the configured data directory, database and bundle."""
        return cls(settings, Index.open(settings.database), StudyReader.open(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._index.close()

    def warm_up(self) -> None:
        """Prepare the first analysis, and publish the model card and the hardware to the reading room."""
        self._reader.warm_up()
        copy_model_card(self._reader.bundle, self._data_dir.cards)
        self._data_dir.runs_on.write_text(json.dumps(self._reader.runs_on), encoding="utf-8")
        if not self._settings.retrieval.own_studies and (
            count := StudyEmbeddings(self._index.engine).clear()
        ):
            _LOG.info("retrieval.own_studies is off: deleted the embeddings of %d studies", count)

    def stop(self) -> None:
        """End the decoder process."""
        self._reader.close()

    def analyse(self, study_instance_uid: str, revision: int) -> StudyState | None:
        """Analyse one revision of one study and record the outcome.

        An unforeseen error is raised to the caller: the lease lapses and the study is tried again. After
        ``worker.max_attempts`` tries it is recorded as failed.

        Returns
        -------
        StudyState or None
            Outcome; None when the study could not be claimed, or the lease was lost during the analysis.
        """
        worker = self._settings.worker
        lease = self._leases.acquire(study_instance_uid, revision, self._owner, worker.lease_seconds)
        if lease is None:
            return None
        with logs.study(study_instance_uid), self._renewing(lease):
            try:
                return self._analyse(lease)
            except (StorageFull, StorageFailed) as error:
                _LOG.error("put back: %s", error)
                self._leases.release(lease, str(error))
        return None

    def _analyse(self, lease: AnalysisLease) -> StudyState | None:
        if not lease.instances:
            text = (
                "the study holds only instances that were set aside: results of a node, conflicting copies, "
                "or films that were fetched to be compared with"
            )
            return self._finish(lease, StudyState.SKIPPED, text, [])
        paths = [self._data_dir.spool.path(entry.file) for entry in lease.instances]
        study = StudyRevision(
            lease.study_instance_uid,
            lease.revision,
            lease.created,
            self._predecessors(lease),
            self._prior(lease),
        )
        present = [path for path in paths if path.exists()]
        if lost := [path.name for path in paths if path not in present]:
            text = f"the spool lost {len(lost)} files of the study, such as {lost[0]}"
            return self._fail(lease, study, present, Refusal("files_lost", text))
        if lease.attempts > self._settings.worker.max_attempts:
            text = f"the analysis failed or ended its worker {lease.attempts - 1} times; see the worker's log"
            return self._fail(lease, study, paths, Refusal("set_aside", text))
        try:
            analysis = self._reader.read(study, paths)
            results = self._store_results(analysis)
        except ModelError as error:
            return self._fail(lease, study, paths, Refusal("model_failed", str(error)))
        except EncodingFailed as error:
            return self._fail(lease, study, paths, Refusal("result_failed", str(error)))
        return self._finish(lease, analysis.state, analysis.reason, results, analysis)

    def _fail(
        self, lease: AnalysisLease, study: StudyRevision, paths: Sequence[Path], refusal: Refusal
    ) -> StudyState | None:
        """Record the study as failed, with a report of the reason if one can be written."""
        _LOG.error("failed: %s", refusal.text)
        try:
            analysis = self._reader.refuse(study, paths, refusal)
            results = self._store_results(analysis)
        except EncodingFailed as error:
            _LOG.error("no report of the failure: %s", error)
            return self._finish(lease, StudyState.FAILED, refusal.text, [])
        return self._finish(lease, StudyState.FAILED, refusal.text, results, analysis)

    def _predecessors(self, lease: AnalysisLease) -> dict[str, Predecessor]:
        """Return the reports of earlier revisions that this one replaces, by kind."""
        found = self._recorded.before_revision(lease.study_id, lease.revision)
        return predecessors(found, self._data_dir.results)

    def _prior(self, lease: AnalysisLease) -> PriorStudy | None:
        """Return the prior study to compare with, and fix the choice for this revision."""
        pairing = self._priors.get(lease.study_id, lease.revision)
        if pairing is None and self._settings.prior_source is not None:
            late = PriorPairing(reason=LATE_REASON.format(self._settings.priors.wait_seconds))
            pairing = self._priors.pair(lease.study_id, lease.revision, late)
        kept = None if pairing is None else self._readings.latest_of(pairing.prior_uid)
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
            )
            for kind, ds in analysis.objects
        ]

    def _finish(
        self,
        lease: AnalysisLease,
        state: StudyState,
        reason: str,
        results: Sequence[EncodedResult],
        analysis: StudyAnalysis | None = None,
    ) -> StudyState | None:
        report = None if analysis is None else analysis.report
        facts = RoutingAttributes.of(report, [entry.calling_ae for entry in lease.instances])
        routing = route(facts, self._settings.rules, self._settings.destinations)
        for remark in routing.remarks:
            _LOG.warning("%s", remark)
        tried = any(entry.peer_host == TRIAL_HOST for entry in lease.instances)
        names = () if tried else routing.destinations
        record = None
        if analysis is not None and report is not None:
            record = make_analysis_record(report, self._data_dir.maps, analysis.place, analysis.supplement)
        if not self._leases.finish(lease, state, reason, results, names, record):
            _LOG.warning("the lease was lost: a late image came, or it expired")
            return None
        if routing.rules:
            destinations = ", ".join(routing.destinations) or "no destination"
            _LOG.info("results go to %s by the rules %s", destinations, ", ".join(routing.rules))
        _LOG.info(
            "revision %d: %s, %d results%s", lease.revision, state, len(results), reason and f": {reason}"
        )
        return state

    @contextlib.contextmanager
    def _renewing(self, lease: AnalysisLease) -> Iterator[None]:
        """Renew the lease until the end of the block."""
        done = threading.Event()
        seconds = self._settings.worker.lease_seconds

        def renew() -> None:
            while not done.wait(seconds / 3):
                with contextlib.suppress(StorageFailed, StorageFull):
                    self._leases.renew(lease, seconds)

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def predecessors(recorded: Mapping[str, RecordedResult], results: Spool) -> dict[str, Predecessor]:
    """Return the references by which a new report names the reports that it replaces.

    Parameters
    ----------
    recorded
        Last report of each kind that is still in force.
    results
        Folder of their files.
    """
    found = {}
    for kind in ("sr", "similar"):
        entry = recorded.get(kind)
        if entry is not None and (path := results.path(entry.file)).exists():
            series = str(read_header(path).SeriesInstanceUID)
            found[kind] = Predecessor(series, entry.sop_class_uid, entry.sop_instance_uid)
    return found


def prior_study(
    pairing: PriorPairing | None, spool: Spool, kept: AnalysisRecord | None = None
) -> PriorStudy | None:
    """Return the prior study of a recorded pair; None when no prior was looked for.

    Parameters
    ----------
    pairing
        Recorded pair.
    spool
        Folder of the received films.
    kept
        Record of the prior's own analysis.
    """
    if pairing is None:
        return None
    return PriorStudy(tuple(spool.path(name) for name in pairing.files), pairing.reason, kept)
