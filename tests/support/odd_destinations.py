"""Destinations that are odd, each in one way, and results that wait for one of them and for a good one."""

from __future__ import annotations

import contextlib
import multiprocessing
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Self

from pydicom.uid import ComprehensiveSRStorage

from dicom_node.config.settings import Settings
from dicom_node.delivery.sender import send_to
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.analysis_leases import AnalysisLeases, EncodedResult
from dicom_node.store.delivery_queue import DeliveryQueue
from dicom_node.store.files import Spool
from dicom_node.store.index import Index
from dicom_node.store.states import ResultState, StudyState
from tests.support import factories
from tests.support.dicomweb_service import DicomwebService, running_service
from tests.support.index_records import complete_study, lease_study
from tests.support.odd_archive import IMPLEMENTATION, OddArchive, Talk
from tests.support.peers import free_port
from tests.support.raw_association import ASSOCIATE_AC, RELEASE_RQ, pdu

Destination = dict[str, Any]


@contextlib.contextmanager
def _archive(**quirks: Callable[[Talk], object]) -> Iterator[Destination]:
    with OddArchive(**quirks) as archive:
        yield archive.destination


@contextlib.contextmanager
def _elsewhere(**settings: Any) -> Iterator[Destination]:
    yield {
        "name": "odd",
        "ae_title": "ODD",
        "host": "127.0.0.1",
        "port": free_port(),
        "confirm": "response",
        **settings,
    }


@contextlib.contextmanager
def _plain(**settings: Any) -> Iterator[Destination]:
    with OddArchive() as archive:
        yield {**archive.destination, **settings}


@contextlib.contextmanager
def _web(change: Callable[[DicomwebService], object]) -> Iterator[Destination]:
    with running_service() as service:
        change(service)
        yield {"name": "odd", "kind": "dicomweb", "url": service.url, "confirm": "response"}


def _status(code: int) -> AbstractContextManager[Destination]:
    return _archive(stored=lambda talk: talk.answer(code))


def _http(status: int, kind: str = "text/html", raw: bytes = b"<html>no</html>", **headers: str) -> Any:
    def change(service: DicomwebService) -> None:
        service.status, service.kind, service.raw = status, kind, raw
        service.headers = headers

    return _web(change)


def _half(talk: Talk) -> None:
    talk.say(talk.data(talk.response())[:20])
    talk.close()


def _late(talk: Talk) -> None:
    time.sleep(0.5)
    talk.answer()


@contextlib.contextmanager
def _archive_web_silent() -> Iterator[Destination]:
    with OddArchive(connected=Talk.hang) as archive:
        url = f"http://127.0.0.1:{archive.port}/dicom-web"
        yield {"name": "odd", "kind": "dicomweb", "url": url, "confirm": "response"}


ODD: Mapping[str, Callable[[], AbstractContextManager[Destination]]] = {
    "silent after the connection": lambda: _archive(connected=Talk.hang),
    "silent to the association request": lambda: _archive(associated=lambda talk: None),
    "silent to C-STORE": lambda: _archive(stored=lambda talk: None),
    "accepts without a maximum length": lambda: _archive(associated=lambda talk: talk.accept(IMPLEMENTATION)),
    "accepts with garbage": lambda: _archive(
        associated=lambda talk: talk.say(pdu(ASSOCIATE_AC, b"\xee" * 90))
    ),
    "rejects for now": lambda: _archive(associated=lambda talk: talk.reject(2, 3, 1)),
    "rejects for good": lambda: _archive(associated=lambda talk: talk.reject(1, 1, 7)),
    "rejects with unknown numbers": lambda: _archive(associated=lambda talk: talk.reject(9, 8, 77)),
    "aborts at C-STORE": lambda: _archive(stored=Talk.abort),
    "releases instead of an answer": lambda: _archive(
        stored=lambda talk: talk.say(pdu(RELEASE_RQ, bytes(4)))
    ),
    "answers A700": lambda: _status(0xA700),
    "answers 0110": lambda: _status(0x0110),
    "answers 0122": lambda: _status(0x0122),
    "answers C000": lambda: _status(0xC000),
    "closes within a PDU": lambda: _archive(stored=_half),
    "answers another message ID": lambda: _archive(
        stored=lambda talk: talk.answer(x0120=struct.pack("<H", 4711))
    ),
    "claims a data set": lambda: _archive(stored=lambda talk: talk.answer(x0800=struct.pack("<H", 0x0102))),
    "answers late": lambda: _archive(stored=_late),
    "is not there": _elsewhere,
    "has a name that no resolver takes": lambda: _elsewhere(host="odd..example"),
    "has a name that is unknown": lambda: _elsewhere(host="odd.invalid"),
    "speaks no TLS": lambda: _plain(tls=True),
    "has no such certificate authority": lambda: _elsewhere(tls=True, tls_ca="missing.pem"),
    "STOW answers 500": lambda: _http(500),
    "STOW answers 409": lambda: _http(409),
    "STOW answers a page": lambda: _http(200),
    "STOW answers a redirect": lambda: _http(302, Location="http://127.0.0.1/login"),
    "STOW is silent": _archive_web_silent,
    "STOW answers without end": lambda: _http(200, "application/dicom+json", b"[" + b" " * (65 << 20)),
}
"""Way of being odd -> context manager that yields such a destination, as in the settings."""


PLAIN = "is as it should be"
"""Way of :func:`in_its_own_process`: not odd at all."""


@contextlib.contextmanager
def in_its_own_process(way: str) -> Iterator[Destination]:
    """Run an odd destination beside this process, whose threads it would keep waiting; yield its settings.

    Parameters
    ----------
    way
        One of :data:`ODD`, or :data:`PLAIN`.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(way, there), daemon=True)
    process.start()
    there.close()
    try:
        yield here.recv()
    finally:
        here.close()
        process.join(30)
        process.kill()
        process.join()


def _serve(way: str, parent: Connection) -> None:
    with (_plain if way == PLAIN else ODD[way])() as destination:
        parent.send(destination)
        with contextlib.suppress(EOFError):
            parent.recv()


class Deliveries:
    """Results that wait for some destinations, and the threads that send them.

    Parameters
    ----------
    folder
        Empty folder.
    index
        Index without studies.
    destinations
        Destinations, as in the settings.
    count
        Number of results for each destination.
    sop_classes
        SOP classes of the results, in turn.
    """

    def __init__(
        self,
        folder: Path,
        index: Index,
        destinations: list[Destination],
        count: int,
        sop_classes: Sequence[str] = (ComprehensiveSRStorage,),
        **sender: float,
    ) -> None:
        self.index = index
        self.settings = Settings.model_validate(
            {
                "data_dir": str(folder),
                "destinations": destinations,
                "sender": {"connect_seconds": 2, "response_seconds": 2, "confirm_after_seconds": 0, **sender},
            }
        )
        results = Spool(folder / "results")
        results.prepare()
        complete_study(index)
        encoded = []
        for number in range(1, count + 1):
            sop_class = sop_classes[number % len(sop_classes)]
            ds = factories.film(rows=16, columns=16, sop_class=sop_class, instance=number)
            kept = results.keep(factories.encoded(ds))
            encoded.append(EncodedResult("sr", str(ds.SOPInstanceUID), str(sop_class), kept))
        self.uids = [each.sop_instance_uid for each in encoded]
        leases = AnalysisLeases(index.engine)
        names = [each["name"] for each in destinations]
        leases.finish(lease_study(leases), StudyState.REPORTED, "", encoded, names)
        self.queue = DeliveryQueue(index.engine)
        self._stop = threading.Event()
        self.threads = [
            threading.Thread(
                target=send_to, args=(each, self.settings, index, LeaseOwner.this_process(), self._stop)
            )
            for each in self.settings.destinations
        ]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()

    def count(self, destination: str, *states: ResultState) -> int:
        """Number of deliveries to a destination in some states."""
        found = {each.destination: each.states for each in self.queue.backlogs()}
        return sum(found[destination].get(state, 0) for state in states)

    def all_are(self, state: ResultState) -> bool:
        """Whether every result is in a state at every destination."""
        return all(each.states.get(state, 0) == len(self.uids) for each in self.queue.backlogs())

    def error(self, destination: str) -> str:
        """Last error of a destination."""
        return {each.destination: each.error for each in self.queue.backlogs()}[destination]

    def arrived(self, destination: str) -> int:
        """Number of results that a destination took."""
        return self.count(destination, ResultState.SENT, ResultState.CONFIRMED)
