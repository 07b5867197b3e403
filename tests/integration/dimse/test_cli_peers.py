"""``dicom-node send`` and ``dicom-node echo`` against a real receiver."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from pydicom.uid import ComprehensiveSRStorage, RLELossless
from typer.testing import CliRunner, Result

from dicom_node.cli import peers
from dicom_node.config.settings import Settings
from dicom_node.dimse.client.address import Address
from dicom_node.errors import ConfigurationError, PeerUnavailable
from tests.support import factories
from tests.support.film_file import FilmFile
from tests.support.odd_archive import IMPLEMENTATION, OddArchive, Talk
from tests.support.peers import free_port
from tests.support.receiver import Receiver

MakeFilm = Callable[..., FilmFile]


@pytest.fixture
def run() -> Callable[..., Result]:
    app = typer.Typer()
    app.command("send")(peers.send)
    app.command("echo")(peers.echo)
    return lambda *words: CliRunner().invoke(app, [str(word) for word in words], obj=Settings())


def test_echo_tells_how_long_it_took(run: Callable[..., Result], receiver: Receiver) -> None:
    result = run("echo", f"DICOM_NODE@127.0.0.1:{receiver.port}")
    assert result.exit_code == 0, result.output
    assert " answered in " in result.stdout


def test_echo_to_nobody_is_one_sentence(run: Callable[..., Result]) -> None:
    result = run("echo", f"X@127.0.0.1:{free_port()}")
    assert isinstance(result.exception, PeerUnavailable)


def test_echo_to_a_name_that_no_resolver_takes_is_one_sentence(run: Callable[..., Result]) -> None:
    result = run("echo", "X@pacs..example:104")
    assert isinstance(result.exception, ConfigurationError)
    assert "'pacs..example' is neither a host name nor an IP address" in str(result.exception)


def test_echo_to_a_peer_that_names_no_maximum_length_is_answered(run: Callable[..., Result]) -> None:
    with OddArchive(associated=lambda talk: talk.accept(IMPLEMENTATION), stored=Talk.answer) as archive:
        result = run("echo", f"ODD@127.0.0.1:{archive.port}")
        assert " answered in " in result.output, result.exception


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:104", "X@127.0.0.1", "X@:104", "X@h:0", "X@h:99999", "A_TITLE_THAT_IS_TOO_LONG@h:104"],
)
def test_an_address_that_is_none_is_a_usage_error(run: Callable[..., Result], address: str) -> None:
    result = run("echo", address)
    assert isinstance(result.exception, ConfigurationError)
    assert result.exception.exit_code == 2


def test_addresses_may_be_names_and_ipv6() -> None:
    assert Address.parse("PACS@pacs.example.org:104") == Address("PACS", "pacs.example.org", 104)
    assert Address.parse("MY PACS@[::1]:11112") == Address("MY PACS", "::1", 11112)


@pytest.mark.parametrize("jobs", [1, 3])
def test_send_takes_files_and_folders_and_tells_what_it_left(
    run: Callable[..., Result], receiver: Receiver, film: MakeFilm, tmp_path: Path, jobs: int
) -> None:
    folder = tmp_path / "folder" / "below"
    folder.mkdir(parents=True)
    films = [
        film(number, transfer_syntax=RLELossless if number % 2 else "1.2.840.10008.1.2.1")
        for number in range(1, 8)
    ]
    for number, one in enumerate(films[1:]):
        factories.write(one.ds, folder / f"{number}.dcm")
    (folder / "DICOMDIR").write_bytes(b"anything")
    (folder / "README.txt").write_text("not DICOM")
    to = f"DICOM_NODE@127.0.0.1:{receiver.port}"
    result = run("send", films[0].path, folder.parent, "--to", to, "--jobs", jobs)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"7 sent to {to}, 1 not DICOM"
    assert "README.txt" in result.stderr
    assert "DICOMDIR" not in result.output
    assert sorted(receiver.uids()) == sorted(one.uid for one in films)


def test_send_names_what_was_refused_and_goes_on(
    run: Callable[..., Result], receiver: Receiver, film: MakeFilm, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    factories.write(film(1, sop_class=ComprehensiveSRStorage).ds, folder / "a-report.dcm")
    factories.write(film(2).ds, folder / "b-film.dcm")
    result = run("send", folder, "--to", f"DICOM_NODE@127.0.0.1:{receiver.port}", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["sent"], report["failed"], report["not_dicom"]) == (1, 1, 0)
    (problem,) = report["problems"]
    assert problem["file"].endswith("a-report.dcm")
    assert "Comprehensive SR Storage" in problem["reason"]


def test_send_to_nobody_does_not_try_every_file(
    run: Callable[..., Result], film: MakeFilm, tmp_path: Path
) -> None:
    for number in range(1, 4):
        film(number)
    result = run("send", tmp_path / "films", "--to", f"X@127.0.0.1:{free_port()}", "--json")
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert (report["sent"], report["failed"]) == (0, 3)
    assert [("not tried" in problem["reason"]) for problem in report["problems"]] == [False, True, True]


def test_send_calls_with_the_given_title(
    run: Callable[..., Result], receiver: Receiver, film: MakeFilm
) -> None:
    to = f"DICOM_NODE@127.0.0.1:{receiver.port}"
    assert run("send", film().path, "--to", to, "--calling-ae", "MODALITY").exit_code == 0
    assert receiver.instances()[0]["calling_ae"] == "MODALITY"


def test_send_without_anything_to_send_fails(run: Callable[..., Result], tmp_path: Path) -> None:
    assert run("send", tmp_path, "--to", "X@127.0.0.1:104").exit_code == 1
    assert run("send", tmp_path / "missing", "--to", "X@127.0.0.1:104").exit_code == 2
