"""Forwarder of the audit trail: sends every entry to a syslog server by TLS (RFC 5424, 5425; PS3.15 A.6).

The files of the trail are the queue, and the number of the last entry that was sent is kept beside them. So
a server that is away for days delays entries and loses none. An entry counts as sent when the server's side
of the connection has acknowledged its bytes; syslog has no answer of its own. After a broken connection the
entries that were not acknowledged are sent again: the server may get one twice, with the same number.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import socket
import ssl
import struct
import tempfile
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from dicom_node.audit_trail.chain import AuditChain
from dicom_node.audit_trail.entry import Entry
from dicom_node.config.audit_trail import AuditTrailSettings
from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from dicom_node.dimse.tls import syslog_context
from dicom_node.errors import NodeError, PeerUnavailable
from dicom_node.runtime import logs, readiness
from dicom_node.runtime.stop_signal import stop_event

_LOG = logging.getLogger(__name__)

_PRIORITY: Final = 10 * 8 + 5
"""Facility 10 (security and authorization), severity 5 (notice) (PS3.15 A.6.1)."""
_MESSAGE_ID: Final = "DICOM+RFC3881"
_APPLICATION: Final = "dicom-node"
_BATCH: Final = 100
_SECONDS: Final = 10.0
"""Most seconds for a connection, and for a batch to be acknowledged."""
_REFUSAL_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.5
_LONGEST_PAUSE: Final = 60.0


def syslog_frame(entry: Entry, host: str, at: str) -> bytes:
    """Return an entry as one frame: the length, a space and the message (RFC 5425 4.3).

    Parameters
    ----------
    host
        Name of this host.
    at
        Time of the event, as the message has it.
    """
    number = f'[meta sequenceId="{entry.number}"]'  # RFC 5424 7.3.1
    header = f"<{_PRIORITY}>1 {at} {host} {_APPLICATION} {os.getpid()} {_MESSAGE_ID} {number} "
    message = header.encode("ascii", "replace") + b"\xef\xbb\xbf" + entry.message.encode("utf-8", "replace")
    return f"{len(message)} ".encode("ascii") + message


class SentMark:
    """Number of the last entry that was sent, in a file beside the trail.

    Parameters
    ----------
    path
        Path of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> int:
        """Return the number; 0 when nothing was sent yet, or the file cannot be read."""
        try:
            return max(0, int(self._path.read_text("ascii")))
        except (OSError, ValueError):
            return 0

    def write(self, number: int) -> None:
        """Replace the number."""
        handle, temporary = tempfile.mkstemp(dir=self._path.parent)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(f"{number}\n")
            Path(temporary).replace(self._path)
        finally:
            Path(temporary).unlink(missing_ok=True)


class SyslogConnection:
    """Connection by TLS to a syslog server.

    Parameters
    ----------
    settings
        Settings with the address of the server and the certificates.

    Raises
    ------
    PeerUnavailable
        When the server cannot be reached or is not the one that its certificate names.
    """

    def __init__(self, settings: AuditTrailSettings) -> None:
        assert settings.syslog_host is not None
        self._where = f"syslog server {settings.syslog_host}:{settings.syslog_port}"
        context = syslog_context(settings)
        with self._translated():
            plain = socket.create_connection((settings.syslog_host, settings.syslog_port), _SECONDS)
            try:
                self._socket = context.wrap_socket(plain, server_hostname=settings.syslog_host)
            except BaseException:
                plain.close()
                raise
            # In TLS 1.3 a server refuses a client's certificate after the handshake; one that takes it sends
            # session tickets then. What was sent before it refuses would count as taken.
            try:
                self._check_open(_REFUSAL_SECONDS)
            except OSError:
                self.close()
                raise

    def send(self, frames: bytes) -> None:
        """Send frames; when this returns, the server's side of the connection has acknowledged them.

        Raises
        ------
        PeerUnavailable
            When that is not certain: they are to be sent again.
        """
        with self._translated():
            self._socket.sendall(frames)
            deadline = time.monotonic() + _SECONDS
            while self._unacknowledged():
                if time.monotonic() > deadline:
                    raise TimeoutError("no acknowledgement in time")
                self._check_open(0.005)
            self._check_open(0.0)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._socket.close()

    def _unacknowledged(self) -> int:
        """Return the number of bytes that the other side has not acknowledged (tcp(7), SIOCOUTQ)."""
        answer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
        return int(struct.unpack("i", answer)[0])

    def _check_open(self, seconds: float) -> None:
        """Raise when the server has closed; a server says nothing else."""
        if not select.select([self._socket], [], [], seconds)[0]:
            return
        self._socket.settimeout(0.0)
        try:
            if not self._socket.recv(4096):
                raise ConnectionResetError("closed by the server")
        except ssl.SSLWantReadError:  # a session ticket of TLS 1.3
            pass
        finally:
            self._socket.settimeout(_SECONDS)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = getattr(error, "verify_message", "") or getattr(error, "reason", "") or str(error)
            raise PeerUnavailable(f"{self._where}: {reason}") from error


class AuditForwarder:
    """Sender of the trail's entries to a syslog server.

    Parameters
    ----------
    settings
        Settings with the address of the server.
    chain
        Trail to send.
    mark
        Number of the last entry that was sent.
    """

    def __init__(self, settings: AuditTrailSettings, chain: AuditChain, mark: SentMark) -> None:
        self._settings = settings
        self._chain = chain
        self._mark = mark
        self._connection: SyslogConnection | None = None
        self._host = socket.gethostname() or "-"

    def send_waiting(self) -> int:
        """Send the entries that wait; return their number.

        Raises
        ------
        PeerUnavailable
            When the server does not take them; they go on waiting.
        StorageFull, StorageFailed
            When the trail cannot be read.
        """
        sent = 0
        batch: list[Entry] = []
        for entry in self._chain.entries(self._mark.read()):
            batch.append(entry)
            if len(batch) == _BATCH:
                sent += self._send(batch)
                batch = []
        return sent + (self._send(batch) if batch else 0)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(self, batch: list[Entry]) -> int:
        try:
            if self._connection is None:
                self._connection = SyslogConnection(self._settings)
            self._connection.send(
                b"".join(syslog_frame(entry, self._host, _time_of(entry)) for entry in batch)
            )
        except PeerUnavailable:
            self.close()
            raise
        self._mark.write(batch[-1].number)
        return len(batch)


def _time_of(entry: Entry) -> str:
    """Return the time of a message, as its XML has it; the nil value of RFC 5424 when it has none."""
    _, _, rest = entry.message.partition('EventDateTime="')
    time_text = rest.partition('"')[0]
    return time_text if 0 < len(time_text) <= len("2026-01-01T00:00:00.000000Z") else "-"


def run_forwarder(settings: Settings) -> None:
    """Send the audit trail until SIGTERM; main function of the forwarder process.

    Of several processes on one data directory, such as those of parts that run apart, one sends.
    """
    stop = stop_event()
    folder = DataDir(settings).audit_trail
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    readiness.notify_ready()
    with (folder / "forwarder-lock").open("w") as lock:
        while not stop.is_set():
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                stop.wait(_SECONDS)
        forward(settings, stop)


def forward(settings: Settings, stop: threading.Event) -> None:
    """Send entries as they are written until `stop` is set; while the server is away, wait for it."""
    folder = DataDir(settings).audit_trail
    chain = AuditChain(folder, None)
    forwarder = AuditForwarder(settings.audit_trail, chain, SentMark(folder / "sent-by-syslog"))
    sent_to: tuple[str, int] | None = None
    outage = logs.Outage(_LOG, "the syslog server", "entries of the audit trail wait in its files")
    pause = _POLL_SECONDS
    while not stop.is_set():
        try:
            # Entries are read from the begin of a file, which may hold those of a day.
            if (end := chain.end()) != sent_to:
                forwarder.send_waiting()
                sent_to = end
        except (NodeError, OSError) as error:
            outage.begin(error)
            pause = min(2 * pause, _LONGEST_PAUSE)
        else:
            outage.end()
            pause = _POLL_SECONDS
        stop.wait(pause)
    forwarder.close()
