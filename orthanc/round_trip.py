"""Round trip through a PACS: films go through a real Orthanc and a node, and the reports are read back."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset

from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.results.sr.findings import SERIES_NUMBER
from dicom_node.results.sr.parser import current_report
from dicom_node.store.audit import IndexQueries
from dicom_node.store.index import Index
from dicom_node.store.states import ResultState, StudyState
from orthanc.harness import NodeAddress, Orthanc, OrthancError

AE_TITLE = "DICOM_NODE"
READY_SECONDS = 120.0
IDLE_SECONDS = 180.0
"""Time without progress, in seconds, after which missing results count as lost."""

_OPEN = (StudyState.RECEIVING, StudyState.COMPLETE, StudyState.ANALYSING)


@dataclass(frozen=True, slots=True, eq=False)
class RoundTripResult:
    """Result of a round trip.

    Attributes
    ----------
    reports
        Findings reports (SR) by Study Instance UID, as read from the PACS.
    posted, received
        Number of films that Orthanc accepted, and that the node accepted.
    states
        Number of the node's studies by state.
    conserved
        True if the node accounts for every film that it accepted.
    seconds
        Time from the first film posted to the last report in the PACS, in seconds.
    """

    reports: dict[str, Dataset]
    posted: int
    received: int
    states: dict[StudyState, int]
    conserved: bool
    seconds: float


def run_round_trip(
    films: Iterable[bytes],
    studies: Iterable[str],
    folder: Path,
    *,
    environment: dict[str, str],
    progress: Callable[[int], None] = lambda _reported: None,
) -> RoundTripResult:
    """Post films to Orthanc, wait for a node's results, and read the reports back by DICOMweb.

    Parameters
    ----------
    films
        DICOM files.
    studies
        Study Instance UIDs of the films.
    folder
        Folder for the data and the logs of Orthanc and of the node; it is kept.
    environment
        Further settings of the node, as variables ``DICOM_NODE_...``.
    progress
        Function that is called with the number of studies that have an outcome.

    Raises
    ------
    OrthancError
        If Orthanc or the node does not start, or Orthanc refuses a film.
    """
    wanted = list(studies)
    port = _free_port()
    with (
        Orthanc(folder / "orthanc", node=NodeAddress(AE_TITLE, port), dicomweb=True) as pacs,
        _node(folder, port, pacs, environment) as index,
    ):
        started = time.monotonic()
        posted = sum(1 for _ in map(pacs.upload, films))
        overview = IndexQueries(index.engine)
        _settle(overview, posted, len(wanted), progress)
        seconds = time.monotonic() - started
        data_dir = DataDir(Settings(data_dir=folder / "node"))
        audit = overview.audit(data_dir.spool, data_dir.results)
        client = DICOMwebClient(url=pacs.dicomweb_url)
        reports = {uid: report for uid in wanted if (report := _report(client, uid)) is not None}
        return RoundTripResult(
            reports=reports,
            posted=posted,
            received=audit.received,
            states=overview.study_counts(),
            conserved=audit.conserved,
            seconds=seconds,
        )


def _settle(overview: IndexQueries, films: int, studies: int, progress: Callable[[int], None]) -> None:
    """Wait until every film is received, every study has an outcome and all results are delivered.

    Returns also after `IDLE_SECONDS` without progress.
    """
    before: object = None
    deadline = time.monotonic() + IDLE_SECONDS
    while time.monotonic() < deadline:
        received, states, results = overview.received(), overview.study_counts(), overview.result_counts()
        ended = sum(count for state, count in states.items() if state not in _OPEN)
        progress(ended)
        if received >= films and ended >= studies and not results.get(ResultState.ENCODED):
            return
        if (received, states, results) != before:
            before = received, states, results
            deadline = time.monotonic() + IDLE_SECONDS
        time.sleep(0.5)


def _report(client: DICOMwebClient, study: str) -> Dataset | None:
    """Return the findings report of a study that is in force, from the PACS; None if there is none.

    A study whose films arrived far apart has a report for each revision.
    """
    found = client.search_for_instances(study, search_filters={"Modality": "SR"})
    places = [[entry[tag]["Value"][0] for tag in ("0020000E", "00080018")] for entry in found]
    documents = [client.retrieve_instance(study, *place) for place in places]
    return current_report([ds for ds in documents if ds.get("SeriesNumber") == SERIES_NUMBER])


@contextmanager
def _node(folder: Path, port: int, pacs: Orthanc, environment: dict[str, str]) -> Iterator[Index]:
    """Run a whole node in a folder, with Orthanc as its destination; yield its database."""
    data_dir, log = folder / "node", folder / "node.log"
    destination = (
        f'[{{"name":"orthanc","ae_title":"{pacs.ae_title}","host":"{pacs.host}","port":{pacs.dicom_port}}}]'
    )
    settings = {
        "DICOM_NODE_DATA_DIR": str(data_dir),
        "DICOM_NODE_DICOM__AE_TITLE": AE_TITLE,
        "DICOM_NODE_DICOM__PORT": str(port),
        "DICOM_NODE_WEB__PORT": "0",
        "DICOM_NODE_STUDY__QUIET_SECONDS": "1",
        "DICOM_NODE_DESTINATIONS": destination,
        **environment,
    }
    with log.open("wb") as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "dicom_node", "serve"],
            env={**os.environ, **settings},
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    try:
        _wait_for_ready(process, log)
        index = Index.open(Settings(data_dir=data_dir).database)
        try:
            yield index
        finally:
            index.close()
    finally:
        process.terminate()
        process.wait(60)


def _wait_for_ready(process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while "ready:" not in log.read_text(encoding="utf-8", errors="replace"):
        if process.poll() is not None or time.monotonic() > deadline:
            raise OrthancError(f"the node did not get ready within {READY_SECONDS:.0f} s; see {log}")
        time.sleep(0.2)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
