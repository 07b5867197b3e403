"""DICOMweb services that redirect, flood, trickle and compress: nothing goes elsewhere, and all ends."""

from __future__ import annotations

import contextlib
import gzip
import socketserver
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.config.destinations import DicomwebDestination
from dicom_node.config.sections import SenderSettings
from dicom_node.dicomweb.client import DicomWebSession
from dicom_node.errors import PeerError, PeerUnavailable
from tests.support.certificates import Authority
from tests.support.dicomweb_service import DicomwebService, running_service
from tests.support.film_file import FilmFile

MakeFilm = Callable[..., FilmFile]
MIB = 1 << 20
HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n"
JSON = HEAD + b"Content-Type: application/dicom+json\r\n"
PARTS = HEAD + b'Content-Type: multipart/related; type="application/dicom"; boundary=x\r\n'
PART = b"--x\r\nContent-Type: application/dicom\r\n\r\n"
PREFIX = bytes(128) + b"DICM"


def session(url: str, seconds: float = 2, **options: object) -> DicomWebSession:
    destination = DicomwebDestination(name="web", kind="dicomweb", url=url, **options)
    return DicomWebSession(destination, SenderSettings(connect_seconds=2, response_seconds=seconds))


def bomb(mebibytes: int) -> bytes:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(squeeze.compress(b" " * MIB) for _ in range(mebibytes)) + squeeze.flush()


BOMB = bomb(600)


def forever(head: bytes, piece: bytes, pause: float = 0.0) -> Iterator[bytes]:
    yield head
    while True:
        time.sleep(pause)
        yield piece


def many(head: bytes, piece: bytes, count: int) -> Iterator[bytes]:
    yield head
    for _ in range(count):
        yield piece


@contextlib.contextmanager
def answering(pieces: Callable[[], Iterator[bytes]]) -> Iterator[str]:
    """Run a service that writes the same bytes whatever it is asked; yield its address."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            with contextlib.suppress(OSError):
                for piece in pieces():
                    self.request.sendall(piece)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/dicom-web"
        finally:
            server.shutdown()
            thread.join()


def memory(name: str) -> int:
    """Memory of this process now (VmRSS) or at its peak (VmHWM), in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name)) << 10


QUERIES = {
    "blanks without end": lambda: forever(JSON + b"\r\n", b" " * MIB),
    "a compressed bomb": lambda: many(JSON + b"Content-Encoding: gzip\r\n\r\n", BOMB, 1),
    "a bomb in a bomb": lambda: many(
        JSON + b"Content-Encoding: gzip, gzip\r\n\r\n", gzip.compress(BOMB, 9), 1
    ),
    "millions of values": lambda: many(JSON + b"\r\n[", b"{}," * 1_300_000 + b"{}]", 1),
    "values in values": lambda: many(JSON + b"\r\n", b"[" * 90_000, 1),
    "headers without end": lambda: forever(JSON, b"X-Long: " + b"a" * 60_000 + b"\r\n"),
    "a header that trickles": lambda: forever(JSON, b"x", 0.2),
    "a body that trickles": lambda: forever(JSON + b"\r\n", b" ", 0.2),
    "informational answers without end": lambda: forever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
    "trailers without end": lambda: forever(
        JSON + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n" * 100, 0.02
    ),
    "a chunk size without end": lambda: forever(JSON + b"Transfer-Encoding: chunked\r\n\r\n", b"0" * MIB),
    "nothing in gzip, without end": lambda: forever(
        JSON + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"") * 1000
    ),
}
RETRIEVALS = {
    "a part that is no instance": lambda: forever(PARTS + b"\r\n" + PART, b" " * MIB),
    "an instance that is none": lambda: many(PARTS + b"\r\n" + PART + PREFIX, b" " * MIB, 600),
    "a compressed bomb": lambda: many(PARTS + b"Content-Encoding: gzip\r\n\r\n", BOMB, 1),
    "thousands of instances": lambda: forever(PARTS + b"\r\n", PART + PREFIX + b"\r\n"),
    "a part header without end": lambda: forever(PARTS + b"\r\n--x\r\n", b"a" * MIB),
    "another type": lambda: forever(JSON + b"\r\n", b" " * MIB),
    "a body that trickles": lambda: forever(PARTS + b"\r\n" + PART, b" ", 0.2),
}


@pytest.mark.parametrize("answer", QUERIES.values(), ids=QUERIES.keys())
def test_a_query_costs_little_whatever_is_answered(answer: Callable[[], Iterator[bytes]]) -> None:
    _costs_little(answer, lambda web: web.studies("P1", "20200101", "20210101"))


@pytest.mark.parametrize("answer", RETRIEVALS.values(), ids=RETRIEVALS.keys())
def test_a_retrieval_costs_little_whatever_is_answered(answer: Callable[[], Iterator[bytes]]) -> None:
    def fetch(web: DicomWebSession) -> None:
        for file in web.fetch("1.2", ["1.3"]):
            file.close()

    _costs_little(answer, fetch)


def _costs_little(answer: Callable[[], Iterator[bytes]], ask: Callable[[DicomWebSession], object]) -> None:
    with answering(answer) as url:
        web = session(url)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before, begun = memory("VmRSS"), time.monotonic()
        with pytest.raises(PeerUnavailable):
            ask(web)
        assert memory("VmHWM") - before < 50 * MIB
        assert time.monotonic() - begun < 20
        web.release()


def test_a_service_that_does_not_read_is_given_up(film: MakeFilm) -> None:
    one = film(rows=3000, columns=3000)  # more than the buffers of both sides

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                while self.request.recv(1):
                    time.sleep(0.1)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        web = session(f"http://127.0.0.1:{server.server_address[1]}", seconds=1)
        begun = time.monotonic()
        with pytest.raises(PeerUnavailable):
            web.send(one.path)
        assert time.monotonic() - begun < 1 + one.path.stat().st_size / 65536 + 5
        server.shutdown()


# -- redirects -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [300, 301, 302, 303, 304, 305, 307, 308, 399])
def test_an_instance_never_goes_elsewhere_and_is_not_taken_for_delivered(
    tmp_path: Path, film: MakeFilm, status: int
) -> None:
    authority = Authority(tmp_path / "ca")
    token = tmp_path / "token"
    token.write_text("SECRET")
    token.chmod(0o600)
    with running_service() as other, running_service(authority.issue("node")) as web:
        web.status, web.answer = status, None
        for target in (f"{other.url}/steal", "//127.0.0.1/studies", f"{web.url}/other", None):
            web.headers = {} if target is None else {"Location": target}
            client = session(web.url, token_file=token, tls_ca=authority.path)
            with pytest.raises(PeerError):
                client.send(film().path)
            client.release()
        assert other.requests == []
        assert {(method, path) for method, path, _, _ in web.requests} == {("POST", "/dicom-web/studies")}


@pytest.mark.parametrize(
    "ask",
    [
        lambda web: web.ping(),
        lambda web: web.studies("P1", "20200101", "20210101"),
        lambda web: web.series("1.2"),
        lambda web: list(web.fetch("1.2", ["1.3"])),
    ],
    ids=["ping", "studies", "series", "fetch"],
)
def test_a_query_follows_no_redirect_to_another_place(
    tmp_path: Path, ask: Callable[[DicomWebSession], object]
) -> None:
    token = tmp_path / "token"
    token.write_text("SECRET")
    token.chmod(0o600)
    with running_service() as other, running_service() as web:
        other.found = web.found = []
        named = web.url.replace("127.0.0.1", "localhost")
        for target in (other.url, named, web.url.replace("http:", "https:"), "//localhost/x", "gopher://x/"):
            web.found, web.status, web.headers = None, 302, {"Location": target}
            with pytest.raises(PeerUnavailable, match="not followed"):
                ask(session(web.url, token_file=token))
        assert other.requests == []


def test_a_query_follows_a_redirect_to_the_same_place_thrice(web: DicomwebService) -> None:
    web.status, web.headers = 302, {"Location": "/dicom-web/studies/"}
    with pytest.raises(PeerUnavailable):
        session(web.url).ping()
    assert [path for _, path, _, _ in web.requests[1:]] == ["/dicom-web/studies/"] * 3


@pytest.fixture
def web() -> Iterator[DicomwebService]:
    with running_service() as told:
        yield told


def test_a_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    with running_service(authority.issue("other", host="pacs.example")) as web:
        with pytest.raises(PeerUnavailable, match="TLS failed"):
            session(web.url, tls_ca=authority.path).ping()
        assert web.requests == []


def test_entities_of_an_answer_are_not_expanded(web: DicomwebService, film: MakeFilm) -> None:
    web.kind = "application/dicom+xml"
    web.raw = (
        b'<!DOCTYPE a [<!ENTITY a "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa">]>'
        b"<NativeDicomModel>" + b"&a;" * 900_000 + b"</NativeDicomModel>"
    )
    with pytest.raises(PeerUnavailable, match="no DICOM response"):
        session(web.url).send(film().path)
