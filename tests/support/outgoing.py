"""A node's outgoing side: two results of one study, one destination, and a clock that is moved."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage

from dicom_node.config.sections import AnyDestination, SenderSettings
from dicom_node.delivery.sender import DestinationSender
from dicom_node.runtime.lease_owner import Owner
from dicom_node.store.analysis_leases import Claims, EncodedResult
from dicom_node.store.audit import Overview
from dicom_node.store.commitments import Commitments
from dicom_node.store.delivery_queue import Backlog, Outbox
from dicom_node.store.files import Spool
from dicom_node.store.index import Index
from dicom_node.store.states import StudyState
from tests.support import factories
from tests.unit.store.conftest import Clock, received

SR, SC = str(ComprehensiveSRStorage), str(SecondaryCaptureImageStorage)


class Outgoing:
    """Sends, and asks, when it is told to.

    Parameters
    ----------
    folder
        Of the results.
    index
        Without studies.
    destination
        As in the settings.
    """

    def __init__(self, folder: Path, index: Index, destination: dict[str, Any], **settings: Any) -> None:
        self.clock = Clock()
        self.clock.now = time.time()  # the receiver, which hears of commitments, has no other
        self.results = Spool(folder / "results")
        self.results.prepare()
        self.spool = Spool(folder / "received")
        self.spool.prepare()
        self.overview = Overview(index.engine)
        self.outbox = Outbox(index.engine, self.clock)
        self.uids: dict[str, str] = {}
        self._index = Index(index.engine, self.clock)
        self._claims = Claims(index.engine, self.clock)
        self._name = destination["name"]
        self._report()
        self.sender = DestinationSender(
            TypeAdapter(AnyDestination).validate_python(destination),
            calling_ae="DICOM_NODE",
            settings=SenderSettings(
                **{"confirm_after_seconds": 0, "connect_seconds": 5, "response_seconds": 10, **settings}
            ),
            outbox=self.outbox,
            commitments=Commitments(index.engine, self.clock),
            results=self.results,
            owner=Owner.this_process(),
        )

    def _report(self) -> None:
        film = self.spool.keep(factories.encoded(factories.film(rows=64, columns=56)))
        self._index.add_instance(received(digest=film.digest, size=film.size, file=film.name))
        self._index.complete_due(0, 300)
        ((uid, revision),) = self._index.take_queueable(60)
        claim = self._claims.claim(uid, revision, Owner.this_process(), 60)
        assert claim is not None
        entries = []
        for number, (kind, sop_class) in enumerate({"sr": SR, "sc": SC}.items(), 1):
            ds = factories.film(rows=64, columns=56, sop_class=sop_class, instance=number)
            self.uids[sop_class] = str(ds.SOPInstanceUID)
            kept = self.results.keep(factories.encoded(ds))
            entries.append(EncodedResult(kind, self.uids[sop_class], sop_class, kept))
        self._claims.finish(claim, StudyState.REPORTED, "", entries, [self._name])

    def send(self) -> int:
        return self.sender.send_due(threading.Event())

    def ask(self) -> int:
        return self.sender.confirm_due()

    @property
    def counts(self) -> dict[str, int]:
        return {str(state): count for state, count in self.overview.result_counts().items() if count}

    @property
    def backlog(self) -> Backlog:
        return self.outbox.backlogs()[0]

    def conserved(self) -> bool:
        audit = self.overview.audit(self.spool, self.results)
        assert not audit.violations, audit
        return audit.conserved

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sender._release()
