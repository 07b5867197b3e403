"""DICOM over TLS, with certificates on both sides, towards openssl's rules, DCMTK and peers that stall."""

from __future__ import annotations

import socket
import ssl
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.config.destinations import DicomDestination
from dicom_node.config.sections import DicomSettings, SenderSettings
from dicom_node.dimse import tls
from dicom_node.dimse.client.peer import Peer
from dicom_node.dimse.client.storage_scu import StoreSession
from dicom_node.errors import ConfigurationError, PeerUnavailable
from tests.support.certificates import Authority, Identity
from tests.support.film_file import FilmFile
from tests.support.peers import until
from tests.support.raw_association import ASSOCIATE_AC, RawAssociation, echo_rq, message
from tests.support.receiver import Receiver

MakeFilm = Callable[..., FilmFile]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


@pytest.fixture
def node(authority: Authority) -> Identity:
    return authority.issue("node")


@pytest.fixture
def peer(authority: Authority) -> Identity:
    return authority.issue("peer")


@pytest.fixture
def secure(tmp_path: Path, authority: Authority, node: Identity) -> Iterator[Receiver]:
    """A receiver that wants to see a certificate."""
    with Receiver(
        tmp_path / "receiver",
        association_seconds=2,
        pdu_seconds=2,
        idle_seconds=5,
        tls_certificate=node.certificate,
        tls_key=node.key,
        tls_ca=authority.path,
    ) as running:
        yield running
        until(running.idle, 10, "no thread and no temporary file is left")


def session(receiver: Receiver, **certificates: Any) -> StoreSession:
    destination = DicomDestination(
        name="node", ae_title="DICOM_NODE", host="127.0.0.1", port=receiver.port, tls=True, **certificates
    )
    return StoreSession.of(destination, "PEER", SenderSettings(connect_seconds=5, response_seconds=10))


def test_films_arrive_over_tls_as_they_are(
    secure: Receiver, authority: Authority, peer: Identity, film: MakeFilm
) -> None:
    films = [film(number, rows=700, columns=500) for number in range(1, 4)]
    with session(
        secure, tls_ca=authority.path, tls_certificate=peer.certificate, tls_key=peer.key
    ) as sending:
        for one in films:
            assert sending.send(one.path).status == 0
    for row, one in zip(secure.instances(), films, strict=True):
        assert secure.spool.path(row["file"]).read_bytes().endswith(one.data_set)


def test_what_came_in_one_record_is_served_at_once(
    secure: Receiver, authority: Authority, peer: Identity
) -> None:
    """Nothing further arrives that could wake the receiver."""
    context = ssl.create_default_context(cafile=authority.path)
    context.load_cert_chain(peer.certificate, peer.key)
    with RawAssociation(secure.port) as wire:
        wire.socket = context.wrap_socket(wire.socket, server_hostname="127.0.0.1")
        assert wire.associate()[0] == ASSOCIATE_AC
        wire.write(message(echo_rq(1), context_id=1) + message(echo_rq(2), context_id=1))
        assert [wire.answer().message_id for _ in range(2)] == [1, 2]
        wire.release()


def test_who_shows_no_certificate_is_turned_away(secure: Receiver, authority: Authority) -> None:
    with pytest.raises(PeerUnavailable):
        session(secure, tls_ca=authority.path).echo()


def test_who_shows_the_certificate_of_a_stranger_is_turned_away(
    tmp_path: Path, secure: Receiver, authority: Authority
) -> None:
    stranger = Authority(tmp_path / "strange").issue("stranger")
    with pytest.raises(PeerUnavailable):
        session(
            secure,
            tls_ca=authority.path,
            tls_certificate=stranger.certificate,
            tls_key=stranger.key,
        ).echo()


def test_a_node_that_is_not_trusted_gets_nothing(tmp_path: Path, secure: Receiver, peer: Identity) -> None:
    other = Authority(tmp_path / "other")
    with pytest.raises(PeerUnavailable, match=r"certificate is not trusted: .*; check tls_ca"):
        session(secure, tls_ca=other.path, tls_certificate=peer.certificate, tls_key=peer.key).echo()


def test_a_certificate_for_another_host_is_not_trusted(
    tmp_path: Path, authority: Authority, peer: Identity
) -> None:
    elsewhere = authority.issue("elsewhere", "192.0.2.1")
    with (
        Receiver(
            tmp_path / "elsewhere", tls_certificate=elsewhere.certificate, tls_key=elsewhere.key
        ) as receiver,
        pytest.raises(PeerUnavailable, match="certificate is not trusted: IP address mismatch"),
    ):
        session(receiver, tls_ca=authority.path).echo()


def test_plain_dicom_is_not_answered(secure: Receiver) -> None:
    with RawAssociation(secure.port) as wire, pytest.raises((EOFError, ConnectionError)):
        wire.associate()


def test_old_versions_and_weak_ciphers_are_refused(
    secure: Receiver, authority: Authority, peer: Identity
) -> None:
    def handshake(**limits: Any) -> str | None:
        context = ssl.create_default_context(cafile=authority.path)
        context.load_cert_chain(peer.certificate, peer.key)
        for name, value in limits.items():
            if name == "ciphers":
                context.maximum_version = ssl.TLSVersion.TLSv1_2
                context.set_ciphers(value)
            else:
                setattr(context, name, value)
        with (
            socket.create_connection(("127.0.0.1", secure.port), 10) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secured,
        ):
            return secured.version()

    assert handshake() == "TLSv1.3"
    assert handshake(ciphers="ECDHE+AESGCM") == "TLSv1.2"
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(ciphers="ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256")  # CBC: no AEAD
    old = {"minimum_version": ssl.TLSVersion.TLSv1, "maximum_version": ssl.TLSVersion.TLSv1_1}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that they are old
        with pytest.raises((ssl.SSLError, ConnectionError)):
            handshake(ciphers="DEFAULT:@SECLEVEL=0", **old)


def test_peers_that_are_silent_in_the_handshake_hold_up_nobody(
    secure: Receiver, authority: Authority, peer: Identity
) -> None:
    silent = [socket.create_connection(("127.0.0.1", secure.port), 10) for _ in range(5)]
    half = socket.create_connection(("127.0.0.1", secure.port), 10)
    half.sendall(b"\x16\x03\x01\x02")  # the beginning of a ClientHello
    begun = time.monotonic()
    session(secure, tls_ca=authority.path, tls_certificate=peer.certificate, tls_key=peer.key).echo()
    assert time.monotonic() - begun < 2
    for connection in [*silent, half]:
        connection.settimeout(10)
        assert connection.recv(1 << 10) == b"", "closed when its time was up"
        connection.close()


@pytest.mark.peer
def test_dcmtk_speaks_tls_with_the_node(
    secure: Receiver, authority: Authority, peer: Identity, film: MakeFilm
) -> None:
    one = film(rows=300, columns=300)
    secured = ["+tls", peer.key, peer.certificate, "+cf", authority.path]
    done = subprocess.run(
        ["storescu", "-aec", "DICOM_NODE", *secured, "127.0.0.1", str(secure.port), str(one.path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert secure.uids() == [one.uid]


def test_without_a_ca_anybody_who_trusts_the_node_may_speak(
    tmp_path: Path, authority: Authority, node: Identity
) -> None:
    with Receiver(tmp_path / "open", tls_certificate=node.certificate, tls_key=node.key) as receiver:
        assert session(receiver, tls_ca=authority.path).echo() < 5


@pytest.mark.parametrize("missing", ["tls_certificate", "tls_key", "tls_ca"])
def test_files_that_are_missing_or_something_else_are_said_at_once(
    tmp_path: Path, authority: Authority, node: Identity, missing: str
) -> None:
    files = {"tls_certificate": node.certificate, "tls_key": node.key, "tls_ca": authority.path}
    for wrong in (tmp_path / "gone.pem", tmp_path / "other.pem"):
        (tmp_path / "other.pem").write_text("no certificate\n")
        changed = {**files, missing: wrong}
        with pytest.raises(ConfigurationError, match=rf"dicom\..*{wrong.name}"):
            tls.server_context(DicomSettings(**changed))
        destination = DicomDestination(
            name="pacs", ae_title="PACS", host="pacs", port=104, tls=True, **changed
        )
        with pytest.raises(ConfigurationError, match=rf"destination pacs: .*{wrong.name}"):
            Peer.of(destination, "NODE", SenderSettings())
    other = authority.issue("other")
    with pytest.raises(ConfigurationError, match="do not match"):
        tls.server_context(DicomSettings(tls_certificate=node.certificate, tls_key=other.key))


def test_send_and_echo_know_destinations_by_name(
    tmp_path: Path, secure: Receiver, authority: Authority, peer: Identity, film: MakeFilm
) -> None:
    (tmp_path / "node.toml").write_text(
        f'''
        [[destinations]]
        name = "node"
        ae_title = "DICOM_NODE"
        host = "127.0.0.1"
        port = {secure.port}
        tls = true
        tls_ca = "{authority.path}"
        tls_certificate = "{peer.certificate}"
        tls_key = "{peer.key}"
        '''
    )
    one = film()
    for words in (["echo", "node"], ["send", "--to", "node", str(one.path)]):
        answer = CliRunner().invoke(app, ["--config", str(tmp_path / "node.toml"), *words])
        assert answer.exit_code == 0, answer.output
    assert secure.uids() == [one.uid]


@pytest.mark.parametrize("command", ["config check", "serve", "scp", "sender"])
def test_a_wrong_certificate_ends_the_start_before_a_port_is_open(tmp_path: Path, command: str) -> None:
    environment = {
        "DICOM_NODE_DATA_DIR": str(tmp_path / "data"),
        "DICOM_NODE_DICOM__TLS_CERTIFICATE": str(tmp_path / "gone.pem"),
        "DICOM_NODE_DICOM__TLS_KEY": str(tmp_path / "gone.key"),
    }
    answer = CliRunner().invoke(app, command.split(), env=environment)
    assert isinstance(answer.exception, ConfigurationError)
    assert answer.exception.exit_code == 2
    assert "gone.pem" in str(answer.exception)
    assert not (tmp_path / "data").exists()


def test_nobody_needs_tls(receiver: Receiver) -> None:
    with RawAssociation(receiver.port) as wire:
        assert wire.associate()[0] == ASSOCIATE_AC
        wire.release()
