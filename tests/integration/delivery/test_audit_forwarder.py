"""The syslog server gets every entry in order, whatever happens to it or to the connection."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.audit_trail import events
from dicom_node.audit_trail.events import Actor
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.config.audit_trail import AuditTrailSettings
from dicom_node.delivery.audit_forwarder import AuditForwarder, SentMark, forward
from dicom_node.errors import PeerUnavailable
from tests.support.audit_messages import checked
from tests.support.certificates import Authority
from tests.support.offline_node import OfflineNode
from tests.support.peers import free_port, until
from tests.support.syslog_server import SyslogServer

HEADER = re.compile(
    rb"<85>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ dicom-node \d+ DICOM\+RFC3881 "
    rb'\[meta sequenceId="(\d+)"\] \xef\xbb\xbf(<AuditMessage>.*)',
    re.DOTALL,
)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    yield one
    one.close()


@pytest.fixture
def trail(node: OfflineNode) -> AuditTrail:
    return AuditTrail.open(node.settings, node.index.engine)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


def settings(authority: Authority, port: int, **more: object) -> AuditTrailSettings:
    return AuditTrailSettings(syslog_host="127.0.0.1", syslog_port=port, tls_ca=authority.path, **more)


def forwarder(node: OfflineNode, trail: AuditTrail, own: AuditTrailSettings) -> AuditForwarder:
    return AuditForwarder(own, trail.chain, SentMark(node.data_dir.audit_trail / "sent-by-syslog"))


def send_once(node: OfflineNode, trail: AuditTrail, own: AuditTrailSettings) -> int:
    """Send what waits, as a process that is started and ended."""
    sender = forwarder(node, trail, own)
    try:
        return sender.send_waiting()
    finally:
        sender.close()


def log_in(trail: AuditTrail, count: int = 1) -> None:
    for _ in range(count):
        trail.record(events.logged_in(Actor("Ädä", "192.0.2.7")))


def numbers(server: SyslogServer) -> list[int]:
    found = [HEADER.fullmatch(message) for message in server.messages]
    assert all(found), server.messages
    for each in found:
        checked(each[2].decode())
    return [int(each[1]) for each in found]


def test_each_entry_is_a_frame_with_a_message_of_the_standard(
    node: OfflineNode, trail: AuditTrail, authority: Authority
) -> None:
    log_in(trail, 3)
    with SyslogServer(authority) as server:
        sender = forwarder(node, trail, settings(authority, server.port))
        assert sender.send_waiting() == 3
        assert sender.send_waiting() == 0
        log_in(trail)
        assert sender.send_waiting() == 1
        until(lambda: len(server.messages) == 4, 10, "four messages")
        sender.close()
    assert numbers(server) == [1, 2, 3, 4]


def test_a_server_that_was_away_gets_what_it_missed(
    node: OfflineNode, trail: AuditTrail, authority: Authority
) -> None:
    port = free_port()
    own = settings(authority, port)
    log_in(trail, 250)
    with pytest.raises(PeerUnavailable, match=f"syslog server 127.0.0.1:{port}"):
        send_once(node, trail, own)
    with SyslogServer(authority, port) as server:
        assert send_once(node, trail, own) == 250
        until(lambda: len(server.messages) == 250, 10, "all messages")
    assert numbers(server) == [*range(1, 251)]
    log_in(trail)
    with SyslogServer(authority, port) as server:  # a new process goes on where the last one was
        assert send_once(node, trail, own) == 1
        until(lambda: server.messages, 10, "a message")
    assert numbers(server) == [251]


def test_a_broken_connection_loses_nothing(
    node: OfflineNode, trail: AuditTrail, authority: Authority
) -> None:
    with SyslogServer(authority) as server:
        sender = forwarder(node, trail, settings(authority, server.port))
        for _ in range(3):
            log_in(trail)
            sender.send_waiting()
            until(lambda: server.messages, 10, "a message")
            server.drop()
            log_in(trail)
            with pytest.raises(PeerUnavailable):
                sender.send_waiting()
            sender.send_waiting()
        until(lambda: len(set(numbers(server))) == 6, 10, "every entry")
        sender.close()


@pytest.mark.parametrize("wrong", ["name", "authority", "no certificate"])
def test_a_server_or_node_that_is_not_trusted_gets_nothing(
    node: OfflineNode, trail: AuditTrail, authority: Authority, tmp_path: Path, wrong: str
) -> None:
    log_in(trail)
    shown = Authority(tmp_path / "other", "other") if wrong == "authority" else authority
    host = "192.0.2.1" if wrong == "name" else "127.0.0.1"
    with SyslogServer(shown, host=host, mutual=wrong == "no certificate") as server:
        sender = forwarder(node, trail, settings(authority, server.port))
        with pytest.raises(PeerUnavailable):
            sender.send_waiting()
        assert server.messages == []
        sender.close()
    assert SentMark(node.data_dir.audit_trail / "sent-by-syslog").read() == 0


def test_a_node_shows_its_certificate(node: OfflineNode, trail: AuditTrail, authority: Authority) -> None:
    log_in(trail)
    own = authority.issue("node")
    with SyslogServer(authority, mutual=True) as server:
        found = settings(authority, server.port, tls_certificate=own.certificate, tls_key=own.key)
        sender = forwarder(node, trail, found)
        assert sender.send_waiting() == 1
        until(lambda: server.messages, 10, "a message")
        sender.close()


def test_the_process_sends_as_entries_are_written(
    node: OfflineNode, trail: AuditTrail, authority: Authority
) -> None:
    stop = threading.Event()
    with SyslogServer(authority) as server:
        own = node.settings.model_copy(update={"audit_trail": settings(authority, server.port)})
        thread = threading.Thread(target=forward, args=(own, stop))
        thread.start()
        try:
            log_in(trail, 2)
            until(lambda: len(server.messages) >= 2, 10, "two messages")
        finally:
            stop.set()
            thread.join(10)
    assert numbers(server) == [1, 2]
