"""``echo`` and ``send``: ask whether another DICOM application answers, and send files to it."""

from __future__ import annotations

import json
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from dicom_node.cli.context import settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import Terminal, say
from dicom_node.dimse.client.address import checked_ae_title, named_peer
from dicom_node.errors import BadInstance, PeerError, PeerUnavailable

if TYPE_CHECKING:
    from dicom_node.dimse.client.storage_scu import StoreSession

_SENT, _FAILED, _NOT_DICOM = "sent", "failed", "not DICOM"

_CallingAE = Annotated[
    str | None,
    typer.Option("--calling-ae", help="calling AE title; the configured one (dicom.ae_title) if absent"),
]


def echo(
    ctx: typer.Context,
    peer: Annotated[
        str,
        typer.Argument(
            metavar="AE@HOST:PORT", help="address of a peer, or the name of a configured DICOM destination"
        ),
    ],
    calling_ae: _CallingAE = None,
) -> None:
    """Ask whether a DICOM application answers (C-ECHO)."""
    from dicom_node.dimse.client.peer import Peer

    settings = settings_of(ctx)
    asked = Peer.of(
        named_peer(peer, settings), checked_ae_title(calling_ae or settings.dicom.ae_title), settings.sender
    )
    seconds = asked.echo()
    say(f"{peer} answered in {seconds * 1000:.0f} ms")


def send(
    ctx: typer.Context,
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH", exists=True, help="DICOM files, or folders with their subfolders"),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="AE@HOST:PORT",
            help="address of a peer, or the name of a configured DICOM destination",
        ),
    ],
    calling_ae: _CallingAE = None,
    jobs: Annotated[
        int, typer.Option("--jobs", "-j", min=1, max=64, help="number of associations at the same time")
    ] = 1,
    as_json: AsJson = False,
) -> None:
    """Send DICOM files unchanged to a DICOM application (C-STORE).

    Exit code 0 when every DICOM file was accepted, 1 when one was not, 2 for wrong usage.
    """
    from dicom_node.dimse.client.storage_scu import StoreSession

    warnings.simplefilter("ignore")  # pydicom warns about invalid values, but files are sent unchanged
    settings = settings_of(ctx)
    peer = named_peer(to, settings)
    files = [file for path in paths for file in _files_of(path)]
    console = Terminal(stderr=True, highlight=False, soft_wrap=True)
    summary = _SendSummary(console, quiet=as_json, total=len(files))

    def session() -> StoreSession:
        return StoreSession.of(peer, checked_ae_title(calling_ae or settings.dicom.ae_title), settings.sender)

    with summary:
        _send_all(files, [session() for _ in range(min(jobs, len(files)))], summary)
    if as_json:
        typer.echo(json.dumps(summary.as_json(), indent=2))
    else:
        typer.echo(summary.last_line(to))
    # Compared with the number of files, so that a file without an outcome counts as failed.
    if not summary.counts[_SENT] or summary.counts[_SENT] + summary.counts[_NOT_DICOM] < len(files):
        raise typer.Exit(1)


def _files_of(path: Path) -> Iterator[Path]:
    """Yield a file, or every file below a folder ordered by name, without a DICOMDIR."""
    for entry in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if entry.is_file() and entry.name.upper() != "DICOMDIR":
            yield entry


class _SendSummary:
    """Outcome of each file, shown during the sending and summed up at the end."""

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
        """Count a file, and name it if it was not sent."""
        with self._lock:
            self.counts[outcome] += 1
            self._progress.advance(self._task)
            if why:
                self._problems.append({"file": str(path), "outcome": outcome, "reason": why})
                if not self._quiet:
                    self._console.print(f"{outcome}: {why}", markup=False)

    def last_line(self, to: str) -> str:
        """Return the line that is printed at the end."""
        others = "".join(f", {self.counts[key]} {key}" for key in (_FAILED, _NOT_DICOM) if self.counts[key])
        return f"{self.counts[_SENT]} sent to {to}{others}"

    def as_json(self) -> dict[str, object]:
        """Return the counts, and every file that was not sent."""
        return {
            "sent": self.counts[_SENT],
            "failed": self.counts[_FAILED],
            "not_dicom": self.counts[_NOT_DICOM],
            "problems": self._problems,
        }


def _send_all(files: Sequence[Path], sessions: Sequence[StoreSession], summary: _SendSummary) -> None:
    """Send the files over the sessions; each session takes the next file as soon as it is free."""
    waiting: SimpleQueue[Path] = SimpleQueue()
    for file in files:
        waiting.put(file)
    threads = [
        threading.Thread(target=_send_from, args=(waiting, session, summary), daemon=True)
        for session in sessions
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _send_from(waiting: SimpleQueue[Path], session: StoreSession, summary: _SendSummary) -> None:
    unavailable = ""
    with session:
        while True:
            try:
                path = waiting.get_nowait()
            except Empty:
                return
            if unavailable:
                summary.note(path, _FAILED, f"{path}: not tried: {unavailable}")
                continue
            try:
                session.send(path)
            except BadInstance:
                summary.note(path, _NOT_DICOM, f"{path}: not a DICOM file")
            except PeerError as error:
                # The other files would wait for the same time-out.
                unavailable = str(error) if isinstance(error, PeerUnavailable) else ""
                summary.note(path, _FAILED, f"{path}: {error}")
            except OSError as error:
                summary.note(path, _FAILED, f"{path}: {error.strerror}")
            else:
                summary.note(path, _SENT)
