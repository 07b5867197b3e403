"""The Storage SCP towards well-behaved peers."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom.uid import (
    ComprehensiveSRStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from dicom_node.imaging.radiographs import RADIOGRAPHY_SOP_CLASSES
from dicom_node.imaging.transfer_syntaxes import TRANSFER_SYNTAXES
from dicom_node.store.received_instances import SetAsideReason
from tests.support import factories
from tests.support.film_file import FilmFile
from tests.support.peers import until
from tests.support.raw_association import (
    ABORT,
    C_FIND_RQ,
    CR,
    EXPLICIT,
    IMPLICIT,
    P_DATA,
    RawAssociation,
    fragment,
    message,
    pdu,
    store_rq,
)
from tests.support.receiver import Receiver

MakeFilm = Callable[..., FilmFile]


def dcmtk(
    program: str, *words: str, port: int, called: str = "DICOM_NODE"
) -> subprocess.CompletedProcess[str]:
    command = [program, "-v", "-aec", called, *words[:0], "127.0.0.1", str(port), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def results_of(body: bytes) -> dict[int, tuple[int, bytes]]:
    """Presentation context id -> result, transfer syntax, of an A-ASSOCIATE-AC."""
    found, position = {}, 68
    while position < len(body):
        kind, length = body[position], int.from_bytes(body[position + 2 : position + 4], "big")
        value = body[position + 4 : position + 4 + length]
        if kind == 0x21:
            found[value[0]] = (value[2], value[8:])
        position += 4 + length
    return found


@pytest.mark.peer
def test_echoscu_is_answered(receiver: Receiver) -> None:
    answer = dcmtk("echoscu", port=receiver.port)
    assert answer.returncode == 0, answer.stderr
    assert "Received Echo Response (Success)" in answer.stderr


@pytest.mark.peer
def test_a_film_from_storescu_is_kept_byte_for_byte(receiver: Receiver, film: MakeFilm) -> None:
    sent = film()
    answer = dcmtk("storescu", str(sent.path), port=receiver.port)
    assert answer.returncode == 0, answer.stderr
    assert "Received Store Response (Success)" in answer.stderr
    (row,) = receiver.instances()
    assert row["sop_instance_uid"] == sent.uid
    assert row["sop_class_uid"] == CR
    assert row["transfer_syntax_uid"] == EXPLICIT
    assert row["series_instance_uid"] == sent.ds.SeriesInstanceUID
    assert (row["calling_ae"], row["peer_host"]) == ("STORESCU", "127.0.0.1")
    kept = receiver.spool.path(row["file"])
    assert kept.stat().st_size == row["size"]
    assert kept.read_bytes().endswith(sent.data_set)


@pytest.mark.peer
def test_the_kept_file_is_a_part_10_file(receiver: Receiver, film: MakeFilm) -> None:
    sent = film(transfer_syntax=ImplicitVRLittleEndian)
    assert dcmtk("storescu", "-xi", str(sent.path), port=receiver.port).returncode == 0
    kept = receiver.spool.path(receiver.instances()[0]["file"])
    dump = subprocess.run(["dcmdump", "+L", str(kept)], capture_output=True, text=True, check=True)
    assert "=LittleEndianImplicit" in dump.stdout
    assert dump.stderr == ""
    assert f"(0002,0003) UI [{sent.uid}]" in dump.stdout


def test_every_accepted_class_and_syntax_is_negotiated_and_no_other(receiver: Receiver) -> None:
    contexts = [
        (2 * number + 1, sop_class, [syntax])
        for number, (sop_class, syntax) in enumerate(
            [(sop_class, syntax) for sop_class in RADIOGRAPHY_SOP_CLASSES for syntax in TRANSFER_SYNTAXES]
            + [
                (CR, DeflatedExplicitVRLittleEndian),
                (ComprehensiveSRStorage, EXPLICIT),
                (CTImageStorage, EXPLICIT),
            ]
        )
    ]
    with RawAssociation(receiver.port) as wire:
        _, body = wire.associate(contexts)
        results = results_of(body)
        wire.release()
    *films, deflated, report, slice_ = [results[number][0] for number, *_ in contexts]
    assert set(films) == {0}
    assert (deflated, report, slice_) == (4, 3, 3)


def test_a_peer_that_can_choose_is_never_made_to_send_lossy(receiver: Receiver) -> None:
    with RawAssociation(receiver.port) as wire:
        _, body = wire.associate([(1, CR, [JPEGBaseline8Bit, IMPLICIT, EXPLICIT])])
        wire.release()
    result, syntax = results_of(body)[1]
    assert result == 0
    assert EXPLICIT.encode() in syntax


@pytest.mark.peer
def test_a_structured_report_sent_to_the_node_is_refused_by_name(receiver: Receiver, tmp_path: Path) -> None:
    report = factories.film(rows=16, columns=16, sop_class=ComprehensiveSRStorage, modality="SR")
    path = factories.write(report, tmp_path / "sr.dcm")
    answer = dcmtk("storescu", str(path), port=receiver.port)
    assert answer.returncode != 0
    assert "No valid Presentation Context" in answer.stderr
    assert receiver.instances() == []


def test_the_same_film_again_is_success_and_nothing_twice(receiver: Receiver, film: MakeFilm) -> None:
    sent = film()
    with receiver.associated() as wire:
        assert [wire.store(sent.data_set, sent.uid).status for _ in range(3)] == [0, 0, 0]
        wire.release()
    (row,) = receiver.instances()
    assert row["receptions"] == 3
    assert len(list(receiver.spool.names())) == 1


def test_other_bytes_under_the_same_uid_are_kept_apart(receiver: Receiver, film: MakeFilm) -> None:
    first, second = film(), film(seed=7)
    assert first.uid == second.uid
    with receiver.associated() as wire:
        assert wire.store(first.data_set, first.uid).status == 0
        assert wire.store(second.data_set, second.uid).status == 0
        wire.release()
    rows = receiver.instances()
    assert [row["set_aside"] for row in rows] == ["", SetAsideReason.CONFLICT]
    contents = [receiver.spool.path(row["file"]).read_bytes() for row in rows]
    assert contents[0].endswith(first.data_set)
    assert contents[1].endswith(second.data_set)


@pytest.mark.peer
def test_sixteen_peers_at_once_are_all_served(tmp_path: Path, film: MakeFilm) -> None:
    films = [film(number) for number in range(1, 33)]
    with Receiver(tmp_path / "many", max_associations=16) as receiver:
        with ThreadPoolExecutor(16) as pool:
            jobs = [
                pool.submit(
                    dcmtk, "storescu", *(str(one.path) for one in films[start::16]), port=receiver.port
                )
                for start in range(16)
            ]
            answers = [job.result() for job in jobs]
        assert [answer.returncode for answer in answers] == [0] * 16, answers[0].stderr
        assert sorted(receiver.uids()) == sorted(one.uid for one in films)


def test_a_data_set_in_many_fragments_beside_its_command_is_put_together(
    receiver: Receiver, film: MakeFilm
) -> None:
    sent = film()
    pieces = [sent.data_set[start : start + 1000] for start in range(0, len(sent.data_set), 1000)]
    fragments = fragment(3, 3, store_rq(CR.encode(), sent.uid.encode()))
    fragments += b"".join(fragment(3, 2 * (piece is pieces[-1]), piece) for piece in pieces)
    with receiver.associated() as wire:
        wire.write(pdu(P_DATA, fragments))
        assert wire.answer().status == 0
        wire.release()
    assert receiver.spool.path(receiver.instances()[0]["file"]).read_bytes().endswith(sent.data_set)


def test_bytes_that_trickle_in_time_are_taken(receiver: Receiver, film: MakeFilm) -> None:
    sent = film(rows=8, columns=8)
    with receiver.associated() as wire:
        encoded = message(store_rq(CR.encode(), sent.uid.encode()), sent.data_set)
        for position in range(len(encoded)):
            wire.write(encoded[position : position + 1])
        assert wire.answer().status == 0
        wire.release()


def test_only_the_two_services_are_served(receiver: Receiver) -> None:
    with receiver.associated() as wire:
        find = store_rq(b"1.2.840.10008.1.1", b"1.2", operation=C_FIND_RQ)
        wire.write(message(find, b"\x08\x00\x52\x00CS\x06\x00STUDY ", context_id=1))
        answer = wire.answer()
        assert (answer.operation, answer.status) == (0x8020, 0x0211)
        assert wire.echo().status == 0
        wire.release()


def test_stopping_lets_the_request_at_hand_finish(tmp_path: Path, film: MakeFilm) -> None:
    sent = film()
    with Receiver(tmp_path / "stopping") as receiver, receiver.associated() as wire:
        encoded = message(store_rq(CR.encode(), sent.uid.encode()), sent.data_set)
        wire.write(encoded[:-100])
        with ThreadPoolExecutor(1) as pool:
            stopping = pool.submit(receiver.scp.stop, 10)
            until(lambda: "accept" not in {t.name for t in threading.enumerate()}, 5, "it accepts no more")
            wire.write(encoded[-100:])
            assert wire.answer().status == 0
            assert wire.read()[0] == ABORT
            stopping.result(10)
        assert receiver.uids() == [sent.uid]


def test_stopping_does_not_wait_for_a_request_that_never_ends(tmp_path: Path, film: MakeFilm) -> None:
    sent = film()
    with Receiver(tmp_path / "stopping") as receiver, receiver.associated() as wire:
        wire.write(message(store_rq(CR.encode(), sent.uid.encode()), sent.data_set)[:-100])
        receiver.scp.stop(0.5)
        assert wire.closed()
        assert receiver.idle()
        assert receiver.instances() == []


def test_stopping_does_not_wait_for_peers_that_only_stand_there(tmp_path: Path) -> None:
    with (
        Receiver(tmp_path / "stopping") as receiver,
        RawAssociation(receiver.port) as silent,
        receiver.associated() as idle,
    ):
        begun = time.monotonic()
        receiver.scp.stop(10)
        assert time.monotonic() - begun < 2
        assert silent.closed()
        assert idle.read()[0] == ABORT
        until(receiver.idle, 1, "nothing is left")


def test_nothing_of_a_patient_is_logged(
    receiver: Receiver, film: MakeFilm, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    sentinel = "SENTINEL^PATIENT"
    sent = film(patient_name=sentinel, patient_id="SENTINEL-ID", AccessionNumber="SENTINEL-ACC")
    bad = film(2, patient_name=sentinel, StudyInstanceUID="1.2.SENTINEL")
    with receiver.associated() as wire:
        assert wire.store(sent.data_set, sent.uid).status == 0
        assert wire.store(bad.data_set, bad.uid).status == 0xC021
        assert wire.store(sent.data_set, "1.2.3.4.5678901").status == 0xA900
        wire.write(pdu(P_DATA, store_rq(b"SENTINEL", sent.uid.encode())))
        assert wire.closed()
    written = caplog.text + "".join(capfd.readouterr())
    assert "associated" in written
    for secret in ("SENTINEL", sent.uid, bad.uid, str(sent.ds.StudyInstanceUID), "Traceback"):
        assert secret not in written, secret


@pytest.mark.peer
def test_a_film_whose_uids_have_leading_zeros_is_kept_under_them(receiver: Receiver, film: MakeFilm) -> None:
    uids = {
        "StudyInstanceUID": "1.2.03.4",
        "SeriesInstanceUID": "1.2.03.4.05",
        "SOPInstanceUID": "1.2.03.4.05.006",
    }
    sent = film(**uids)
    answer = dcmtk("storescu", str(sent.path), port=receiver.port)
    assert answer.returncode == 0, answer.stderr
    (row,) = receiver.instances()
    assert (row["series_instance_uid"], row["sop_instance_uid"]) == tuple(uids.values())[1:]
    assert receiver.index.complete(uids["StudyInstanceUID"])
