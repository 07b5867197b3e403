"""Fetcher of priors: finds the previous chest film of each complete study, before the study is queued.

The prior is the newest earlier study with a frontal chest film, of those that the source or the node itself
has. When the source fails, only those of the node are searched. The study is analysed in any case: it waits
for its prior at most ``priors.wait_seconds``.
"""

from __future__ import annotations

import contextlib
import logging
import mmap
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import IO, TYPE_CHECKING, Final, TypeAlias

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.config.data_dir import DataDir
from dicom_node.config.destinations import AnyDestination, DicomDestination
from dicom_node.config.settings import Settings
from dicom_node.dimse.client.query_retrieve import QueryRetrieveSession
from dicom_node.dimse.server.identifiers import read_identifiers
from dicom_node.errors import (
    BadInstance,
    NotAnalysable,
    PeerError,
    PeerUnavailable,
    StorageFailed,
    StorageFull,
)
from dicom_node.imaging import attributes
from dicom_node.imaging.pixels import read_header
from dicom_node.imaging.selection import select
from dicom_node.priors.matching import PatientStudy, holds_frontal_film, may_hold_films, prior_candidates
from dicom_node.runtime import logs
from dicom_node.store.files import HEAD_BYTES, data_set_offset
from dicom_node.store.index import Index
from dicom_node.store.prior_pairs import PriorPairing, PriorPairs, UnpairedStudy
from dicom_node.store.prior_requests import PriorRequests

if TYPE_CHECKING:
    from dicom_node.dicomweb.client import DicomWebSession

    Source: TypeAlias = QueryRetrieveSession | DicomWebSession

_LOG = logging.getLogger(__name__)
THREADS: Final = 4
"""Number of searches at the same time: one slow search must not keep all other studies waiting."""
_TRIES: Final = 3
"""Most earlier studies to examine for a frontal chest film."""
_FETCHES: Final = 64
_FAULT_PAUSE: Final = 1.0
"""Pause after an error of the database, in seconds."""

TRIED_OUT = "none is looked for when a film is tried out"
NO_FILM = "the study itself holds no chest film"
NO_PATIENT = "the study names no Patient ID"
NO_DATE = "the study has no Study Date"
REQUESTED = "it was itself requested as the prior of another study"
NONE = "no earlier chest film within {} days"
NOT_ASKED = "the source of priors gave no answer"
NOT_SENT = "the source of priors did not send the film"
FAULT = "the search for it failed"


class PriorFetcher:
    """Fetcher of priors for the studies of an index.

    Parameters
    ----------
    settings
        Settings of the node; they name a source of priors.
    index
        Open index.
    """

    def __init__(self, settings: Settings, index: Index) -> None:
        source = settings.prior_source
        assert source is not None
        self._source: AnyDestination = source
        self._settings = settings
        self._index = index
        self._priors = PriorPairs(index.engine)
        self._requests = PriorRequests(index.engine)
        self._spool = DataDir(settings).spool
        self._busy: set[tuple[int, int]] = set()
        self._lock = threading.Lock()
        # By the study that is fetched: the end of one request must not end another for the same study.
        self._fetching = [threading.Lock() for _ in range(_FETCHES)]

    def start(self, stop: threading.Event) -> None:
        """Start the threads that search until `stop` is set; a running search is then abandoned."""
        for number in range(1, THREADS + 1):
            threading.Thread(target=self.run, args=(stop,), name=f"priors-{number}", daemon=True).start()

    def run(self, stop: threading.Event) -> None:
        """Search until `stop` is set; while the database is not available, wait."""
        while not stop.is_set():
            # All threads together poll as often as one thread would.
            pause = THREADS * self._settings.study.poll_seconds
            try:
                self.search_waiting()
            except (StorageFailed, StorageFull) as error:
                _LOG.error("%s", error)
                pause = _FAULT_PAUSE
            stop.wait(pause)

    def search_waiting(self) -> int:
        """Search for the prior of each waiting study that no other thread has taken; return their number."""
        count = 0
        patience = time.monotonic() + self._settings.priors.wait_seconds
        for study in self._priors.unpaired():
            with self._alone(study) as alone, logs.study(study.study_instance_uid):
                if alone and self._priors.get(study.study_id, study.revision) is None:
                    found = self._pairing(study, patience - study.seconds)
                    pairing = self._priors.pair(study.study_id, study.revision, found)
                    _LOG.info("prior: %s", pairing.reason or logs.uid_hash(pairing.prior_uid))
                    count += 1
        return count

    @contextlib.contextmanager
    def _alone(self, study: UnpairedStudy) -> Iterator[bool]:
        key = (study.study_id, study.revision)
        with self._lock:
            alone = key not in self._busy
            self._busy.add(key)
        try:
            yield alone
        finally:
            if alone:
                with self._lock:
                    self._busy.discard(key)

    def _pairing(self, study: UnpairedStudy, deadline: float) -> PriorPairing:
        if study.is_trial:
            return PriorPairing(reason=TRIED_OUT)
        headers = self._headers(study.files)
        film = next((h for h, v in zip(headers, select(headers), strict=True) if v.analysable), None)
        if film is None:
            return PriorPairing(reason=NO_FILM)
        current = PatientStudy.of(film)
        found = PriorPairing(reason=FAULT)
        if not current.patient.identifier:
            found = PriorPairing(reason=NO_PATIENT)
        elif study.was_requested:
            # Or an archive whose films are not recognised as priors would have all of a patient's read.
            found = PriorPairing(reason=REQUESTED)
        elif not current.taken:
            found = PriorPairing(reason=NO_DATE)
        else:
            try:
                found = self._find(current, deadline)
            except (StorageFailed, StorageFull) as error:
                _LOG.error("no prior: %s", error)
            except Exception:  # noqa: BLE001 - a malformed answer of the source must not stop the analysis
                _LOG.exception("no prior")
        return replace(found, patient=current.patient.key, taken=current.taken)

    def _find(self, current: PatientStudy, deadline: float) -> PriorPairing:
        days = self._settings.priors.days
        mine = [
            PatientStudy(uid, current.patient, taken)
            for uid, taken in self._priors.studies_of_patient(current.patient.key)
        ]
        reason = NONE.format(days)
        with contextlib.ExitStack() as stack:
            asked: Iterable[PatientStudy] = ()
            source: Source | None = None
            try:
                source = stack.enter_context(self._opened(deadline))
                patient = current.patient.identifier
                answers = source.studies(patient, *current.span(days))
                asked = [PatientStudy.of(answer) for answer in answers if may_hold_films(answer)]
            except PeerError as error:
                _LOG.warning("%s", error)
                source, reason = None, NOT_ASKED
            for each in prior_candidates(current, [*asked, *mine], days)[:_TRIES]:
                uid = each.study_instance_uid
                files, came = self._films(uid, current), True
                if not files and source is not None:
                    with self._only_fetch(uid, deadline) as alone:
                        files = self._films(uid, current)  # another thread may have fetched them meanwhile
                        if not files:
                            came = alone and self._fetch(source, uid, deadline)
                            files = self._films(uid, current)
                if files:
                    return PriorPairing(uid, files)
                if not came:
                    return PriorPairing(reason=NOT_SENT)
        return PriorPairing(reason=reason)

    def _films(self, study_instance_uid: str, current: PatientStudy) -> tuple[str, ...]:
        """Return a study's films that the node has; empty unless one is frontal and all are the patient's."""
        files = self._priors.film_files(study_instance_uid)
        headers = self._headers(files)
        same = all(current.patient.is_same(PatientStudy.of(header).patient) for header in headers)
        return files if headers and same and holds_frontal_film(headers) else ()

    def _headers(self, files: Sequence[str]) -> list[Dataset]:
        headers = []
        for name in files:
            with contextlib.suppress(NotAnalysable, StorageFailed):  # the analysis reports it
                headers.append(read_header(self._spool.path(name)))
        return headers

    # -- the source ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _opened(self, deadline: float) -> Iterator[Source]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise PeerUnavailable("no time was left to ask for a prior")
        sender = self._settings.sender
        limits = sender.model_copy(
            update={"connect_seconds": min(sender.connect_seconds, left), "response_seconds": left}
        )
        if isinstance(self._source, DicomDestination):
            with QueryRetrieveSession.of(
                self._source, self._settings.dicom.ae_title, limits, deadline=deadline
            ) as retrieval:
                yield retrieval
            return
        from dicom_node.dicomweb.client import DicomWebSession  # noqa: PLC0415 - most nodes need none of it

        session = DicomWebSession(self._source, limits)
        try:
            yield session
        finally:
            session.release()

    def _fetch(self, source: Source, study_instance_uid: str, deadline: float) -> bool:
        """Have the films of a study sent to the node; False when they, or some of them, did not come."""
        try:
            series = [
                uid
                for answer in source.series(study_instance_uid)
                if may_hold_films(answer) and (uid := attributes.text(answer, "SeriesInstanceUID"))
            ]
            if not series:
                return True
            self._spool.check_room()
            self._requests.record(
                study_instance_uid,
                source_ae=self._source.asked.ae_title if isinstance(self._source, DicomDestination) else "",
                move_destination=self._settings.dicom.ae_title,
            )
            try:
                for file in source.fetch(study_instance_uid, series):
                    with file:
                        self._keep(file, study_instance_uid)
                    if time.monotonic() > deadline:
                        return False
            finally:
                self._requests.close(study_instance_uid)
        except PeerError as error:
            _LOG.warning("%s", error)
            return False
        return bool(self._priors.film_files(study_instance_uid))

    @contextlib.contextmanager
    def _only_fetch(self, study_instance_uid: str, deadline: float) -> Iterator[bool]:
        """Wait until no other thread fetches a study; False when that took too long."""
        lock = self._fetching[hash(study_instance_uid) % _FETCHES]
        alone = lock.acquire(timeout=max(0.0, deadline - time.monotonic()))
        try:
            yield alone
        finally:
            if alone:
                lock.release()

    @property
    def _source_ae(self) -> str:
        return self._source.ae_title or self._source.name[:16]

    def _keep(self, file: IO[bytes], study_instance_uid: str) -> None:
        """Store a fetched instance as if the source had sent it by C-STORE."""
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            self._keep_content(file, content, study_instance_uid)

    def _keep_content(self, file: IO[bytes], content: mmap.mmap, study_instance_uid: str) -> None:
        try:
            meta = dcmread(file, stop_before_pixels=True).file_meta
            syntax = UID(meta.TransferSyntaxUID)
            found = read_identifiers(content, data_set_offset(content[:HEAD_BYTES]), syntax)
        except (BadInstance, *attributes.MALFORMED) as error:
            _LOG.warning("%s: an instance of the prior is ignored: %s", self._source.name, error)
            return
        if found.study_instance_uid != study_instance_uid:
            _LOG.warning("%s: sent an instance of a study that was not requested", self._source.name)
            return
        stored = self._spool.keep(content)
        self._index.add_instance(
            found.received(
                stored,
                syntax,
                calling_ae=self._source_ae,
                peer_host=self._source.name,
                moved_for=self._settings.dicom.ae_title,
            )
        )
