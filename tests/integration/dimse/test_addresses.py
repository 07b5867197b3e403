"""Peers that call by IPv4 and IPv6, known by address and by name."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tests.support.raw_association import ASSOCIATE_AC, ASSOCIATE_RJ, RawAssociation
from tests.support.receiver import Receiver


def ipv6_works() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


pytestmark = pytest.mark.skipif(not ipv6_works(), reason="this host has no IPv6")


@pytest.mark.parametrize(
    ("listens", "calls"), [("::1", "::1"), ("::", "::1"), ("::", "127.0.0.1"), ("0.0.0.0", "127.0.0.1")]
)
def test_the_node_listens_where_it_is_told(tmp_path: Path, listens: str, calls: str) -> None:
    known = ({"ae_title": "WIRE", "host": calls},)
    with (
        Receiver(tmp_path / "node", host=listens, known_peers=known) as receiver,
        RawAssociation(receiver.port, host=calls) as wire,
    ):
        assert wire.associate()[0] == ASSOCIATE_AC
        assert wire.echo().status == 0
        wire.release()


def test_a_peer_that_is_known_by_name_may_call(tmp_path: Path) -> None:
    known = ({"ae_title": "WIRE", "host": "localhost"},)
    with (
        Receiver(tmp_path / "node", host="::", known_peers=known) as receiver,
        RawAssociation(receiver.port) as wire,
    ):
        assert wire.associate()[0] == ASSOCIATE_AC
        wire.release()


def test_a_known_peer_that_calls_from_another_address_is_named_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = ({"ae_title": "WIRE", "host": "192.0.2.7"}, {"ae_title": "OTHER", "host": "127.0.0.1"})
    with (
        Receiver(tmp_path / "node", host="::", known_peers=known) as receiver,
        RawAssociation(receiver.port) as wire,
    ):
        assert wire.associate() == (ASSOCIATE_RJ, bytes([0, 1, 1, 3]))
        assert wire.closed()
    assert "WIRE is known, but calls from another address: 127.0.0.1 instead of 192.0.2.7" in caplog.text


def test_an_address_that_no_known_peer_has_is_dropped_at_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = ({"ae_title": "WIRE", "host": "192.0.2.7"},)
    with Receiver(tmp_path / "node", host="::", known_peers=known) as receiver:
        for _ in range(3):
            with RawAssociation(receiver.port) as wire:
                assert wire.closed()
    lines = [record.getMessage() for record in caplog.records if "dropped" in record.getMessage()]
    assert lines == ["127.0.0.1: no known peer has this address (dicom.known_peers); dropped"]
