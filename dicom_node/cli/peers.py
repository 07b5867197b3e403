"""Commands that talk to another DICOM application: is it there, and take these files."""

from __future__ import annotations

import json
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dicom_node.cli.context import settings_of
from dicom_node.config.sections import AETitle, DicomDestination
from dicom_node.config.settings import Settings
from dicom_node.errors import BadInstance, ConfigurationError, PeerError, PeerUnavailable

if TYPE_CHECKING:
    from dicom_node.dimse.client.scu import StoreSession

_ADDRESS = re.compile(r"(?P<ae>[^@]+)@(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5})")
_SENT, _FAILED, _NOT_DICOM = "sent", "failed", "not DICOM"

_CallingAE = Annotated[
    str | None, typer.Option("--calling-ae", help="our AE title; the configured one when absent")
]


@dataclass(frozen=True, slots=True)
class Address:
    """Where a peer listens, written AE@HOST:PORT; an IPv6 address stands in brackets."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read an address.

        Raises
        ------
        ConfigurationError
            When it is none.
        """
        found = _ADDRESS.fullmatch(text)
        if not found or not 0 < int(found["port"]) < 1 << 16:
            raise ConfigurationError(f"{text}: give the peer as AE@HOST:PORT, such as PACS@192.0.2.7:104")
        return cls(_ae_title(found["ae"]), found["host"].strip("[]"), int(found["port"]))


def echo(
    ctx: typer.Context,
    peer: Annotated[
        str, typer.Argument(metavar="AE@HOST:PORT", help="or the name of a configured DICOM destination")
    ],
    calling_ae: _CallingAE = None,
) -> None:
    """Ask whether a DICOM application is there (C-ECHO)."""
    from dicom_node.dimse.client.peer import Peer

    settings = settings_of(ctx)
    asked = Peer.of(_peer(peer, settings), _ae_title(calling_ae or settings.dicom.ae_title), settings.sender)
    seconds = asked.echo()
    typer.echo(f"{peer} answered in {seconds * 1000:.0f} ms")


def send(
    ctx: typer.Context,
    paths: Annotated[
        list[Path], typer.Argument(exists=True, help="files and folders; folders with all below")
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to", metavar="AE@HOST:PORT", help="who is to get them, or the name of a DICOM destination"
        ),
    ],
    calling_ae: _CallingAE = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, max=64, help="associations at once")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Send DICOM files to a DICOM application (C-STORE), as they are.

    Exit code 0 when every DICOM file was taken, 1 when one was not, 2 for wrong usage.
    """
    from dicom_node.dimse.client.scu import StoreSession

    warnings.simplefilter("ignore")  # about odd values in files: the peer is the judge of those
    settings = settings_of(ctx)
    peer = _peer(to, settings)
    files = [file for path in paths for file in _files_of(path)]
    report = _Report(Console(stderr=True, highlight=False, soft_wrap=True), quiet=as_json, total=len(files))

    def session() -> StoreSession:
        return StoreSession.of(peer, _ae_title(calling_ae or settings.dicom.ae_title), settings.sender)

    with report:
        _send_all(files, [session() for _ in range(min(jobs, len(files)))], report)
    if as_json:
        typer.echo(json.dumps(report.as_json(), indent=2))
    else:
        typer.echo(report.summary(to))
    # Counted from the files, so that one that nobody counted is not taken for sent.
    if not report.counts[_SENT] or report.counts[_SENT] + report.counts[_NOT_DICOM] < len(files):
        raise typer.Exit(1)


def _peer(text: str, settings: Settings) -> DicomDestination:
    """Return the destination of that name, with its certificates, or the one at that address."""
    for each in settings.destinations:
        if isinstance(each, DicomDestination) and each.name == text:
            return each
    address = Address.parse(text)
    return DicomDestination(name="peer", ae_title=address.ae_title, host=address.host, port=address.port)


def _ae_title(text: str) -> str:
    try:
        return str(TypeAdapter(AETitle).validate_python(text))
    except ValidationError as error:
        raise ConfigurationError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None


def _files_of(path: Path) -> Iterator[Path]:
    """Yield a file, or every file below a folder in the order of names; a DICOMDIR is no instance."""
    for entry in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if entry.is_file() and entry.name.upper() != "DICOMDIR":
            yield entry


class _Report:
    """What became of each file, shown while it happens and summed up at the end."""

    def __init__(self, console: Console, *, quiet: bool, total: int) -> None:
        self.counts: Counter[str] = Counter()
        self._problems: list[dict[str, str]] = []
        self._console = console
        self._lock = threading.Lock()
        self._progress = Progress(
            TextColumn("sending"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=quiet or not console.is_terminal,
        )
        self._task = self._progress.add_task("send", total=total)
        self._quiet = quiet

    def __enter__(self) -> None:
        self._progress.start()

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def note(self, path: Path, outcome: str, why: str = "") -> None:
        """Count a file; name it when it was not sent."""
        with self._lock:
            self.counts[outcome] += 1
            self._progress.advance(self._task)
            if why:
                self._problems.append({"file": str(path), "outcome": outcome, "reason": why})
                if not self._quiet:
                    self._console.print(f"{outcome}: {why}", markup=False)

    def summary(self, to: str) -> str:
        """Return the last line."""
        others = "".join(f", {self.counts[key]} {key}" for key in (_FAILED, _NOT_DICOM) if self.counts[key])
        return f"{self.counts[_SENT]} sent to {to}{others}"

    def as_json(self) -> dict[str, object]:
        """Return the counts and every file that was not sent."""
        return {
            "sent": self.counts[_SENT],
            "failed": self.counts[_FAILED],
            "not_dicom": self.counts[_NOT_DICOM],
            "problems": self._problems,
        }


def _send_all(files: Sequence[Path], sessions: Sequence[StoreSession], report: _Report) -> None:
    """Send the files over the sessions; each takes the next file when it is done with its own."""
    waiting: SimpleQueue[Path] = SimpleQueue()
    for file in files:
        waiting.put(file)
    threads = [
        threading.Thread(target=_send_from, args=(waiting, session, report), daemon=True)
        for session in sessions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _send_from(waiting: SimpleQueue[Path], session: StoreSession, report: _Report) -> None:
    away = ""
    with session:
        while True:
            try:
                path = waiting.get_nowait()
            except Empty:
                return
            if away:
                report.note(path, _FAILED, f"{path}: not tried: {away}")
                continue
            try:
                session.send(path)
            except BadInstance:
                report.note(path, _NOT_DICOM, f"{path}: no DICOM file")
            except PeerError as error:
                # A peer that cannot be reached would let every further file wait for its time-out.
                away = str(error) if isinstance(error, PeerUnavailable) else ""
                report.note(path, _FAILED, f"{path}: {error}")
            except OSError as error:
                report.note(path, _FAILED, f"{path}: {error.strerror}")
            else:
                report.note(path, _SENT)
