"""What the receiver writes into the audit trail, and that no film is lost for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.audit_messages import Said, said
from tests.support.certificates import Authority
from tests.support.film_file import FilmFile
from tests.support.peers import until
from tests.support.raw_association import ASSOCIATE_RJ, RawAssociation
from tests.support.receiver import Receiver


@pytest.fixture
def known(tmp_path: Path) -> Iterator[Receiver]:
    """Receiver that knows one peer."""
    with Receiver(tmp_path / "known", known_peers=[{"ae_title": "PACS"}]) as running:
        yield running


def entries(receiver: Receiver, count: int) -> list[Said]:
    folder = receiver.folder / "audit"
    until(lambda: len(said(folder)) >= count, 10, f"{count} entries")
    return said(folder)


def test_films_of_one_study_and_association_are_one_entry(receiver: Receiver, tmp_path: Path) -> None:
    films = [FilmFile(tmp_path / "films", number, study="one") for number in (1, 2, 3)]
    other = FilmFile(tmp_path / "films", 4, study="two")
    with receiver.associated(calling="MODALITY") as wire:
        for film in (*films, other, films[0]):
            assert wire.store(film.data_set, film.uid).status == 0x0000
        wire.release()
    found = entries(receiver, 3)
    assert [(each.event, each.action, each.instances) for each in found] == [
        ("110104", "C", 3),
        ("110104", "C", 1),
        ("110104", "R", 1),
    ]
    assert found[0].users[:2] == (("MODALITY", "127.0.0.1"), ("DICOM_NODE", ""))
    assert found[0].objects[0] == films[0].ds.StudyInstanceUID
    assert found[0].objects[1].startswith("P-")
    assert not receiver.audit_trail.chain.verify().problems


def test_an_aborted_association_is_written_too(receiver: Receiver, tmp_path: Path) -> None:
    film = FilmFile(tmp_path / "films")
    with receiver.associated() as wire:
        assert wire.store(film.data_set, film.uid).status == 0x0000
    assert entries(receiver, 1)[0].instances == 1


def test_who_may_not_associate_is_an_alert(known: Receiver) -> None:
    for _ in range(3):
        with RawAssociation(known.port) as wire:
            kind, _ = wire.associate(calling="STRANGER")
            assert kind == ASSOCIATE_RJ
    with RawAssociation(known.port) as wire:
        assert wire.associate(called="OTHER", calling="PACS")[0] == ASSOCIATE_RJ
    first, second = entries(known, 2)
    assert (first.event, first.types, first.outcome) == ("110113", ("110126",), 4)
    assert ("STRANGER", "127.0.0.1") in first.users
    assert "STRANGER is not in dicom.known_peers" in first.description
    assert "called AE title not recognised" in second.description


def test_a_stranger_without_a_certificate_is_an_alert(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certificates")
    node = authority.issue("node")
    with (
        Receiver(
            tmp_path / "secure", tls_certificate=node.certificate, tls_key=node.key, tls_ca=authority.path
        ) as secure,
        RawAssociation(secure.port) as wire,
    ):
        wire.write(b"\x01\0\0\0\0\x04abcd" * 10)
        (alert,) = entries(secure, 1)
    assert alert.types == ("110126",)
    assert alert.description.startswith("TLS failed")


def test_a_film_is_received_although_the_trail_cannot_be_written(receiver: Receiver, tmp_path: Path) -> None:
    folder = receiver.folder / "audit"
    folder.write_text("a file stands where the folder of the trail belongs")
    receiver.stores(FilmFile(tmp_path / "films"))
    until(lambda: receiver.audit_trail.trouble, 10, "the trail says that it cannot be written")
    folder.unlink()
    receiver.stores(FilmFile(tmp_path / "films", 2))
    assert sum(each.instances for each in entries(receiver, 2)) == 2
