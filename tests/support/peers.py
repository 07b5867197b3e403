"""Real peers on free ports: a node, DCMTK's storescp, Redis, PostgreSQL; each is a context manager."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

from dicom_node.store import database
from dicom_node.store.audit import IndexQueries
from dicom_node.store.states import ResultState, StudyState

ROOT = Path(__file__).resolve().parents[2]


def leave_own_programs() -> None:
    """Take this Python's programs off the path: pynetdicom's storescp would be found before DCMTK's."""
    own = Path(sys.executable).parent
    kept = [folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != own]
    os.environ["PATH"] = os.pathsep.join(kept)


def free_port() -> int:
    """Port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Wait for a condition and return its value; fail with `what` at the deadline."""
    deadline = time.monotonic() + seconds
    begun = time.monotonic()
    while not (value := condition()):
        ended = time.monotonic()
        if ended > deadline:
            pytest.fail(f"not within {seconds} s: {what}")
        time.sleep(max(0.05, 3 * (ended - begun)))  # a costly question takes no more than a quarter of a core
        begun = time.monotonic()
    return value


def listening(port: int) -> bool:
    """Whether something accepts connections on a loopback port."""
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """Running program and its output."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        program = shutil.which(argv[0]) or argv[0]
        self.process = subprocess.Popen(
            [program, *argv[1:]],
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip())

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def stop(self, number: int = signal.SIGTERM, seconds: float = 35) -> int:
        """End the program with a signal; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"did not end within {seconds} s after signal {number}:\n{self.output}")
        finally:
            self._reader.join(seconds)
            if self._reader.is_alive():  # to close the output would wait for its end
                pytest.fail(f"what it started holds its output {seconds} s after its end:\n{self.output}")
            assert self.process.stdout is not None
            self.process.stdout.close()
        return self.process.returncode

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.returncode is None or not self.process.stdout or not self.process.stdout.closed:
            self.stop()


def cli(
    *words: str, environment: Mapping[str, str] | None = None, seconds: float = 120, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command of ``dicom-node`` to its end, with a text on its standard input."""
    return subprocess.run(
        [sys.executable, "-m", "dicom_node", *words],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        input=text,
        timeout=seconds,
        check=False,
    )


def node_environment(
    data_dir: Path, destinations: Sequence[Mapping[str, Any]] = (), **settings: str
) -> dict[str, str]:
    """Environment variables of a node for tests: free ports, short pauses, no gate, no similar cases."""
    return {
        "DICOM_NODE_DATA_DIR": str(data_dir),
        "DICOM_NODE_DICOM__PORT": "0",
        "DICOM_NODE_WEB__PORT": "0",
        "DICOM_NODE_STUDY__QUIET_SECONDS": "0.5",
        "DICOM_NODE_DICOM__MIN_FREE_BYTES": "0",
        # The gate rightly refuses drawn films; tests with real films pass worker__gate="gate".
        "DICOM_NODE_WORKER__GATE": "",
        # One report a study; tests of similar cases pass retrieval__enabled="true".
        "DICOM_NODE_RETRIEVAL__ENABLED": "false",
        "DICOM_NODE_DESTINATIONS": json.dumps(list(destinations)),
        **{f"DICOM_NODE_{name.upper()}": value for name, value in settings.items()},
    }


class Node(Process):
    """Running ``dicom-node serve``, or a part of it, that has printed its ready line.

    Parameters
    ----------
    parallel
        Whether films are received and read by two processes each, as by default on two cores. One is enough
        to see what becomes of a film, and a start takes a third less processor time.
    """

    def __init__(
        self,
        data_dir: Path,
        destinations: Sequence[Mapping[str, Any]] = (),
        command: str = "serve",
        ready_seconds: float = 90,
        config: Path | None = None,
        *,
        parallel: bool = False,
        **settings: str,
    ) -> None:
        alone = {} if parallel else {"worker__processes": "1", "dicom__processes": "1"}
        self.environment = node_environment(data_dir, destinations, **alone | settings)
        self.data_dir = data_dir
        self.options = ("--config", str(config)) if config else ()
        started = time.monotonic()
        super().__init__([sys.executable, "-m", "dicom_node", *self.options, command], self.environment)
        try:
            self.ready_line: str = until(self._ready, ready_seconds, f"ready line of {command}")
        except BaseException:
            self.process.kill()
            print(self.output)
            raise
        self.seconds_to_ready = time.monotonic() - started
        self.port = int(found.group(1)) if (found := re.search(r"port=(\d+)", self.ready_line)) else 0
        self.page = found.group(1) if (found := re.search(r"page=(\S+)", self.ready_line)) else ""

    def _ready(self) -> str | None:
        if self.process.poll() is not None:
            pytest.fail(f"the node ended with exit code {self.process.returncode}:\n{self.output}")
        return next((line for line in self.lines if line.startswith("ready:")), None)

    def cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command with this node's settings."""
        return cli(*self.options, *words, environment=self.environment)

    def status(self, *options: str) -> dict[str, Any]:
        """Output of ``dicom-node status --json``."""
        answer = self.cli("status", "--json", *options)
        assert answer.returncode in (0, 1), answer.stderr
        return dict(json.loads(answer.stdout))

    def settled(self, studies: int, seconds: float = 60) -> dict[str, Any]:
        """Wait until so many studies have an outcome and no result waits; returns the status."""
        engine = database.connect(self.environment.get("DICOM_NODE_DATABASE_URL") or self._sqlite)
        index = IndexQueries(engine)  # a command for each question would take more time than the node

        def done() -> bool:
            counts = index.study_counts()
            ended = counts[StudyState.REPORTED] + counts[StudyState.SKIPPED] + counts[StudyState.FAILED]
            open_ = sum(counts.values()) - ended - counts[StudyState.PRIOR]
            return ended >= studies and not open_ and not index.result_counts()[ResultState.ENCODED]

        try:
            until(done, seconds, f"{studies} studies settled")
            return self.status("--audit")
        except BaseException:
            print(self.status(), self.output, sep="\n")
            raise
        finally:
            engine.dispose()

    @property
    def _sqlite(self) -> str:
        return f"sqlite:///{self.data_dir / 'index.sqlite'}"

    def children(self) -> dict[str, list[int]]:
        """Process ids by part (``scp``, ``worker``, ..., ``broker``)."""
        parts: dict[str, list[int]] = {}
        for pid in children_of(self.process.pid):
            with contextlib.suppress(OSError):
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if "child" in words:
                    part = words[words.index("child") + 1]
                else:  # a copy of the supervisor under its own name, or the server that it starts
                    part = "broker" if name.startswith(("valkey", "redis")) else name.partition("-")[0]
                parts.setdefault(part, []).append(pid)
        return parts

    def __exit__(self, *exception: object) -> None:
        failed = exception[0] is not None
        super().__exit__(*exception)
        if failed:
            print(self.output)


def children_of(pid: int) -> list[int]:
    """Process ids of the children of all threads of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


class StoreSCP(Process):
    """DCMTK's storescp, which writes received objects into a folder.

    Parameters
    ----------
    syntaxes
        Its option for the transfer syntaxes it accepts: +xa all, +xe and +xi uncompressed ones.
    each
        Keep each reception in a file of its own, as it came; else a repeat takes the place of the first.
    """

    def __init__(
        self,
        folder: Path,
        ae_title: str = "PACS",
        port: int | None = None,
        *,
        syntaxes: str = "+xa",
        each: bool = False,
    ) -> None:
        self.folder = folder
        self.ae_title = ae_title
        self.port = port or free_port()
        folder.mkdir(parents=True, exist_ok=True)
        argv = [
            "storescp",
            "-v",
            "-pm",
            syntaxes,
            "-aet",
            ae_title,
            "-od",
            str(folder),
            "-fe",
            ".dcm",
            *(["+uf", "+B"] if each else []),
            str(self.port),
        ]
        super().__init__(argv, {"TCP_NODELAY": "1"})
        until(lambda: listening(self.port), 10, "storescp listening")

    @property
    def destination(self) -> dict[str, Any]:
        """Destination of this peer, as in the settings."""
        return {
            "name": self.ae_title.lower(),
            "kind": "dicom",
            "ae_title": self.ae_title,
            "host": "127.0.0.1",
            "port": self.port,
        }

    def files(self) -> list[Path]:
        """Received files that are whole, by name."""
        return sorted(filter(_written, self.folder.glob("*.dcm")))

    def receptions(self) -> int:
        """Number of C-STORE requests that it answered, repeats included."""
        return sum("storing DICOM file" in line for line in self.lines)


def _written(path: Path) -> bool:
    """Return whether nobody writes into a file: of such a file Linux gives no read lease."""
    with path.open("rb") as file:
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except BlockingIOError:
            return False
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return True


class Redis(Process):
    """Debian's redis-server."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.port = port or free_port()
        super().__init__(
            [
                "redis-server",
                "--port",
                str(self.port),
                "--bind",
                "127.0.0.1",
                "--dir",
                str(folder),
                "--save",
                "",
            ]
        )
        until(lambda: listening(self.port), 10, "redis-server listening")

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"


class PostgreSQL:
    """PostgreSQL server with an empty database, which can be stopped and started again.

    Parameters
    ----------
    folder
        Folder for its data.
    programs
        Folder of its programs; None for Debian's newest.
    """

    def __init__(self, folder: Path, programs: Path | None = None) -> None:
        self._programs = programs or max(Path("/usr/lib/postgresql").glob("*/bin"))
        self._port = free_port()
        # initdb refuses to run as root: then its own user runs it, over a folder that this user may enter.
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        self._data = folder / "postgresql"
        self._server: subprocess.Popen[bytes] | None = None
        self.address = f"postgresql://node@127.0.0.1:{self._port}/postgres"
        self._data.mkdir()
        if self._as_user:
            shutil.chown(self._data, "postgres", "postgres")
            for parent in [self._data, *self._data.parents]:
                if parent.stat().st_uid == 0 and parent != Path("/"):
                    parent.chmod(parent.stat().st_mode | 0o011)
        self._run("initdb", "-D", self._data, "-U", "node", "--auth=trust", "-E", "UTF8", check=True)

    def start(self) -> None:
        """Start the server, and wait until it takes connections."""
        # No test takes the power away: what a killed server wrote is in the system's memory.
        options = ["-p", str(self._port), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]
        self._server = subprocess.Popen(
            [
                *(*self._as_user, self._programs / "postgres", "-D", self._data, *options),
                *("-c", f"unix_socket_directories={self._data}"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
        )
        asked = [self._programs / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self._port)]
        until(lambda: subprocess.run(asked, check=False).returncode == 0, 20, "PostgreSQL taking connections")

    def stop(self) -> None:
        """Stop the server as a loss of power would: a last checkpoint takes long on a busy disk."""
        if self._server is not None:
            self._run("pg_ctl", "stop", "-D", self._data, "-m", "immediate", check=False)
            self._server.wait(20)

    def _run(self, program: str, *words: str | Path, check: bool) -> None:
        command = [*self._as_user, self._programs / program, *words]
        subprocess.run(command, check=check, capture_output=True, cwd="/")


@contextlib.contextmanager
def postgresql(folder: Path, programs: Path | None = None) -> Iterator[str]:
    """Run PostgreSQL with an empty database; yields its address. Debian's programs are the default."""
    server = PostgreSQL(folder, programs)
    try:
        server.start()
        yield server.address
    finally:
        server.stop()
