"""The patient's previous film: found, fetched, and done without, whatever the archive does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.sop_class import (
    StudyRootQueryRetrieveInformationModelFind,
    StudyRootQueryRetrieveInformationModelMove,
)

from dicom_node.cli.checks import network
from dicom_node.config.sections import PriorSettings
from dicom_node.config.settings import Settings
from dicom_node.priors import fetcher
from dicom_node.priors.fetcher import PriorFetcher
from dicom_node.store.audit import IndexQueries
from dicom_node.store.prior_pairs import PriorPairing, PriorPairs
from dicom_node.store.states import StudyState
from orthanc.harness import Orthanc
from tests.support import factories
from tests.support.dicomweb_service import running_service
from tests.support.peers import free_port
from tests.support.raw_association import CR, EXPLICIT
from tests.support.receiver import Receiver

pytestmark = pytest.mark.peer

NONE = "no earlier chest film within 1095 days"


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    # It is asked by another title than it sends by: Move Originator alone tells whose its films are.
    lenient = {"DicomCheckCalledAet": False}
    with Orthanc(tmp_path_factory.mktemp("orthanc"), dicomweb=True, overrides=lenient) as running:
        yield running


class Node:
    """Receives, and looks for priors when it is told to.

    Parameters
    ----------
    destination
        As in the settings: the source of priors.
    """

    def __init__(self, folder: Path, destination: dict[str, Any], **priors: Any) -> None:
        self.receiver = Receiver(folder)
        self.index = self.receiver.index
        self.settings = Settings(
            data_dir=folder,
            dicom=self.receiver.settings,
            destinations=(destination,),
            priors=PriorSettings(**{"source": destination["name"], "wait_seconds": 20, **priors}),
        )
        self.priors = PriorPairs(self.index.engine)
        self.search = PriorFetcher(self.settings, self.index)

    def take(self, **elements: Any) -> str:
        """Keep a film as if a modality had sent it, and end its study."""
        ds = film(**elements)
        self.receiver.stores(Sent(ds))
        assert self.index.complete_due(0, 300) == 1
        return str(ds.StudyInstanceUID)

    def pairing(self, uid: str) -> PriorPairing:
        """Pairing of a study after the search for a prior."""
        assert self.search.search_waiting() == 1
        (row,) = [row for row in IndexQueries(self.index.engine).studies() if row.study_instance_uid == uid]
        found = self.priors.get(row.id, row.revision)
        assert found is not None
        assert self.index.take_queueable(300, 1000) == [(uid, row.revision)]
        return found

    @property
    def states(self) -> dict[str, StudyState]:
        return {row.study_instance_uid: row.state for row in IndexQueries(self.index.engine).studies()}

    def conserved(self) -> dict[str, int]:
        audit = IndexQueries(self.index.engine).audit(self.receiver.spool, self.receiver.spool)
        assert audit.conserved, audit.violations
        return audit.fates


class Sent:
    """A film as a wire sends it."""

    def __init__(self, ds: Dataset) -> None:
        content = factories.encoded(ds)
        self.uid = str(ds.SOPInstanceUID)
        self.data_set = content[144 + int.from_bytes(content[140:144], "little") :]


def film(**elements: Any) -> Dataset:
    number = elements.pop("study", "now")
    return factories.film(rows=64, columns=56, study=number, series=number, **elements)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    running: list[Node] = []

    def make(destination: dict[str, Any], **priors: Any) -> Node:
        running.append(Node(tmp_path / "node", destination, **priors))
        return running[-1]

    yield make
    for each in running:
        each.receiver.close()


def source(pacs: Orthanc, kind: str) -> dict[str, Any]:
    if kind == "dicomweb":
        return {"name": "pacs", "kind": kind, "url": pacs.dicomweb_url}
    return {"name": "pacs", "ae_title": "QUERY_SCP", "host": "127.0.0.1", "port": pacs.dicom_port}


def introduce(pacs: Orthanc, node: Node, ae_title: str = "DICOM_NODE") -> None:
    """Tell the archive where the node listens."""
    place = {"AET": ae_title, "Host": "127.0.0.1", "Port": node.receiver.port}
    pacs.request("PUT", "/modalities/node", json.dumps(place).encode())


# -- a real archive ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dicom", "dicomweb"])
def test_the_newest_earlier_frontal_chest_film_of_the_patient_is_fetched(
    pacs: Orthanc, node: Callable[..., Node], kind: str
) -> None:
    held = {
        "older": {"StudyDate": "20220101"},
        "newer": {"StudyDate": "20230101"},
        "lateral": {"StudyDate": "20230601", "view": "LL"},
        "hand": {"StudyDate": "20230701", "body_part": "HAND", "StudyDescription": "Hand"},
        "born on another day": {"StudyDate": "20230801", "PatientBirthDate": "19800101"},
        "somebody else": {"StudyDate": "20230901", "patient_id": f"{kind}-2"},
        "later": {"StudyDate": "20240301"},
        "long ago": {"StudyDate": "20100101"},
    }
    uids = {}
    for name, elements in held.items():
        ds = film(study=(kind, name), **{"patient_id": kind, **elements})
        pacs.upload(factories.encoded(ds))
        uids[name] = str(ds.StudyInstanceUID)
    one = node(source(pacs, kind))
    introduce(pacs, one)
    now = one.take(patient_id=kind, study=(kind, "now"))
    found = one.pairing(now)
    assert (found.prior_uid, found.reason, len(found.files)) == (uids["newer"], "", 1)
    assert one.receiver.spool.path(found.files[0]).exists()
    # The lateral film was tried first. Neither is a study of the node's own, and nothing is lost.
    assert one.states == {
        now: StudyState.COMPLETE,
        uids["newer"]: StudyState.PRIOR,
        uids["lateral"]: StudyState.PRIOR,
    }
    assert one.index.complete_due(0, 300) == 0
    fates = one.conserved()
    assert (fates["prior"], fates["waiting"]) == (2, 1)
    # The next study of the patient is compared with this one, which is here: nothing is fetched.
    assert [check.ok for check in network.priors(one.settings)] == [True] * (kind == "dicom")
    again = one.take(patient_id=kind, study=(kind, "again"), StudyTime="235959")
    assert one.pairing(again).prior_uid == now
    assert len(one.states) == 4


@pytest.mark.parametrize("kind", ["dicom", "dicomweb"])
def test_a_patient_without_earlier_films_has_none(
    pacs: Orthanc, node: Callable[..., Node], kind: str
) -> None:
    one = node(source(pacs, kind))
    assert one.pairing(one.take(patient_id="nobody else")).reason == NONE


def test_an_archive_that_does_not_know_the_node_tells_it_nothing(
    pacs: Orthanc, node: Callable[..., Node]
) -> None:
    pacs.upload(factories.encoded(film(patient_id="unknown", study="unknown", StudyDate="20230101")))
    one = node(source(pacs, "dicom"), wait_seconds=2)
    introduce(pacs, one, "SOMEBODY")
    assert one.pairing(one.take(patient_id="unknown")).reason == fetcher.NOT_ASKED
    assert len(one.states) == 1


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"patient_id": ""}, fetcher.NO_PATIENT),
        ({"StudyDate": ""}, fetcher.NO_DATE),
        ({"body_part": "HAND"}, fetcher.NO_FILM),
    ],
)
def test_what_nobody_can_look_for_is_said_and_not_asked(
    node: Callable[..., Node], elements: dict[str, Any], reason: str
) -> None:
    one = node({"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()})
    assert one.pairing(one.take(**elements)).reason == reason


def test_when_the_archive_is_away_what_the_node_holds_has_to_do(node: Callable[..., Node]) -> None:
    one = node({"name": "pacs", "ae_title": "PACS", "host": "127.0.0.1", "port": free_port()})
    then = one.take(study="then", StudyDate="20230101")
    assert one.pairing(then).reason == fetcher.NOT_ASKED
    found = one.pairing(one.take())
    assert (found.prior_uid, found.reason) == (then, "")
    assert one.states[then] is StudyState.COMPLETE


# -- an archive that misbehaves ----------------------------------------------------------------------


class Archive:
    """Answers queries and moves as it is told; each takes the event and yields what pynetdicom wants."""

    def __init__(
        self, find: Callable[[evt.Event], Any], move: Callable[[evt.Event], Any], *, moves: bool = True
    ) -> None:
        self._ae = ApplicationEntity("ARCHIVE")
        self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelFind)
        if moves:
            self._ae.add_supported_context(StudyRootQueryRetrieveInformationModelMove)
        self._ae.network_timeout = 30
        self.port = free_port()
        handlers = [(evt.EVT_C_FIND, find), (evt.EVT_C_MOVE, move)]
        self._server = self._ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)

    @property
    def destination(self) -> dict[str, Any]:
        return {"name": "archive", "ae_title": "ARCHIVE", "host": "127.0.0.1", "port": self.port}

    def close(self) -> None:
        self._server.shutdown()
        self._ae.shutdown()


def knows(event: evt.Event) -> Iterator[tuple[int, Dataset]]:
    """Answer with one earlier study of the patient, or with its series."""
    answer = Dataset()
    answer.QueryRetrieveLevel = event.identifier.QueryRetrieveLevel
    if answer.QueryRetrieveLevel == "STUDY":
        answer.PatientID = event.identifier.PatientID
        answer.StudyDate, answer.StudyTime = "20230101", "120000"
        answer.ModalitiesInStudy = "CR"
        answer.StudyInstanceUID = "1.2.3"
    else:
        answer.SeriesInstanceUID, answer.Modality = "1.2.3.4", "CR"
    yield 0xFF00, answer


def refuses(_event: evt.Event) -> Iterator[tuple[int, None]]:
    yield 0xA700, None


def is_silent(_event: evt.Event) -> Iterator[tuple[int, None]]:
    time.sleep(4)
    yield 0x0000, None


def aborts(event: evt.Event) -> Iterator[tuple[int, None]]:
    event.assoc.abort()
    yield 0xFE00, None


def raves(_event: evt.Event) -> Iterator[tuple[int, Dataset]]:
    nonsense = Dataset()
    nonsense.PatientID = "\\".join(["PAT-1", "*"])
    nonsense.StudyDate = "20230101-"
    yield 0xFF00, nonsense


def moves_to_nowhere(_event: evt.Event) -> Iterator[Any]:
    yield None, None  # answered A801


def claims_to_have_moved(_event: evt.Event) -> Iterator[Any]:
    yield "127.0.0.1", 1
    yield 0


@pytest.mark.parametrize(
    ("find", "move", "moves", "reason"),
    [
        (refuses, refuses, True, fetcher.NOT_ASKED),
        (is_silent, refuses, True, fetcher.NOT_ASKED),
        (aborts, refuses, True, fetcher.NOT_ASKED),
        (knows, refuses, False, fetcher.NOT_ASKED),
        (raves, refuses, True, NONE),
        (knows, moves_to_nowhere, True, fetcher.NOT_SENT),
        (knows, claims_to_have_moved, True, fetcher.NOT_SENT),
        (knows, is_silent, True, fetcher.NOT_SENT),
        (knows, aborts, True, fetcher.NOT_SENT),
    ],
)
def test_an_archive_that_misbehaves_costs_the_prior_and_no_more_time_than_allowed(
    node: Callable[..., Node],
    find: Callable[[evt.Event], Any],
    move: Callable[[evt.Event], Any],
    moves: bool,
    reason: str,
) -> None:
    archive = Archive(find, move, moves=moves)
    try:
        one = node(archive.destination, wait_seconds=2)
        now = one.take()
        begun = time.monotonic()
        assert one.pairing(now).reason == reason
        assert time.monotonic() - begun < 3.5
        assert one.states == {now: StudyState.COMPLETE}
        assert one.conserved()["waiting"] == 1
    finally:
        archive.close()


# -- an archive whose C-STORE requests are odd, or that sends other films than it was asked for ----------


class MovingArchive(Archive):
    """Holds films and moves them; pynetdicom names the archive itself as Move Originator.

    Parameters
    ----------
    films
        Films by the Study Instance UID under which the archive knows them.
    originator
        Function from the originator that pynetdicom would write to the one that is written: AE title and
        message ID.
    """

    def __init__(
        self,
        films: dict[str, list[Dataset]],
        originator: Callable[[str, int], tuple[str | None, int | None]],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        self.films = films
        self.node_port = 0
        real = Association.send_c_store

        def send(
            association: Association, ds: Dataset, *, originator_aet: str, originator_id: int, **more: Any
        ) -> Dataset:
            title, message = originator(originator_aet, originator_id)
            return real(association, ds, originator_aet=title, originator_id=message, **more)

        monkeypatch.setattr(Association, "send_c_store", send)
        super().__init__(self.find, self.move)
        self._ae.add_requested_context(CR, EXPLICIT)

    def find(self, event: evt.Event) -> Iterator[tuple[int, Dataset]]:
        asked = event.identifier
        for uid, held in self.films.items():
            answer = Dataset()
            answer.QueryRetrieveLevel = asked.QueryRetrieveLevel
            answer.StudyInstanceUID, answer.Modality = uid, "CR"
            if asked.QueryRetrieveLevel == "STUDY":
                answer.PatientID = asked.PatientID
                answer.StudyDate, answer.StudyTime = held[0].StudyDate, held[0].StudyTime
            elif asked.StudyInstanceUID != uid:
                continue
            answer.SeriesInstanceUID = held[0].SeriesInstanceUID
            yield 0xFF00, answer

    def move(self, event: evt.Event) -> Iterator[Any]:
        held = self.films[event.identifier.StudyInstanceUID]
        yield "127.0.0.1", self.node_port
        yield len(held)
        for each in held:
            yield 0xFF00, each


def prior_film(year: int, **elements: Any) -> Dataset:
    return film(**{"study": f"in {year}", "StudyDate": f"{year}0101"} | elements)


ORIGINATORS: dict[str, Callable[[str, int], tuple[str | None, int | None]]] = {
    "the archive itself": lambda title, message: (title, message),
    "the archive itself, without a message": lambda title, _: (title, None),
    "the node": lambda _, message: ("DICOM_NODE", message),
    "the node in lower case": lambda _, message: ("dicom_node", message),
    "nobody": lambda *_: (None, None),
    "a third, with the node's message": lambda _, message: ("GATEWAY", message),
}


def test_another_application_of_the_source_may_be_the_one_that_is_asked_and_sends(
    node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    prior = prior_film(2023)
    archive = MovingArchive({str(prior.StudyInstanceUID): [prior]}, lambda *_: (None, None), monkeypatch)
    taker = {"ae_title": "TAKER", "port": free_port(), "confirm_port": archive.port}
    try:
        one = node({**archive.destination, **taker, "confirm_ae_title": "ARCHIVE"})
        archive.node_port = one.receiver.port
        now = one.take(StudyDate="20240101")
        assert one.pairing(now).prior_uid == str(prior.StudyInstanceUID)
        assert one.states == {now: StudyState.COMPLETE, str(prior.StudyInstanceUID): StudyState.PRIOR}
    finally:
        archive.close()


@pytest.mark.parametrize("originator", ORIGINATORS.values(), ids=ORIGINATORS.keys())
def test_the_films_that_were_asked_for_are_the_priors_whomever_they_name(
    node: Callable[..., Node],
    monkeypatch: pytest.MonkeyPatch,
    originator: Callable[[str, int], tuple[str | None, int | None]],
) -> None:
    held = {str(each.StudyInstanceUID): [each] for each in map(prior_film, (2020, 2021, 2022, 2023))}
    newest = [*held][-1]
    archive = MovingArchive(held, originator, monkeypatch)
    try:
        one = node(archive.destination, days=10_000)
        archive.node_port = one.receiver.port
        now = one.take()
        found = one.pairing(now)
        assert (found.prior_uid, found.reason, len(found.files)) == (newest, "", 1)
        assert one.states == {now: StudyState.COMPLETE, newest: StudyState.PRIOR}
        assert one.index.complete_due(0, 300) == 0
        # What the archive sends later, naming nobody, it sends for analysis: alone, or all would follow.
        again = Sent(held[newest][0])
        with one.receiver.associated(calling="ARCHIVE") as wire:
            assert wire.store(again.data_set, again.uid).status == 0
            wire.release()
        assert one.index.complete_due(0, 300) == 1
        assert one.pairing(newest).reason == fetcher.REQUESTED
        assert len(one.states) == 2
    finally:
        archive.close()


@pytest.mark.parametrize(
    "sent",
    [
        [{"patient_id": "PAT-2"}],
        [{"PatientBirthDate": "19800101"}],
        [{"IssuerOfPatientID": "ELSEWHERE"}],
        [{"patient_id": ""}],
        [{}, {"patient_id": "PAT-2"}],
    ],
    ids=["another ID", "another birth date", "another issuer", "no ID", "one of two films"],
)
def test_films_of_another_patient_are_no_prior_whatever_the_archive_answered(
    node: Callable[..., Node], monkeypatch: pytest.MonkeyPatch, sent: list[dict[str, Any]]
) -> None:
    films = [prior_film(2023, instance=number, **elements) for number, elements in enumerate(sent, 1)]
    uid = str(films[0].StudyInstanceUID)
    archive = MovingArchive({uid: films}, ORIGINATORS["the node"], monkeypatch)
    try:
        one = node(archive.destination)
        archive.node_port = one.receiver.port
        now = one.take(PatientBirthDate="19700101", IssuerOfPatientID="HERE")
        found = one.pairing(now)
        assert (found.prior_uid, found.files, found.reason) == ("", (), NONE)
        assert one.states == {now: StudyState.COMPLETE, uid: StudyState.PRIOR}
        assert one.conserved()["prior"] == len(films)
    finally:
        archive.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": 500}, fetcher.NOT_ASKED),
        ({"status": 403}, fetcher.NOT_ASKED),
        ({"raw": b"<html>"}, fetcher.NOT_ASKED),
        ({"answer": [{"0020000D": {"vr": "UI", "Value": [7]}}]}, fetcher.NOT_ASKED),
        ({"answer": []}, NONE),
    ],
)
def test_a_dicomweb_service_that_misbehaves_costs_the_prior(
    node: Callable[..., Node], changes: dict[str, Any], reason: str
) -> None:
    with running_service() as told:
        for name, value in changes.items():
            setattr(told, name, value)
        one = node({"name": "web", "kind": "dicomweb", "url": told.url})
        assert one.pairing(one.take()).reason == reason


def test_a_study_that_waited_long_enough_is_not_looked_after_any_more(node: Callable[..., Node]) -> None:
    archive = Archive(knows, is_silent)
    try:
        one = node(archive.destination, wait_seconds=0.2)
        uid = one.take()
        time.sleep(0.3)
        assert one.index.take_queueable(300, 0.2) == [(uid, 1)]
        assert one.search.search_waiting() == 0
    finally:
        archive.close()
