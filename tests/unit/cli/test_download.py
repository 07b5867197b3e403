"""Downloads from a real server: continued after a cut, checked by size and digest, complete or absent."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dicom_node.cli import download as module
from dicom_node.cli.download import Unreachable, download
from dicom_node.errors import ConfigurationError, NodeError
from tests.support.file_server import FileServer, serving
from tests.support.peers import free_port

WHOLE = np.random.default_rng(5).bytes(3_000_000)
SHA256 = "sha256:" + hashlib.sha256(WHOLE).hexdigest()


@pytest.fixture
def web(tmp_path: Path) -> Iterator[FileServer]:
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "films.tgz").write_bytes(WHOLE)
    with serving(tmp_path / "served") as web:
        yield web


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tmp_path / "here" / "films.tgz"


def fetch(web: FileServer, target: Path, **options) -> None:
    download(f"{web.url}/films.tgz", target, **{"waits": (0, 0), **options})


def test_a_file_arrives_whole_and_its_progress_is_told(web: FileServer, target: Path):
    told: list[tuple[int, int | None]] = []
    fetch(web, target, size=len(WHOLE), digest=SHA256, progress=lambda *step: told.append(step))
    assert target.read_bytes() == WHOLE
    assert [path.name for path in target.parent.iterdir()] == ["films.tgz"]
    assert told[0] == (0, len(WHOLE))
    assert told[-1] == (len(WHOLE), len(WHOLE))
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_a_cut_connection_is_resumed_where_it_broke(web: FileServer, target: Path):
    web.cuts = [1_200_000, 700_000]
    fetch(web, target, digest=SHA256)
    assert target.read_bytes() == WHOLE
    assert [asked for _, asked in web.asked] == ["", "bytes=1200000-", "bytes=1900000-"]


def test_what_an_earlier_call_received_is_not_asked_for_again(web: FileServer, target: Path):
    web.cuts = [1_000_000, 0]
    with pytest.raises(Unreachable, match="connection was cut"):
        fetch(web, target, waits=())
    with pytest.raises(Unreachable, match="connection was cut"):
        fetch(web, target, waits=())
    assert not target.exists()
    fetch(web, target, digest=SHA256)
    assert target.read_bytes() == WHOLE
    assert web.asked[-1][1] == "bytes=1000000-"


def test_attempts_begin_anew_whenever_something_came(web: FileServer, target: Path):
    web.cuts = [100_000] * 12
    fetch(web, target, waits=(0,), digest=SHA256)
    assert target.read_bytes() == WHOLE
    assert len(web.asked) == 13


def test_a_server_without_ranges_sends_the_whole_anew(web: FileServer, target: Path):
    web.ranges, web.cuts = False, [1_000_000]
    fetch(web, target, digest=SHA256)
    assert target.read_bytes() == WHOLE
    assert len(web.asked) == 2


def test_a_server_that_tells_no_length_is_believed_with_a_digest(web: FileServer, target: Path):
    web.lengths = False
    fetch(web, target, digest=SHA256)
    assert target.read_bytes() == WHOLE


def test_a_file_that_was_whole_but_not_yet_named_is_taken(web: FileServer, target: Path):
    target.with_name("films.tgz.part").write_bytes(WHOLE)
    fetch(web, target, size=len(WHOLE), digest=SHA256)
    assert target.read_bytes() == WHOLE


def test_the_rest_of_another_file_is_thrown_away(web: FileServer, target: Path):
    target.with_name("films.tgz.part").write_bytes(WHOLE * 2)
    fetch(web, target, digest=SHA256)
    assert target.read_bytes() == WHOLE


def test_a_wrong_digest_is_refused_and_nothing_stays(web: FileServer, target: Path):
    target.with_name("films.tgz.part").write_bytes(b"other" * 100)
    with pytest.raises(NodeError, match=r"digest [0-9a-f]{64}, not [0-9a-f]{64}, and was deleted"):
        fetch(web, target, digest=SHA256)
    assert list(target.parent.iterdir()) == []
    fetch(web, target, digest="md5:" + hashlib.md5(WHOLE).hexdigest())
    assert target.read_bytes() == WHOLE


def test_a_file_of_another_size_is_not_begun(web: FileServer, target: Path):
    with pytest.raises(NodeError, match="on the server has 3000000 bytes, not the expected 42 bytes"):
        fetch(web, target, size=42)
    assert list(target.parent.iterdir()) == []


def test_a_web_page_is_no_film(web: FileServer, target: Path):
    web.content_type = "text/html; charset=utf-8"
    with pytest.raises(NodeError, match="a web page instead of the file"):
        fetch(web, target)
    assert list(target.parent.iterdir()) == []


def test_a_server_that_is_busy_is_asked_again_and_one_that_refuses_is_not(web: FileServer, target: Path):
    web.refusals = [503, 429]
    fetch(web, target)
    assert target.read_bytes() == WHOLE
    web.refusals = [403, 403]
    with pytest.raises(NodeError, match="the server answered 403 Forbidden"):
        fetch(web, target)
    assert len(web.asked) == 4


def test_nobody_there_is_one_sentence_at_once(target: Path):
    port = free_port()
    with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{port} cannot be reached \(Connection refused\)"):
        download(f"http://127.0.0.1:{port}/films.tgz", target, waits=(3600,))


def test_a_server_that_does_not_answer_in_time_is_one_sentence(target: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_TIMEOUT_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{port} cannot be reached \(timed out\)"):
            download(f"http://127.0.0.1:{port}/films.tgz", target, waits=(3600,))


def test_a_file_at_another_address_is_resumed_there(web: FileServer, target: Path):
    web.moved["/old.tgz"] = "/films.tgz"
    web.cuts = [1_200_000]
    download(f"{web.url}/old.tgz", target, digest=SHA256, waits=(0,))
    assert target.read_bytes() == WHOLE
    assert web.asked[-1] == ("/films.tgz", "bytes=1200000-")


def test_a_disk_that_does_not_take_it_is_no_fault_of_the_net(web: FileServer, tmp_path: Path):
    with pytest.raises(NodeError, match="cannot be written: No such file or directory"):
        fetch(web, tmp_path / "absent" / "films.tgz")
    assert len(web.asked) == 1


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/films.tgz", "films.tgz"])
def test_only_addresses_of_the_web_are_opened(url: str, target: Path):
    with pytest.raises(ConfigurationError, match="not an address that begins with http"):
        download(url, target)
