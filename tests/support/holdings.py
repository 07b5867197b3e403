"""Data directory that is filled as a node fills it, with files of a few hundred bytes."""

from __future__ import annotations

import itertools
from collections.abc import Collection
from pathlib import Path

import numpy as np
from sqlalchemy import func, select

from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.analysis_leases import AnalysisLeases, EncodedResult
from dicom_node.store.analysis_records import AnalysisRecord
from dicom_node.store.audit import Audit, IndexQueries
from dicom_node.store.delivery_queue import DeliveryQueue
from dicom_node.store.files import Spool
from dicom_node.store.heatmaps import HeatMaps
from dicom_node.store.index import TRIAL_HOST, Index
from dicom_node.store.purge import Purge
from dicom_node.store.received_instances import Admission, ReceivedInstance
from dicom_node.store.reception import receive
from dicom_node.store.retention_limits import RetentionLimits
from dicom_node.store.states import Confirmation, FileState, ResultState, StudyState
from dicom_node.store.tables import instance, result
from tests.support.clock import Clock

OWNER = LeaseOwner("elsewhere", 1, 1)
DAY = 86_400.0


def part10(content: bytes) -> bytes:
    """Smallest file that the spool takes: preamble, DICM, an empty group 0002 and `content` as data set."""
    return b"\0" * 128 + b"DICM\x02\x00\x00\x00UL\x04\x00" + b"\0" * 4 + content


class Holdings:
    """Spools, heat maps and index of one data directory.

    Parameters
    ----------
    index
        Index with the same clock.
    folder
        Data directory.
    """

    def __init__(self, index: Index, folder: Path, clock: Clock) -> None:
        self.index, self.clock, self.folder = index, clock, folder
        self.spool, self.results = Spool(folder / "spool"), Spool(folder / "results")
        for spool in (self.spool, self.results):
            spool.prepare(alone=True)
        self.maps = HeatMaps(folder / "maps")
        self.leases = AnalysisLeases(index.engine, clock)
        self.queue = DeliveryQueue(index.engine, clock)
        self._numbers = itertools.count(1)

    def film(self, study: str, number: int = 1, size: int = 300, **fields: object) -> Admission:
        """Receive a film of about `size` bytes; the same study and number are the same film."""
        uid = f"{study}.{number}"
        content = part10((f"film {uid} {fields.pop('content', '')} ".encode() * size)[:size])
        _, admission = receive(
            self.index,
            self.spool,
            lambda: self.spool.keep(content),
            lambda stored: ReceivedInstance(
                sop_instance_uid=uid,
                sop_class_uid="1.2.840.10008.5.1.4.1.1.1",
                transfer_syntax_uid="1.2.840.10008.1.2.1",
                study_instance_uid=study,
                series_instance_uid=f"{study}.0",
                digest=stored.digest,
                size=stored.size,
                file=stored.name,
                calling_ae="MODALITY",
                **{"peer_host": "127.0.0.1", **fields},  # type: ignore[arg-type]
            ),
        )
        return admission

    def trial(self, study: str) -> None:
        """Receive a film that a reader tries out."""
        self.film(study, peer_host=TRIAL_HOST)

    def end(
        self,
        study: str,
        state: StudyState = StudyState.REPORTED,
        *,
        revision: int = 1,
        results: int = 1,
        size: int = 600,
        destinations: tuple[str, ...] = ("pacs",),
    ) -> None:
        """Complete a study and record its outcome, with results of about `size` bytes and one heat map."""
        self.index.complete(study)
        lease = self.leases.acquire(study, revision, OWNER, 60)
        assert lease is not None, study
        written = []
        for _ in range(results):
            uid = f"2.25.{next(self._numbers)}"
            stored = self.results.keep(part10((f"result {uid} ".encode() * size)[:size]))
            written.append(EncodedResult("sr", uid, "1.2.840.10008.5.1.4.1.1.88.34", stored))
        spot = np.full((4, 4), next(self._numbers) % 256, np.uint8)
        record = AnalysisRecord("m", "1", (), "present", (), (), maps_file=self.maps.keep([spot]))
        reason = "" if state is StudyState.REPORTED else "it was not read"
        assert self.leases.finish(lease, state, reason, written, destinations, [record])

    def send(self, destination: str = "pacs") -> None:
        """Have a destination take what waits for it, without confirming it."""
        while entries := self.queue.take(destination, OWNER, 60):
            for entry in entries:
                self.queue.mark_sent(entry)

    def confirm(self, destination: str = "pacs") -> None:
        """Have a destination take what waits for it, and confirm it."""
        self.send(destination)
        self.clock.now += 1
        while entries := self.queue.take(destination, OWNER, 60, state=ResultState.SENT):
            for entry in entries:
                self.queue.mark_confirmed(entry, Confirmation.COMMITMENT)

    def confirm_studies(self, studies: Collection[str], destination: str = "pacs") -> None:
        """Have a destination take and confirm what it is to get of some studies; the rest goes on waiting."""
        for state in (ResultState.ENCODED, ResultState.SENT):
            entries = self.queue.take(destination, OWNER, 60, limit=10**6, state=state)
            for entry in entries:
                if entry.study_instance_uid not in studies:
                    continue
                if state is ResultState.ENCODED:
                    self.queue.mark_sent(entry)
                else:
                    self.queue.mark_confirmed(entry, Confirmation.COMMITMENT)
            self.queue.give_back(entries, OWNER)

    def reject(self, destination: str = "pacs") -> None:
        """Have a destination refuse what waits for it."""
        while entries := self.queue.take(destination, OWNER, 60):
            for entry in entries:
                self.queue.mark_rejected(entry, "no such class")

    def purge(
        self, limits: RetentionLimits | None = None, *, free: int | None = None, **days: float
    ) -> Purge:
        """Purge by these ages in days, or by these limits; `free` is the free space that it is told."""
        return Purge(
            self.index.engine,
            self.spool,
            self.results,
            self.maps.root,
            self.folder / "thumbnails",
            limits or RetentionLimits(days),
            clock=self.clock,
            free=None if free is None else lambda: free,
        )

    def audit(self) -> Audit:
        return IndexQueries(self.index.engine).audit(self.spool, self.results, read_files=True)

    def states(self) -> dict[str, FileState]:
        """State of the file of each film, by SOP Instance UID."""
        with self.index.engine.connect() as connection:
            rows = connection.execute(select(instance.c.sop_instance_uid, instance.c.file_state))
            return {uid: FileState(state) for uid, state in rows}

    def files(self) -> tuple[int, int, int]:
        """Number of files of films, of results and of heat maps that are on the disk."""
        maps = [path for path in self.maps.root.rglob("*") if path.is_file()]
        return len(list(self.spool.names())), len(list(self.results.names())), len(maps)

    def kept_bytes(self) -> int:
        """Bytes of the films and results whose files are kept, by the index."""
        with self.index.engine.connect() as connection:
            return sum(
                connection.execute(
                    select(func.coalesce(func.sum(table.c.size), 0)).where(
                        table.c.file_state == FileState.KEPT
                    )
                ).scalar_one()
                for table in (instance, result)
            )
