"""The Verification SCU towards peers that are there, somewhere else, or silent."""

from __future__ import annotations

import socket
import time

import pytest

from dicom_node.dimse.client.peer import Peer
from dicom_node.errors import PeerRejected, PeerUnavailable
from tests.support.peers import free_port
from tests.support.receiver import Receiver
from tests.support.scripted_peer import scripted_peer


def test_echo_measures_a_peer_that_is_there(receiver: Receiver) -> None:
    assert 0 < Peer("DICOM_NODE", "127.0.0.1", receiver.port, calling_ae="NODE").echo() < 5


def test_echo_says_why_a_peer_is_not_there() -> None:
    port = free_port()
    with pytest.raises(
        PeerUnavailable, match=rf"^X@127\.0\.0\.1:{port}: cannot connect: Connection refused;"
    ):
        Peer("X", "127.0.0.1", port, calling_ae="NODE").echo()


def test_echo_says_that_a_name_is_unknown() -> None:
    with pytest.raises(PeerUnavailable, match=r"^X@no\.such\.host\.invalid:104: "):
        Peer("X", "no.such.host.invalid", 104, calling_ae="NODE").echo()


def test_echo_says_who_was_rejected(receiver: Receiver) -> None:
    with pytest.raises(
        PeerUnavailable,
        match=r"rejected.*called AE title not recognised.*calling AE NODE, called AE WRONG",
    ):
        Peer("WRONG", "127.0.0.1", receiver.port, calling_ae="NODE").echo()


def test_echo_to_a_peer_without_verification_is_rejected() -> None:
    with (
        scripted_peer() as peer,
        pytest.raises(PeerRejected, match="accepts none of: Verification SOP Class"),
    ):
        Peer("PEER", "127.0.0.1", peer.port, calling_ae="NODE").echo()


def test_echo_does_not_wait_for_ever_for_a_host_that_accepts_and_is_silent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        begun = time.monotonic()
        with pytest.raises(PeerUnavailable):
            Peer("X", "127.0.0.1", silent.getsockname()[1], calling_ae="NODE", connect_seconds=1).echo()
        assert time.monotonic() - begun < 5
