"""Looks for the previous chest film of each complete study, before the study is queued.

The newest earlier study with a frontal chest film counts, among those that the source and the node itself
hold. When the source fails, what the node holds has to do. However it ends, or if it never does, the study is
read: it waits for its prior at most ``priors.wait_seconds``.
"""

from __future__ import annotations

import contextlib
import io
import logging
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, TypeAlias

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import UID

from dicom_node.config.data_dir import DataDir
from dicom_node.config.sections import AnyDestination, DicomDestination
from dicom_node.config.settings import Settings
from dicom_node.dimse.client.query_retrieve import Retrieval
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
from dicom_node.priors.matching import Examination, candidates, frontal_films, may_hold_films
from dicom_node.runtime import logs
from dicom_node.store.files import data_set_offset
from dicom_node.store.index import Index
from dicom_node.store.prior_pairs import Pairing, Priors, Unpaired

if TYPE_CHECKING:
    from dicom_node.dicomweb.client import WebSession

    Source: TypeAlias = Retrieval | WebSession

_LOG = logging.getLogger(__name__)
THREADS: Final = 4
"""Studies that are looked after at once: a source that is slow with one keeps the others waiting less."""
_TRIES: Final = 3
"""Earlier studies that are fetched at most, until one turns out to hold a frontal chest film."""
_FAULT_PAUSE: Final = 1.0

TRIED_OUT = "none is looked for when a film is tried out"
NO_FILM = "the study itself holds no chest film"
NO_PATIENT = "the study names no Patient ID"
NO_DATE = "the study has no Study Date"
NONE = "no earlier chest film within {} days"
NOT_ASKED = "the source of priors gave no answer"
NOT_SENT = "the source of priors did not send the film"
FAULT = "the search for it failed"


class PriorSearch:
    """Finds priors for the studies of an index.

    Parameters
    ----------
    settings
        Of the node; they name a source.
    index
        Open.
    """

    def __init__(self, settings: Settings, index: Index) -> None:
        source = settings.prior_source
        assert source is not None
        self._source: AnyDestination = source
        self._settings = settings
        self._index = index
        self._priors = Priors(index.engine)
        self._spool = DataDir(settings).spool
        self._busy: set[tuple[int, int]] = set()
        self._lock = threading.Lock()

    def start(self, stop: threading.Event) -> None:
        """Search in threads of their own until told to stop; a search that is under way is left."""
        for number in range(1, THREADS + 1):
            threading.Thread(target=self.run, args=(stop,), name=f"priors-{number}", daemon=True).start()

    def run(self, stop: threading.Event) -> None:
        """Search until told to stop; a database that is away is waited for."""
        while not stop.is_set():
            # Together the threads look as often as one would.
            pause = THREADS * self._settings.study.poll_seconds
            try:
                self.once()
            except (StorageFailed, StorageFull) as error:
                _LOG.error("%s", error)
                pause = _FAULT_PAUSE
            stop.wait(pause)

    def once(self) -> int:
        """Look after every study that waits and that no other thread looks after; return how many."""
        count = 0
        patience = time.monotonic() + self._settings.priors.wait_seconds
        for study in self._priors.unpaired():
            with self._alone(study) as alone, logs.study(study.study_instance_uid):
                if alone and self._priors.of(study.study_id, study.revision) is None:
                    found = self._pairing(study, patience - study.seconds)
                    pairing = self._priors.pair(study.study_id, study.revision, found)
                    _LOG.info("prior: %s", pairing.reason or logs.short(pairing.prior_uid))
                    count += 1
        return count

    @contextlib.contextmanager
    def _alone(self, study: Unpaired) -> Iterator[bool]:
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

    def _pairing(self, study: Unpaired, deadline: float) -> Pairing:
        if study.tried:
            return Pairing(reason=TRIED_OUT)
        headers = self._headers(study.files)
        film = next((h for h, v in zip(headers, select(headers), strict=True) if v.analysable), None)
        if film is None:
            return Pairing(reason=NO_FILM)
        examination = Examination.of(film)
        found = Pairing(reason=FAULT)
        if not examination.patient.identifier:
            found = Pairing(reason=NO_PATIENT)
        elif not examination.taken:
            found = Pairing(reason=NO_DATE)
        else:
            try:
                found = self._find(examination, deadline)
            except (StorageFailed, StorageFull) as error:
                _LOG.error("no prior: %s", error)
            except Exception:  # noqa: BLE001 - the edge to the peer: whatever it sent, the study is read
                _LOG.exception("no prior")
        return replace(found, patient=examination.patient.key, taken=examination.taken)

    def _find(self, examination: Examination, deadline: float) -> Pairing:
        days = self._settings.priors.days
        mine = [
            Examination(uid, examination.patient, taken)
            for uid, taken in self._priors.of_patient(examination.patient.key)
        ]
        reason = NONE.format(days)
        with contextlib.ExitStack() as stack:
            asked: Iterable[Examination] = ()
            source: Source | None = None
            try:
                source = stack.enter_context(self._opened(deadline))
                patient = examination.patient.identifier
                answers = source.studies(patient, *examination.span(days))
                asked = [Examination.of(answer) for answer in answers if may_hold_films(answer)]
            except PeerError as error:
                _LOG.warning("%s", error)
                source, reason = None, NOT_ASKED
            for each in candidates(examination, [*asked, *mine], days)[:_TRIES]:
                uid = each.study_instance_uid
                files, came = self._films(uid, examination), True
                if not files and source is not None:
                    came = self._fetch(source, uid, deadline)
                    files = self._films(uid, examination)
                if files:
                    return Pairing(uid, files)
                if not came:
                    return Pairing(reason=NOT_SENT)
        return Pairing(reason=reason)

    def _films(self, study_instance_uid: str, examination: Examination) -> tuple[str, ...]:
        """Films of a study that the node holds, when one is frontal and they are the patient's; else none."""
        files = self._priors.held(study_instance_uid)
        headers = self._headers(files)
        same = all(examination.patient.is_same(Examination.of(header).patient) for header in headers)
        return files if headers and same and frontal_films(headers) else ()

    def _headers(self, files: Sequence[str]) -> list[Dataset]:
        headers = []
        for name in files:
            with contextlib.suppress(NotAnalysable, StorageFailed):  # the worker says so, if it matters
                headers.append(read_header(self._spool.path(name)))
        return headers

    # -- the source ----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _opened(self, deadline: float) -> Iterator[Source]:
        left = deadline - time.monotonic()
        if left <= 0:
            raise PeerUnavailable("there was no time left to ask for a prior")
        sender = self._settings.sender
        limits = sender.model_copy(
            update={"connect_seconds": min(sender.connect_seconds, left), "response_seconds": left}
        )
        if isinstance(self._source, DicomDestination):
            with Retrieval.of(
                self._source, self._settings.dicom.ae_title, limits, deadline=deadline
            ) as retrieval:
                yield retrieval
            return
        from dicom_node.dicomweb.client import WebSession  # noqa: PLC0415 - most nodes need none of it

        session = WebSession(self._source, limits)
        try:
            yield session
        finally:
            session.release()

    def _fetch(self, source: Source, study_instance_uid: str, deadline: float) -> bool:
        """Have the films of a study sent to the node's spool; False when they did not come, or not all."""
        try:
            series = [
                uid
                for answer in source.series(study_instance_uid)
                if may_hold_films(answer) and (uid := attributes.text(answer, "SeriesInstanceUID"))
            ]
            if not series:
                return True
            self._spool.check_room()
            self._priors.request(
                study_instance_uid,
                source_ae=self._source_ae,
                move_destination=self._settings.dicom.ae_title,
            )
            for content in source.fetch(study_instance_uid, series):
                self._keep(content, study_instance_uid)
                if time.monotonic() > deadline:
                    return False
        except PeerError as error:
            _LOG.warning("%s", error)
            return False
        return bool(self._priors.held(study_instance_uid))

    @property
    def _source_ae(self) -> str:
        return self._source.ae_title or self._source.name[:16]

    def _keep(self, content: bytes, study_instance_uid: str) -> None:
        """Keep a fetched instance as if the source had sent it by C-STORE."""
        try:
            meta = dcmread(io.BytesIO(content), stop_before_pixels=True).file_meta
            syntax = UID(meta.TransferSyntaxUID)
            found = read_identifiers(content, data_set_offset(content), syntax)
        except (BadInstance, *attributes.MALFORMED) as error:
            _LOG.warning("%s: an instance of the prior is not kept: %s", self._source.name, error)
            return
        if found.study_instance_uid != study_instance_uid:
            _LOG.warning("%s: sent an instance of a study that was not asked for", self._source.name)
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
