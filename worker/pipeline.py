"""One study's way from a claim to its recorded outcome, as straight code; it knows no Celery."""

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
from dicom_node.delivery.routing import Facts, route
from dicom_node.errors import EncodingFailed, StorageFailed, StorageFull
from dicom_node.imaging.pixels import read_header
from dicom_node.priors.matching import LATE
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.report import Refusal
from dicom_node.results.sr.document import Predecessor
from dicom_node.runtime import logs
from dicom_node.runtime.lease_owner import Owner
from dicom_node.store.analysis_leases import Claim, Claims, EncodedResult
from dicom_node.store.analysis_records import KeptReading, Readings
from dicom_node.store.files import Spool
from dicom_node.store.index import TRIED, Index
from dicom_node.store.prior_pairs import Pairing, Priors
from dicom_node.store.recorded_results import RecordedResult, Results
from dicom_node.store.states import StudyState
from dicom_node.store.study_embeddings import Places
from models.errors import ModelError
from worker.reading_record import keep_card, kept
from worker.study_reader import PriorStudy, Reading, StudyReader, StudyRevision

_LOG = logging.getLogger(__name__)


class Pipeline:
    """Analyses the studies that it can claim.

    Parameters
    ----------
    settings
        Of the node.
    index
        Where studies are claimed and outcomes recorded.
    reader
        Reads their films.
    """

    def __init__(self, settings: Settings, index: Index, reader: StudyReader) -> None:
        self._settings = settings
        self._index = index
        self._claims = Claims(index.engine)
        self._recorded = Results(index.engine)
        self._priors = Priors(index.engine)
        self._readings = Readings(index.engine)
        self._reader = reader
        self._data_dir = DataDir(settings)
        self._owner = Owner.this_process()

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
        """Make the first study as fast as the others, and show the page what reads it."""
        self._reader.warm_up()
        keep_card(self._reader.bundle, self._data_dir.cards)
        self._data_dir.runs_on.write_text(json.dumps(self._reader.runs_on), encoding="utf-8")
        if not self._settings.retrieval.own_studies and (count := Places(self._index.engine).forget()):
            _LOG.info("retrieval.own_studies is off: forgot where %d studies lie", count)

    def stop(self) -> None:
        """End the decoder."""
        self._reader.close()

    def analyse(self, study_instance_uid: str, revision: int) -> StudyState | None:
        """Analyse one revision of one study and record what came of it.

        An error that nobody foresaw passes through: the lease lapses, the study is tried again and, when that
        does not help, given up with the reason.

        Returns
        -------
        StudyState or None
            None when the study could not be claimed, or the claim was lost meanwhile.
        """
        worker = self._settings.worker
        claim = self._claims.claim(study_instance_uid, revision, self._owner, worker.lease_seconds)
        if claim is None:
            return None
        with logs.study(study_instance_uid), self._renewing(claim):
            try:
                return self._analyse(claim)
            except (StorageFull, StorageFailed) as error:
                _LOG.error("put back: %s", error)
                self._claims.release(claim, str(error))
        return None

    def _analyse(self, claim: Claim) -> StudyState | None:
        if not claim.instances:
            text = (
                "the study holds only instances that were set aside: results of a node, conflicting copies, "
                "or films that were fetched to be compared with"
            )
            return self._finish(claim, StudyState.SKIPPED, text, [])
        paths = [self._data_dir.spool.path(entry.file) for entry in claim.instances]
        study = StudyRevision(
            claim.study_instance_uid,
            claim.revision,
            claim.created,
            self._predecessors(claim),
            self._prior(claim),
        )
        kept = [path for path in paths if path.exists()]
        if lost := [path.name for path in paths if path not in kept]:
            text = f"the spool lost {len(lost)} files of the study, such as {lost[0]}"
            return self._fail(claim, study, kept, Refusal("files_lost", text))
        if claim.attempts > self._settings.worker.max_attempts:
            text = f"the analysis failed or ended its worker {claim.attempts - 1} times; see the worker's log"
            return self._fail(claim, study, paths, Refusal("set_aside", text))
        try:
            reading = self._reader.read(study, paths)
            results = self._keep(reading)
        except ModelError as error:
            return self._fail(claim, study, paths, Refusal("model_failed", str(error)))
        except EncodingFailed as error:
            return self._fail(claim, study, paths, Refusal("result_failed", str(error)))
        return self._finish(claim, reading.state, reading.reason, results, reading)

    def _fail(
        self, claim: Claim, study: StudyRevision, paths: Sequence[Path], refusal: Refusal
    ) -> StudyState | None:
        """Give the study up, with a report that says why if one can be written at all."""
        _LOG.error("failed: %s", refusal.text)
        try:
            reading = self._reader.refuse(study, paths, refusal)
            results = self._keep(reading)
        except EncodingFailed as error:
            _LOG.error("no report of the failure: %s", error)
            return self._finish(claim, StudyState.FAILED, refusal.text, [])
        return self._finish(claim, StudyState.FAILED, refusal.text, results, reading)

    def _predecessors(self, claim: Claim) -> dict[str, Predecessor]:
        """Return the reports of earlier revisions that this one takes the place of."""
        found = self._recorded.before(claim.study_id, claim.revision)
        return predecessors(found, self._data_dir.results)

    def _prior(self, claim: Claim) -> PriorStudy | None:
        """Return what the study is compared with; from now on that cannot change."""
        pairing = self._priors.of(claim.study_id, claim.revision)
        if pairing is None and self._settings.prior_source is not None:
            late = Pairing(reason=LATE.format(self._settings.priors.wait_seconds))
            pairing = self._priors.pair(claim.study_id, claim.revision, late)
        kept = None if pairing is None else self._readings.latest_of(pairing.prior_uid)
        return prior_study(pairing, self._data_dir.spool, kept)

    def _keep(self, reading: Reading) -> list[EncodedResult]:
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
            for kind, ds in reading.objects
        ]

    def _finish(
        self,
        claim: Claim,
        state: StudyState,
        reason: str,
        results: Sequence[EncodedResult],
        reading: Reading | None = None,
    ) -> StudyState | None:
        report = None if reading is None else reading.report
        facts = Facts.of(report, [entry.calling_ae for entry in claim.instances])
        way = route(facts, self._settings.rules, self._settings.destinations)
        for remark in way.remarks:
            _LOG.warning("%s", remark)
        tried = any(entry.peer_host == TRIED for entry in claim.instances)
        names = () if tried else way.destinations
        said = None
        if reading is not None and report is not None:
            said = kept(report, self._data_dir.maps, reading.place, reading.elaboration)
        if not self._claims.finish(claim, state, reason, results, names, said):
            _LOG.warning("the claim was lost: a late image, or a lapsed lease")
            return None
        if way.rules:
            _LOG.info("goes to %s by %s", ", ".join(way.destinations) or "nobody", ", ".join(way.rules))
        _LOG.info(
            "revision %d: %s, %d results%s", claim.revision, state, len(results), reason and f": {reason}"
        )
        return state

    @contextlib.contextmanager
    def _renewing(self, claim: Claim) -> Iterator[None]:
        """Keep the lease alive while the body runs."""
        done = threading.Event()
        seconds = self._settings.worker.lease_seconds

        def renew() -> None:
            while not done.wait(seconds / 3):
                with contextlib.suppress(StorageFailed, StorageFull):
                    self._claims.renew(claim, seconds)

        thread = threading.Thread(target=renew, name="lease", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


def predecessors(recorded: Mapping[str, RecordedResult], results: Spool) -> dict[str, Predecessor]:
    """Say of recorded reports what a new one needs to name them.

    Parameters
    ----------
    recorded
        The last of each kind that is in force.
    results
        Where their files lie.
    """
    found = {}
    for kind in ("sr", "similar"):
        entry = recorded.get(kind)
        if entry is not None and (path := results.path(entry.file)).exists():
            series = str(read_header(path).SeriesInstanceUID)
            found[kind] = Predecessor(series, entry.sop_class_uid, entry.sop_instance_uid)
    return found


def prior_study(pairing: Pairing | None, spool: Spool, kept: KeptReading | None = None) -> PriorStudy | None:
    """Say of a recorded pair of studies what the reader needs to know.

    Parameters
    ----------
    spool
        Where the films lie.
    kept
        What was kept of the prior's own reading.
    """
    if pairing is None:
        return None
    return PriorStudy(tuple(spool.path(name) for name in pairing.files), pairing.reason, kept)
