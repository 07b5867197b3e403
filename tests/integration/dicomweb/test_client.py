"""DICOMweb services that want a token, judge an instance, are away, or are not who they say."""

from __future__ import annotations

import base64
import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.uid import JPEGBaseline8Bit

from dicom_node.config.destinations import DicomwebDestination
from dicom_node.config.sections import SenderSettings
from dicom_node.dicomweb import client
from dicom_node.dicomweb.client import DicomWebSession
from dicom_node.dimse.commitment import InstanceReference
from dicom_node.errors import BadInstance, ConfigurationError, InstanceDeferred, PeerRejected, PeerUnavailable
from dicom_node.results.encoding.compression import decompressed
from tests.support.certificates import Authority
from tests.support.dicomweb_service import STORED, DicomwebService, running_service
from tests.support.film_file import FilmFile
from tests.support.peers import free_port
from tests.support.result_objects import write_picture

MakeFilm = Callable[..., FilmFile]


def failed(reason: int) -> dict[str, Any]:
    return {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [reason]}}]}}


@pytest.fixture
def web() -> Iterator[DicomwebService]:
    with running_service() as told:
        yield told


def session(url: str, **options: Any) -> DicomWebSession:
    destination = DicomwebDestination(name="web", kind="dicomweb", url=url, **options)
    return DicomWebSession(destination, SenderSettings(connect_seconds=5, response_seconds=5))


def test_an_instance_is_posted_as_it_is(web: DicomwebService, film: MakeFilm) -> None:
    one = film(rows=700, columns=900)  # more than one chunk
    with_session = session(web.url)
    assert with_session.send(one.path).meaning.outcome.delivered
    with_session.release()
    ((method, path, headers, body),) = web.requests
    assert (method, path) == ("POST", "/dicom-web/studies")
    assert headers["Content-Type"].startswith('multipart/related; type="application/dicom"')
    assert "Authorization" not in headers
    assert one.data_set in body


@pytest.mark.parametrize("status", [415, 400])
def test_a_service_that_refuses_a_compressed_picture_gets_it_uncompressed(
    tmp_path: Path, web: DicomwebService, status: int
) -> None:
    path = write_picture(tmp_path, "jpeg")
    web.refused, web.refused_with = JPEGBaseline8Bit.encode(), status
    session(web.url).send(path)
    first, second = (body for _, _, _, body in web.requests)
    assert path.read_bytes() in first
    assert decompressed(path).PixelData in second
    assert dcmread(path).SOPInstanceUID.encode() in second


def test_a_token_and_a_password_are_read_anew_for_each_request(
    tmp_path: Path, web: DicomwebService, film: MakeFilm
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("first\n")
    bearer = session(web.url, token_file=secret)
    bearer.send(film().path)
    secret.write_text("second\n")
    bearer.send(film().path)
    basic = session(web.url, user="node", password_file=secret)
    basic.send(film().path)
    assert [headers["Authorization"] for _, _, headers, _ in web.requests] == [
        "Bearer first",
        "Bearer second",
        "Basic " + base64.b64encode(b"node:second").decode(),
    ]
    secret.unlink()
    with pytest.raises(PeerUnavailable, match="No such file"):
        bearer.send(film().path)


@pytest.mark.parametrize(
    ("status", "answer", "error"),
    [
        (200, STORED, None),
        (200, None, None),
        (200, failed(0xA700), InstanceDeferred),
        (202, failed(0xC000), PeerRejected),
        (202, failed(0x0111), None),
        (409, failed(0xA900), PeerRejected),
        (409, failed(0x0110), InstanceDeferred),
        (409, failed(0x0111), None),
        (409, failed(45070), None),
        (409, {"error": "The instance was already stored."}, None),
        (409, None, PeerRejected),
        (400, None, PeerRejected),
        (413, None, PeerRejected),
        (401, None, PeerUnavailable),
        (403, None, PeerUnavailable),
        (404, None, PeerUnavailable),
        (429, None, PeerUnavailable),
        (500, None, InstanceDeferred),
        (502, None, PeerUnavailable),
        (503, None, PeerUnavailable),
    ],
)
def test_each_answer_has_its_meaning(
    web: DicomwebService, film: MakeFilm, status: int, answer: object, error: type[Exception] | None
) -> None:
    web.status, web.answer = status, answer
    if error is None:
        session(web.url).send(film().path)
    else:
        with pytest.raises(error, match=r"http://127\.0\.0\.1:\d+/dicom-web: STOW-RS"):
            session(web.url).send(film().path)
    posts = [method for method, _, _, _ in web.requests if method == "POST"]
    assert len(posts) == 1
    # What is refused although it may have arrived before is asked for.
    assert len(web.requests) == 1 + (status == 409 and error is not None)


@pytest.mark.parametrize("kind", ["application/dicom+json", "application/dicom+xml", "text/html", ""])
@pytest.mark.parametrize("content", [b"<not", b"{", b"[1]", b"<html/>", b"\xff"])
def test_an_answer_that_is_nonsense_stops_nothing(
    web: DicomwebService, film: MakeFilm, kind: str, content: bytes
) -> None:
    web.kind, web.raw = kind, content
    sending = session(web.url)
    for ask in (
        lambda: sending.send(film().path),
        lambda: sending.find([InstanceReference("1", "2", "3", "4")]),
    ):
        with contextlib.suppress(PeerUnavailable):
            ask()


def about(uid: str, reason: int) -> dict[str, Any]:
    return {"00081155": {"vr": "UI", "Value": [uid]}, "00081197": {"vr": "US", "Value": [reason]}}


@pytest.mark.parametrize("kind", ["application/dicom+json; charset=utf-8", "application/json", "text/json"])
@pytest.mark.parametrize(("status", "listed"), [(200, False), (202, True), (202, False)])
def test_an_answer_about_several_instances_is_read_for_the_one_that_was_sent(
    web: DicomwebService, film: MakeFilm, kind: str, status: int, listed: bool
) -> None:
    web.status, web.kind, one = status, kind, film()
    items = [about("1.2.3.4", 0xC000), *([about(one.uid, 0xA900)] if listed else [])]
    web.answer = {"00081198": {"vr": "SQ", "Value": items}}
    with pytest.raises(PeerRejected, match="A900") if listed else contextlib.nullcontext():
        session(web.url).send(one.path)


@pytest.mark.parametrize("refused", [(409, {}), (409, failed(272)), (200, {"error": "no DICOM"})])
def test_what_is_refused_is_delivered_when_the_service_has_it(
    web: DicomwebService, film: MakeFilm, refused: tuple[int, Any]
) -> None:
    one = film()
    web.status, web.answer = refused
    web.found = [{"00080018": {"vr": "UI", "Value": [one.uid]}}]
    assert session(web.url).send(one.path).meaning.outcome.delivered
    web.found = []
    with pytest.raises((InstanceDeferred, PeerRejected, PeerUnavailable)):
        session(web.url).send(one.path)


def test_a_redirect_is_not_followed_and_names_the_address(web: DicomwebService, film: MakeFilm) -> None:
    web.status, web.headers = 302, {"Location": "https://pacs.example/dicom-web/studies"}
    with pytest.raises(PeerUnavailable, match=r"302 Found; set url to https://pacs\.example/dicom-web$"):
        session(web.url).send(film().path)
    assert len(web.requests) == 1


@pytest.mark.parametrize("kind", ["application/dicom+json", 'multipart/related; type="application/dicom"'])
def test_an_answer_without_end_is_given_up(web: DicomwebService, film: MakeFilm, kind: str) -> None:
    web.kind, web.raw = kind, b" " * (5 << 20)
    with pytest.raises(PeerUnavailable, match="an answer is longer than 4 MiB"):
        session(web.url).send(film().path)


def test_instances_without_end_are_given_up(web: DicomwebService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "_MAX_SERIES_BYTES", 1 << 20)
    part = b"--x\r\n\r\n" + bytes(128) + b"DICM"
    web.kind, web.raw = 'multipart/related; type="application/dicom"; boundary=x', part + b" " * (2 << 20)
    with pytest.raises(PeerUnavailable, match="an answer is longer than 1 MiB"):
        list(session(web.url).fetch("1.2.5", ["1.2.6"]))


@pytest.mark.parametrize("multipart", [True, False])
def test_instances_come_as_they_are(web: DicomwebService, film: MakeFilm, multipart: bool) -> None:
    one, other = film(1).path.read_bytes(), film(2, rows=700, columns=900).path.read_bytes()
    if multipart:
        web.kind = 'multipart/related; type="application/dicom"; boundary="a b"'
        web.raw = b"".join(
            b"\r\n--a b\r\nContent-Type: application/dicom\r\n\r\n" + each for each in (one, other)
        )
        web.raw += b"\r\n--a b--\r\n"
    else:
        web.kind, web.raw = "application/dicom", one
    contents = []
    for file in session(web.url).fetch("1.2.5", ["1.2.6"]):
        with file:
            contents.append(file.read())
    assert contents == ([one, other] if multipart else [one])


def test_only_the_proxy_of_the_settings_is_used(
    web: DicomwebService, film: MakeFilm, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    session(web.url).send(film().path)
    with running_service() as proxy:
        session("http://pacs.invalid/dicom-web", proxy=proxy.url.removesuffix("/dicom-web")).send(film().path)
        ((method, path, _, _),) = proxy.requests
        assert (method, path) == ("POST", "http://pacs.invalid/dicom-web/studies")
    with pytest.raises(PeerUnavailable, match="see proxy"):
        session("http://pacs.invalid/dicom-web", proxy=f"http://127.0.0.1:{free_port()}").send(film().path)


def test_what_the_service_finds_is_told_by_uid(web: DicomwebService) -> None:
    web.answer = [{"00080018": {"vr": "UI", "Value": ["1.2.3.4"]}}]
    references = [InstanceReference("1.2", f"1.2.3.{number}", "1.2.5", "1.2.6") for number in (4, 5)]
    assert session(web.url).find(references) == {"1.2.3.4"}
    paths = [path for _, path, _, _ in web.requests]
    assert paths[0].startswith("/dicom-web/studies/1.2.5/series/1.2.6/instances?")
    assert "1.2.3.4" in paths[0]


def test_a_service_that_is_away_is_unavailable(film: MakeFilm) -> None:
    with pytest.raises(PeerUnavailable, match=r"cannot connect: .*Connection refused; is it running"):
        session(f"http://127.0.0.1:{free_port()}/dicom-web").send(film().path)


def test_what_is_no_dicom_file_is_told_apart(tmp_path: Path, web: DicomwebService) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM" * 100)
    with pytest.raises(BadInstance):
        session(web.url).send(tmp_path / "notes.txt")
    assert web.requests == []


def test_certificates_are_checked_on_both_sides(tmp_path: Path, film: MakeFilm) -> None:
    authority, other = Authority(tmp_path / "ours"), Authority(tmp_path / "other")
    mine = authority.issue("mine")
    shown = {"tls_certificate": mine.certificate, "tls_key": mine.key}
    with running_service(authority.issue("pacs"), authority.path) as web:
        session(web.url, tls_ca=authority.path, **shown).send(film().path)
        with pytest.raises(PeerUnavailable, match=r"TLS failed: .*see tls_ca"):
            session(web.url, tls_ca=other.path, **shown).send(film().path)
        with pytest.raises(PeerUnavailable):
            session(web.url, tls_ca=authority.path).send(film().path)
        assert len(web.requests) == 1
    with pytest.raises(ConfigurationError, match="destination web: tls_ca"):
        session("https://127.0.0.1/dicom-web", tls_ca=tmp_path / "gone.pem")


def test_no_uid_reaches_the_log(
    web: DicomwebService, film: MakeFilm, caplog: pytest.LogCaptureFixture
) -> None:
    one = film()
    with caplog.at_level(logging.DEBUG):
        sending = session(web.url)
        sending.send(one.path)
        web.answer = []
        sending.find([InstanceReference.of(one.path)])
    assert one.uid not in caplog.text
    assert str(one.ds.StudyInstanceUID) not in caplog.text
