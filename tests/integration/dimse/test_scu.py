"""The Storage SCU towards peers that take everything, something, or nothing."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import (
    ComprehensiveSRStorage,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
    RLELossless,
)
from pynetdicom import evt
from pynetdicom.acse import ACSE
from pynetdicom.ae import ApplicationEntity
from pynetdicom.sop_class import Verification

from dicom_node.dimse.client.requestor_socket import RequestorSocket
from dicom_node.dimse.client.storage_scu import StoreSession
from dicom_node.dimse.status import Outcome
from dicom_node.errors import BadInstance, InstanceDeferred, PeerRejected, PeerUnavailable
from dicom_node.results.encoding.compression import Compression, decompressed
from tests.support.film_file import FilmFile
from tests.support.odd_archive import OddArchive, Talk
from tests.support.peers import StoreSCP, until
from tests.support.raw_association import (
    ASSOCIATE_AC,
    CR,
    P_DATA,
    RELEASE_RP,
    RELEASE_RQ,
    associate_rq,
    data_set_of,
    fragment,
    item,
    pdu,
)
from tests.support.receiver import Receiver
from tests.support.result_objects import write_picture
from tests.support.scripted_peer import scripted_peer

MakeFilm = Callable[..., FilmFile]


def session(port: int, ae_title: str = "PEER", **options: float) -> StoreSession:
    return StoreSession(
        ae_title,
        "127.0.0.1",
        port,
        calling_ae="NODE",
        connect_seconds=options.get("connect", 5),
        response_seconds=options.get("response", 10),
    )


@pytest.mark.peer
def test_files_arrive_as_they_are_over_one_association(tmp_path: Path, film: MakeFilm) -> None:
    films = [
        film(1),
        film(2, transfer_syntax=RLELossless),
        film(3, transfer_syntax=JPEGLSLossless),
        film(4, sop_class=ComprehensiveSRStorage),
    ]
    with StoreSCP(tmp_path / "pacs") as pacs, session(pacs.port, pacs.ae_title) as sending:
        sending.expect(one.path for one in films)
        for one in films:
            assert sending.send(one.path).meaning.outcome is Outcome.SUCCESS
        sending.release()
        until(lambda: len(pacs.files()) == len(films), 10, "all have arrived")
        assert sum("Association Acknowledged" in line for line in pacs.lines) == 1
        kept = {str(dcmread(path, stop_before_pixels=True).SOPInstanceUID): path for path in pacs.files()}
        for one in films:
            assert data_set_of(kept[one.uid]) == one.data_set


def test_the_node_takes_what_it_sends(receiver: Receiver, film: MakeFilm) -> None:
    with session(receiver.port, "DICOM_NODE") as sending:
        for number in range(1, 4):
            assert sending.send(film(number).path).status == 0
    assert len(receiver.uids()) == 3


def test_an_association_that_stays_open_waits_without_looking(
    receiver: Receiver, film: MakeFilm, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []
    ready, requested = RequestorSocket.ready, ACSE.is_release_requested

    def look(peer: RequestorSocket) -> bool:
        looks.append("socket")
        return bool(ready.fget(peer))  # type: ignore[attr-defined]

    def ask(acse: ACSE) -> bool:
        looks.extend(["thread"] if acse.assoc.is_requestor else [])
        return requested(acse)

    monkeypatch.setattr(RequestorSocket, "ready", property(look))
    monkeypatch.setattr(ACSE, "is_release_requested", ask)
    with session(receiver.port, "DICOM_NODE") as opened:
        opened.send(film(1).path)
        looks.clear()
        time.sleep(0.6)
        assert len(looks) <= 12
        assert opened.send(film(2).path).status == 0


def test_an_unexpected_kind_of_file_opens_a_new_association(film: MakeFilm) -> None:
    with (
        scripted_peer(classes=(CR, ComprehensiveSRStorage)) as peer,
        session(peer.port) as sending,
    ):
        for number, sop_class in enumerate((CR, ComprehensiveSRStorage, CR, ComprehensiveSRStorage), 1):
            sending.send(film(number, sop_class=sop_class).path)
        assert (peer.associations, peer.requests) == (2, 4)


def test_a_released_session_associates_again(film: MakeFilm) -> None:
    with scripted_peer() as peer, session(peer.port) as sending:
        sending.send(film().path)
        sending.release()
        sending.release()
        sending.send(film().path)
        assert peer.associations == 2


@pytest.mark.parametrize("status", [0x0000, 0x0111, 0x0107, 0xB000, 0xB006, 0xB007])
def test_what_the_peer_has_is_delivered(film: MakeFilm, status: int) -> None:
    with scripted_peer(status) as peer, session(peer.port) as sending:
        answer = sending.send(film().path)
        assert answer.status == status
        assert answer.meaning.outcome.delivered


@pytest.mark.parametrize("status", [0xA700, 0xA702, 0x0110, 0x0213])
def test_a_peer_without_room_is_unavailable_and_the_association_stays(film: MakeFilm, status: int) -> None:
    with scripted_peer(status, 0) as peer, session(peer.port) as sending:
        with pytest.raises(InstanceDeferred, match=rf"C-STORE answered {status:04X}: "):
            sending.send(film().path)
        sending.send(film().path)
        assert peer.associations == 1


@pytest.mark.parametrize("status", [0xA900, 0xC000, 0x0122, 0x0124])
def test_a_peer_that_will_never_take_it_rejects(film: MakeFilm, status: int) -> None:
    with (
        scripted_peer(status) as peer,
        session(peer.port) as sending,
        pytest.raises(PeerRejected, match=rf"^PEER@127.0.0.1:{peer.port}: C-STORE answered {status:04X}: "),
    ):
        sending.send(film().path)


def test_a_class_that_the_peer_does_not_know_is_rejected_by_name(film: MakeFilm) -> None:
    with scripted_peer() as peer, session(peer.port) as sending:
        with pytest.raises(PeerRejected, match="accepts none of: Comprehensive SR Storage"):
            sending.send(film(sop_class=ComprehensiveSRStorage).path)
        sending.expect([film().path, film(sop_class=ComprehensiveSRStorage).path])
        sending.send(film(2).path)
        with pytest.raises(
            PeerRejected, match="does not accept Comprehensive SR Storage in Explicit VR Little"
        ):
            sending.send(film(sop_class=ComprehensiveSRStorage).path)
        sending.send(film(3).path)


def test_a_peer_that_takes_only_the_default_encoding_gets_it(film: MakeFilm) -> None:
    with scripted_peer(syntaxes=(ImplicitVRLittleEndian,)) as peer, session(peer.port) as sending:
        assert sending.send(film().path).status == 0
        with pytest.raises(PeerRejected, match="RLE Lossless"):
            sending.send(film(2, transfer_syntax=RLELossless).path)


def test_a_peer_that_never_answers_is_given_up_in_time(film: MakeFilm) -> None:
    with scripted_peer() as peer, session(peer.port, response=1) as sending:
        peer.hang.set()
        begun = time.monotonic()
        with pytest.raises(PeerUnavailable, match="no answer to C-STORE within"):
            sending.send(film().path)
        assert time.monotonic() - begun < 6
        peer.hang.clear()
        assert sending.send(film().path).status == 0


def test_a_peer_that_stops_reading_is_given_up_in_time(film: MakeFilm) -> None:
    """The first answer accepts the association; then nobody reads."""
    large = film(rows=3000, columns=3000)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            connection, _ = listening.accept()
            held.append(connection)
            connection.recv(1 << 16)
            connection.sendall(_associate_ac())

        held: list[socket.socket] = []
        thread = threading.Thread(target=accept)
        thread.start()
        begun = time.monotonic()
        sending = session(listening.getsockname()[1], response=1)
        with pytest.raises(PeerUnavailable):
            sending.send(large.path)
        assert time.monotonic() - begun < 30
        thread.join()
        for connection in held:
            connection.close()


def test_a_peer_that_stops_within_its_answer_is_unavailable(film: MakeFilm) -> None:
    large = film(rows=1000, columns=1000)  # its answer may take longer than a PDU
    with OddArchive(stored=lambda talk: talk.say(b"\x04\0\0\0\0\x40half")) as archive:
        begun = time.monotonic()
        with (
            session(archive.port, "ODD", response=1) as sending,
            pytest.raises(PeerUnavailable, match="no answer to C-STORE within"),
        ):
            sending.send(large.path)
        assert time.monotonic() - begun < 8


def _associate_ac() -> bytes:
    fixed = associate_rq()[6:74]
    contexts = b"".join(
        item(0x21, bytes([number, 0, 0, 0]) + item(0x40, ExplicitVRLittleEndian.encode())) for number in (1,)
    )
    user = item(0x51, (131072).to_bytes(4, "big")) + item(0x52, b"1.2.3.4")
    return pdu(ASSOCIATE_AC, fixed + item(0x10, b"1.2.840.10008.3.1.1.1") + contexts + item(0x50, user))


def test_a_peer_that_closed_the_association_is_asked_again(film: MakeFilm) -> None:
    with scripted_peer() as peer, session(peer.port) as sending:
        sending.send(film().path)
        sending._association.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        until(lambda: not sending._association.is_established, 5, "the end is noticed")
        sending.send(film().path)
        assert peer.associations == 2


def test_a_peer_that_dies_while_it_is_sent_to_is_unavailable(tmp_path: Path, film: MakeFilm) -> None:
    with Receiver(tmp_path / "dying") as receiver:
        sending = session(receiver.port, "DICOM_NODE")
        sending.send(film().path)
        receiver.scp.stop(0)
    with pytest.raises(PeerUnavailable, match=r"127\.0\.0\.1"):
        sending.send(film(2).path)


def test_what_is_no_dicom_file_is_told_apart(tmp_path: Path, receiver: Receiver) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("not DICOM\n" * 100)
    empty = tmp_path / "empty.dcm"
    empty.touch()
    with session(receiver.port, "DICOM_NODE") as sending:
        for path in (other, empty):
            with pytest.raises(BadInstance, match="not a DICOM file"):
                sending.send(path)
        with pytest.raises(FileNotFoundError):
            sending.send(tmp_path / "missing.dcm")


def test_sending_proposes_only_what_it_needs(film: MakeFilm) -> None:
    proposed: list[tuple[str, list[str]]] = []

    def requested(event: evt.Event) -> None:
        proposed.extend(
            (str(context.abstract_syntax), [str(syntax) for syntax in context.transfer_syntax])
            for context in event.assoc.requestor.primitive.presentation_context_definition_list
        )

    ae = ApplicationEntity("PEER")
    ae.add_supported_context(Verification)
    ae.add_supported_context(CR, [ExplicitVRLittleEndian])
    handlers = [(evt.EVT_C_STORE, lambda _: 0), (evt.EVT_REQUESTED, requested)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    with session(server.server_address[1]) as sending:
        sending.send(film().path)
    server.shutdown()
    assert proposed == [(CR, [ExplicitVRLittleEndian]), (CR, [ImplicitVRLittleEndian])]


# -- ends and answers of odd archives --------------------------------------------------------------------

ENDS: dict[str, Callable[[Talk], object]] = {
    "release": Talk.release,
    "abort": Talk.abort,
    "close": Talk.close,
}


@pytest.mark.parametrize("end", ENDS)
def test_an_archive_that_ends_the_association_after_each_file_gets_all_at_once(
    film: MakeFilm, end: str
) -> None:
    def answer(talk: Talk) -> None:
        talk.answer()
        ENDS[end](talk)

    with OddArchive(stored=answer) as archive, session(archive.port, "ODD", response=60) as sending:
        begun = time.monotonic()
        for number in range(1, 6):
            assert sending.send(film(number).path).status == 0
        assert time.monotonic() - begun < 10
        if end == "release":
            until(lambda: archive.ends.count(RELEASE_RP) >= 4, 5, "the releases are answered")
            assert RELEASE_RQ not in archive.ends[:4]


@pytest.mark.parametrize("end", ENDS)
def test_an_end_instead_of_an_answer_is_noticed_at_once_and_concerns_one_file(
    film: MakeFilm, end: str
) -> None:
    with OddArchive(stored=ENDS[end]) as archive, session(archive.port, "ODD", response=60) as sending:
        begun = time.monotonic()
        for _ in range(2):
            with pytest.raises(
                InstanceDeferred, match=r"(released|aborted|closed).*without an answer to C-ST"
            ):
                sending.send(film().path)
        assert time.monotonic() - begun < 5
        assert archive.associations == 2


ANSWERS: dict[str, Callable[[Talk], object]] = {
    "without a data set type": lambda talk: talk.answer(x0800=None),
    "with a data set type of its own": lambda talk: talk.answer(x0800=b"\2\1"),
    "without a message ID": lambda talk: talk.answer(x0120=None),
    "with another message ID": lambda talk: talk.answer(x0120=b"\0\0"),
    "without UIDs": lambda talk: talk.answer(x0002=None, x1000=None),
    "with a long comment": lambda talk: talk.answer(0xB000, x0902=b"coerced. " * 20),
    "in two fragments": lambda talk: talk.say(
        pdu(P_DATA, fragment(talk.context_id, 1, talk.response()[:30])),
        pdu(P_DATA, fragment(talk.context_id, 3, talk.response()[30:])),
    ),
    "pending first": lambda talk: (talk.answer(0xFF00), talk.answer()),
    "twice": lambda talk: (talk.answer(), talk.answer()),
    "twice in one P-DATA": lambda talk: talk.say(talk.data(talk.response(), talk.response())),
    "with a data set": lambda talk: talk.say(
        talk.data(talk.response(x0800=b"\1\0")), pdu(P_DATA, fragment(talk.context_id, 2, bytes(8)))
    ),
}


@pytest.mark.parametrize("way", ANSWERS)
def test_an_answer_that_can_be_read_is_taken(film: MakeFilm, way: str) -> None:
    with OddArchive(stored=ANSWERS[way]) as archive, session(archive.port, "ODD", response=30) as sending:
        begun = time.monotonic()
        for number in range(1, 4):
            assert sending.send(film(number).path).meaning.outcome.delivered
        assert time.monotonic() - begun < 10
        assert archive.associations == 1


def test_the_answer_to_one_file_is_not_taken_for_that_to_the_next(film: MakeFilm) -> None:
    def answer(talk: Talk) -> None:
        talk.say(talk.data(talk.response(0 if len(talk.archive.stored) == 1 else 0xA700)))
        if len(talk.archive.stored) == 1:
            talk.answer()

    with OddArchive(stored=answer) as archive, session(archive.port, "ODD") as sending:
        sending.send(film().path)
        with pytest.raises(InstanceDeferred, match="A700"):
            sending.send(film(2).path)


def test_a_late_answer_to_one_file_is_not_taken_for_that_to_the_next(film: MakeFilm) -> None:
    def answer(talk: Talk) -> None:
        if len(talk.archive.stored) == 1:
            talk.answer()
            return
        earlier = struct.pack("<H", struct.unpack("<H", talk.request[0x0110])[0] - 1)
        talk.say(talk.data(talk.response(0, x0120=earlier)), talk.data(talk.response(0xA700)))

    with OddArchive(stored=answer) as archive, session(archive.port, "ODD") as sending:
        sending.send(film().path)
        with pytest.raises(InstanceDeferred, match="A700"):
            sending.send(film(2).path)


def test_a_name_with_several_addresses_is_tried_in_order(
    film: MakeFilm, monkeypatch: pytest.MonkeyPatch
) -> None:
    with OddArchive() as archive:
        addresses = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", archive.port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.9", archive.port)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", archive.port)),
        ]
        resolve = socket.getaddrinfo
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *rest, **more: addresses if host == "pacs.test" else resolve(host, *rest, **more),
        )
        sending = StoreSession("ODD", "pacs.test", archive.port, calling_ae="NODE")
        with sending:
            assert sending.send(film().path).status == 0


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
def test_a_peer_on_an_ipv6_address_is_reached(film: MakeFilm) -> None:
    with (
        OddArchive(host="::1") as archive,
        StoreSession("ODD", "::1", archive.port, calling_ae="NODE") as sending,
    ):
        assert sending.send(film().path).status == 0


# -- pictures of the node ------------------------------------------------------------------------------------


@pytest.mark.peer
@pytest.mark.parametrize("compression", ["jpeg", "jpeg-ls", "rle"])
@pytest.mark.parametrize(
    ("option", "syntax"), [("+xa", ""), ("+xe", "1.2.840.10008.1.2.1"), ("+xi", "1.2.840.10008.1.2")]
)
def test_a_picture_arrives_as_it_is_where_its_transfer_syntax_is_taken_and_else_uncompressed(
    tmp_path: Path, compression: Compression, option: str, syntax: str
) -> None:
    path = write_picture(tmp_path, compression)
    with StoreSCP(tmp_path / "pacs", syntaxes=option) as pacs, session(pacs.port, pacs.ae_title) as sending:
        sending.decompresses = True
        sending.expect([path])
        assert sending.send(path).status == 0
        sending.release()
        until(lambda: len(pacs.files()) == 1, 10, "it has arrived")
        (kept,) = map(dcmread, pacs.files())
    sent = dcmread(path)
    assert kept.SOPInstanceUID == sent.SOPInstanceUID
    assert kept.file_meta.TransferSyntaxUID == (syntax or sent.file_meta.TransferSyntaxUID)
    assert np.array_equal(
        kept.pixel_array, sent.pixel_array if not syntax else decompressed(path).pixel_array
    )


@pytest.mark.peer
def test_files_of_others_are_not_decompressed_on_the_way(tmp_path: Path) -> None:
    path = write_picture(tmp_path, "jpeg")
    with (
        StoreSCP(tmp_path / "pacs", syntaxes="+xe") as pacs,
        session(pacs.port, pacs.ae_title) as sending,
        pytest.raises(PeerRejected, match="accepts none of"),
    ):
        sending.send(path)
