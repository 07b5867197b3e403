"""Delivery side of a node: two results of one study, one destination, a clock that a test moves."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage

from dicom_node.config.destinations import AnyDestination
from dicom_node.config.sections import SenderSettings
from dicom_node.delivery.sender import DestinationSender
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.analysis_leases import AnalysisLeases, EncodedResult
from dicom_node.store.audit import IndexQueries
from dicom_node.store.commitments import StorageCommitments
from dicom_node.store.delivery_queue import DeliveryQueue, DestinationBacklog
from dicom_node.store.files import Spool
from dicom_node.store.index import Index
from dicom_node.store.states import StudyState
from tests.support import factories
from tests.support.clock import Clock
from tests.support.index_records import delivery_states, received_instance

SR, SC = str(ComprehensiveSRStorage), str(SecondaryCaptureImageStorage)


class DeliveryHarness:
    """Sender of one destination that sends and asks for confirmation only when it is told to.

    Parameters
    ----------
    folder
        Folder for films and results.
    index
        Index without studies.
    destination
        Destination, as in the settings.
    """

    def __init__(self, folder: Path, index: Index, destination: dict[str, Any], **settings: Any) -> None:
        self.clock = Clock()
        self.clock.now = time.time()  # the receiver, which hears of commitments, has no other
        self.results = Spool(folder / "results")
        self.results.prepare()
        self.spool = Spool(folder / "received")
        self.spool.prepare()
        self.overview = IndexQueries(index.engine)
        self.delivery_queue = DeliveryQueue(index.engine, self.clock)
        self.uids: dict[str, str] = {}
        self._index = Index(index.engine, self.clock)
        self._leases = AnalysisLeases(index.engine, self.clock)
        self._name = destination["name"]
        self._report()
        self.sender = DestinationSender(
            TypeAdapter(AnyDestination).validate_python(destination),
            calling_ae="DICOM_NODE",
            settings=SenderSettings(
                **{"confirm_after_seconds": 0, "connect_seconds": 5, "response_seconds": 10, **settings}
            ),
            delivery_queue=self.delivery_queue,
            commitments=StorageCommitments(index.engine, self.clock),
            results=self.results,
            owner=LeaseOwner.this_process(),
        )

    def _report(self) -> None:
        film = self.spool.keep(factories.encoded(factories.film(rows=64, columns=56)))
        self._index.add_instance(received_instance(digest=film.digest, size=film.size, file=film.name))
        self._index.complete_due(0, 300)
        ((uid, revision),) = self._index.take_queueable(60)
        lease = self._leases.acquire(uid, revision, LeaseOwner.this_process(), 60)
        assert lease is not None
        entries = []
        for number, (kind, sop_class) in enumerate({"sr": SR, "sc": SC}.items(), 1):
            ds = factories.film(rows=64, columns=56, sop_class=sop_class, instance=number)
            self.uids[sop_class] = str(ds.SOPInstanceUID)
            kept = self.results.keep(factories.encoded(ds))
            entries.append(EncodedResult(kind, self.uids[sop_class], sop_class, kept))
        self._leases.finish(lease, StudyState.REPORTED, "", entries, [self._name])

    def send(self) -> int:
        """Send all results that are due; returns how many were sent."""
        return self.sender.send_due(threading.Event())

    def ask(self) -> int:
        """Ask the destination about all results that are due; returns how many it was asked about."""
        return self.sender.confirm_due()

    @property
    def counts(self) -> dict[str, int]:
        """Deliveries by state; states without any are left out."""
        return delivery_states(self._index.engine)

    @property
    def backlog(self) -> DestinationBacklog:
        """Backlog of the destination."""
        return self.delivery_queue.backlogs()[0]

    def conserved(self) -> bool:
        """Whether the audit accounts for every received instance; fails on any violation."""
        audit = self.overview.audit(self.spool, self.results)
        assert not audit.violations, audit
        return audit.conserved

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sender._release()
