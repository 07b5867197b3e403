"""C-STORE receive rate of the node, of DCMTK's storescp and of Orthanc, in the same run.

The sender writes messages that were encoded before, with one process per association, so that its cost is the
same for every receiver. The node and, by default, Orthanc sync every file before they answer; storescp does
not. The receivers take turns, so that other work on the machine slows all of them alike.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from orthanc.harness import Orthanc
from tests.support import factories
from tests.support.benchmarks import QUICK, Record, Target, few
from tests.support.peers import free_port, listening, until
from tests.support.process_use import peak
from tests.support.raw_association import (
    ASSOCIATE_AC,
    CR,
    EXPLICIT,
    RawAssociation,
    data_set_of,
    max_pdu_of,
    message,
    store_rq,
)
from tests.support.scp_processes import ScpProcesses

SECONDS = float(os.environ.get("BENCH_SECONDS") or (1.5 if QUICK else 6))
ROUNDS = few(3, 1)
SIZES = {"0.5 MB": (512, 488), "10 MB": (2236, 2236)}
ASSOCIATIONS = (1, 4, 16)
TWICE_ORTHANC = Target("at least", 2, "ratio")
BESIDE_STORESCP = {
    ("0.5 MB", 16): Target("at least", 0.5, "ratio"),
    ("10 MB", 16): Target("at least", 0.9, "ratio"),
}


@dataclass
class Receiver:
    ae_title: str
    port: int
    pids: Callable[[], list[int]]


@contextmanager
def node(folder: Path) -> Iterator[Receiver]:
    with ScpProcesses(folder) as running:
        yield Receiver("DICOM_NODE", running.port, lambda: running.pids)


@contextmanager
def storescp(folder: Path) -> Iterator[Receiver]:
    port = free_port()
    (folder / "storescp").mkdir()
    process = subprocess.Popen(
        ["storescp", "--fork", "--max-pdu", "131072", "-od", str(folder / "storescp"), "-uf", str(port)],
        env={**os.environ, "TCP_NODELAY": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: listening(port), 10, "storescp listening")
        yield Receiver("STORESCP", port, lambda: [process.pid])
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder / "storescp")


@contextmanager
def orthanc(folder: Path) -> Iterator[Receiver]:
    overrides = {"MaximumPduLength": 131072, "DicomThreadsCount": 16, "DicomCheckCalledAet": False}
    with Orthanc(folder / "orthanc", overrides=overrides) as pacs:
        yield Receiver(pacs.ae_title, pacs.dicom_port, lambda: [pacs._process.pid])


RECEIVERS = {"dicom-node": node, "storescp": storescp, "Orthanc": orthanc}


def send(port: int, ae_title: str, data_set: bytes, uid: bytes, worker: int, ready, results) -> None:
    """Send films one after another, each with its own UID, until the time is over."""
    request_at = data_at = 0
    with RawAssociation(port, seconds=60) as wire:
        kind, body = wire.associate([(1, CR, [EXPLICIT])], called=ae_title, calling=f"BENCH{worker}")
        assert kind == ASSOCIATE_AC, body
        request = store_rq(CR.encode(), uid)
        blob = bytearray(message(request, data_set, context_id=1, max_pdu=max_pdu_of(body)))
        request_at = blob.find(uid)
        data_at = blob.find(uid, request_at + 1)
        assert 0 < request_at < data_at
        ready.wait()
        count, deadline = 0, time.perf_counter() + SECONDS
        while time.perf_counter() < deadline:
            own = b"%03d%012d" % (worker, count)
            for place in (request_at, data_at):
                blob[place + len(uid) - 15 : place + len(uid)] = own
            wire.write(blob)
            answer = wire.answer()
            assert answer.status == 0, hex(answer.status)
            count += 1
        wire.release()
    results.put(count)


def rate(receiver: Receiver, film: Path, uid: str, associations: int) -> float:
    """Films per second."""
    context = multiprocessing.get_context("fork")
    ready, results = context.Event(), context.Queue()
    senders = [
        context.Process(
            target=send,
            args=(receiver.port, receiver.ae_title, data_set_of(film), uid.encode(), worker, ready, results),
        )
        for worker in range(associations)
    ]
    for sender in senders:
        sender.start()
    os.sync()  # what an earlier receiver left unwritten must not cost this one
    time.sleep(1)
    ready.set()
    counts = [results.get(timeout=SECONDS + 60) for _ in senders]
    for sender in senders:
        sender.join()
    return sum(counts) / SECONDS


def film_of(size: str, folder: Path) -> tuple[Path, str]:
    """File and SOP Instance UID of a film; the UID's last fifteen digits may be replaced by any others."""
    rows, columns = SIZES[size]
    uid = f"2.25.{'1' * 39}"
    pixels = np.random.default_rng(1).integers(0, 4096, (rows, columns))
    return factories.write(factories.film(pixels=pixels, SOPInstanceUID=uid), folder / "film.dcm"), uid


@pytest.mark.peer
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("associations", ASSOCIATIONS)
def test_receive_rate(size: str, associations: int, tmp_path: Path, record: Record) -> None:
    film, uid = film_of(size, tmp_path)
    rates: dict[str, list[float]] = {name: [] for name in RECEIVERS}
    memory = 0
    for turn in range(ROUNDS):
        for name, start in RECEIVERS.items():
            folder = tmp_path / f"{name}-{turn}"
            folder.mkdir()
            with start(folder) as receiver:
                rates[name].append(rate(receiver, film, uid, associations))
                if name == "dicom-node":
                    memory = max(memory, *map(peak, receiver.pids()))
            shutil.rmtree(folder, ignore_errors=True)
    ours = rates.pop("dicom-node")
    for name, theirs in rates.items():
        record(
            f"{size}, {associations} sender{'s' * (associations > 1)}",
            "films/s",
            ours,
            peer=name,
            peer_samples=theirs,
            target=TWICE_ORTHANC if name == "Orthanc" else BESIDE_STORESCP.get((size, associations)),
        )
    if associations == max(ASSOCIATIONS):
        record(f"peak memory of a receiver, {size}, {associations} senders", "MiB", memory)
