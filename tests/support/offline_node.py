"""Node without processes: a data directory that is filled through the interfaces of the store."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import CodeType

from fastapi.testclient import TestClient
from jinja2.bccache import Bucket, BytecodeCache
from pydicom.dataset import Dataset
from pydicom.uid import Comprehensive3DSRStorage

from dicom_node.config.data_dir import DataDir
from dicom_node.config.destinations import Destination, DicomDestination
from dicom_node.config.settings import Settings
from dicom_node.config.web import WebSettings
from dicom_node.dimse.server.identifiers import read_identifiers
from dicom_node.results.encoding import part10
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.analysis_leases import AnalysisLeases, EncodedResult
from dicom_node.store.analysis_records import AnalysisRecord
from dicom_node.store.delivery_queue import DeliveryQueue
from dicom_node.store.files import data_set_offset
from dicom_node.store.index import Index
from dicom_node.store.states import StudyState
from dicom_node.web.app import create_app
from tests.support.factories import encoded, film, uid

PACS = DicomDestination(name="pacs", ae_title="ORTHANC", host="127.0.0.1", port=4242)
OWNER = LeaseOwner("elsewhere", 1, 1)


class _CompiledTemplates(BytecodeCache):
    """Page templates as Python code, compiled once for all pages of this process."""

    def __init__(self) -> None:
        self._code: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        bucket.code = self._code.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        assert bucket.code is not None
        self._code[bucket.key, bucket.checksum] = bucket.code


_TEMPLATES = _CompiledTemplates()


class OfflineNode:
    """Node without processes, in the role of SCP, worker and sender when it is told to.

    Parameters
    ----------
    folder
        Its data directory, created if absent.
    destinations
        Its destinations; one PACS when none is given.
    address
        Address of its database; SQLite in the folder when absent.
    """

    def __init__(self, folder: Path, *destinations: Destination, address: str | None = None) -> None:
        self.settings = Settings(
            data_dir=folder,
            database_url=address,
            destinations=destinations or (PACS,),
            web=WebSettings(host="127.0.0.1", port=0),
        )
        self.data_dir = DataDir(self.settings)
        self.data_dir.prepare(alone=True)
        self.now = time.time()
        self.index = Index.open(self.settings.database)
        self.index = Index(self.index.engine, self._clock)
        self.leases = AnalysisLeases(self.index.engine, self._clock)
        self.delivery_queue = DeliveryQueue(self.index.engine, self._clock)
        self._numbers = itertools.count(1)

    def _clock(self) -> float:
        self.now += 0.001
        return self.now

    def close(self) -> None:
        self.index.close()

    @contextlib.contextmanager
    def browser(self) -> Iterator[TestClient]:
        """HTTP client of its page, which runs until the end of the block."""
        app = create_app(self.settings)
        self.context = app.state.context
        # Most tests ask for no film, and the process for films takes longer to start than they take.
        self.context.film_decoder.warm = lambda: None
        self.context.page_renderer._environment.bytecode_cache = _TEMPLATES
        with TestClient(app, base_url="http://localhost") as one:
            yield one

    def receive(
        self, study: object, instance: object = 1, ds: Dataset | None = None, *, moved_for: str = ""
    ) -> str:
        """Receive one small film; returns its Study Instance UID.

        Parameters
        ----------
        ds
            The film; drawn when absent.
        moved_for
            AE title of the move originator; empty for a film that was sent.
        """
        if ds is None:
            ds = film(rows=64, columns=64, study=study, instance=1, SOPInstanceUID=uid(study, instance))
        content, syntax = encoded(ds), ds.file_meta.TransferSyntaxUID
        found = read_identifiers(content, data_set_offset(content), syntax)
        self.index.add_instance(
            found.received(
                self.data_dir.spool.keep(content),
                syntax,
                calling_ae="MODALITY",
                peer_host="127.0.0.1",
                moved_for=moved_for,
            )
        )
        return found.study_instance_uid

    def complete(self, study: object, instances: int = 1) -> str:
        """Receive a study and complete it; returns its Study Instance UID."""
        study_uid = ""
        for instance in range(1, instances + 1):
            study_uid = self.receive(study, instance)
        self.index.complete_due(0, 1e9)
        return study_uid

    def finish(
        self,
        study: object,
        state: StudyState,
        reason: str = "",
        *,
        instances: int = 1,
        results: int = 1,
        revision: int = 1,
        destinations: tuple[str, ...] = ("pacs",),
        films: Sequence[Dataset] = (),
        reading: AnalysisRecord | None = None,
        further: Sequence[AnalysisRecord] = (),
        objects: Iterable[tuple[str, Dataset]] = (),
    ) -> str:
        """Receive a study and record its outcome, with `results` drawn results or with `objects`.

        `further` are the answers of further models than that of `reading`.
        """
        for ds in films:
            self.receive(study, ds=ds)
        study_uid = self.complete(study, 0 if films else instances) or films[0].StudyInstanceUID
        lease = self.leases.acquire(study_uid, revision, OWNER, 60)
        assert lease is not None
        written = [
            EncodedResult(
                kind, ds.SOPInstanceUID, ds.SOPClassUID, self.data_dir.results.keep(part10.encoded(ds))
            )
            for kind, ds in objects
        ]
        for _ in range(0 if objects else results):
            ds = film(rows=64, columns=64, study=study, SOPInstanceUID=uid("result", next(self._numbers)))
            written.append(
                EncodedResult(
                    "sr", ds.SOPInstanceUID, Comprehensive3DSRStorage, self.data_dir.results.keep(encoded(ds))
                )
            )
        assert self.leases.finish(
            lease, state, reason, written, destinations, [*([reading] if reading else []), *further]
        )
        return study_uid

    def send(self, destination: str, *, error: str = "", permanent: bool = False) -> None:
        """Record the outcome of every delivery that is due to a destination: success, or an error."""
        for entry in self.delivery_queue.take(destination, OWNER, 60):
            if not error:
                self.delivery_queue.mark_sent(entry)
            elif permanent:
                self.delivery_queue.mark_rejected(entry, error)
            else:
                self.delivery_queue.postpone(entry, error, 60)
