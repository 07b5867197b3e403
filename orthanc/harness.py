"""Harness that runs a real Orthanc in a folder of its own: the PACS of the tests and of the evaluation.

It runs the program of the Debian package ``orthanc`` with ``orthanc.json`` and ``forward.lua`` of this
folder, on free ports of the loopback interface, and calls its REST interface with the standard library.

>>> with Orthanc(node=NodeAddress("DICOM_NODE", 11112)) as pacs:
...     pacs.upload(Path("film.dcm").read_bytes())
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HERE = Path(__file__).parent
DICOMWEB_PLUGIN = "libOrthancDicomWeb.so"
PLUGIN_FOLDERS = (Path("/usr/share/orthanc/plugins"), Path("/usr/local/share/orthanc/plugins"))
START_SECONDS = 30.0
STOP_SECONDS = 20.0


class OrthancError(RuntimeError):
    """Error of Orthanc: it is missing, did not start, or refused a request."""


@dataclass(frozen=True, slots=True)
class NodeAddress:
    """Address of the node to which forward.lua sends the films.

    Attributes
    ----------
    ae_title
        Called AE title.
    port
        TCP port.
    host
        Address of the node.
    """

    ae_title: str
    port: int
    host: str = "127.0.0.1"


def configuration() -> dict[str, Any]:
    """Return ``orthanc.json`` without its comments; ``${VARIABLE:-default}`` is not replaced.

    Raises
    ------
    OrthancError
        If it is not JSON.
    """
    text = (HERE / "orthanc.json").read_text(encoding="utf-8")
    try:
        table: dict[str, Any] = json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.MULTILINE))
    except json.JSONDecodeError as error:
        raise OrthancError(f"{HERE / 'orthanc.json'}: not JSON: {error}") from None
    return table


class Orthanc:
    """Orthanc process, as a context manager.

    Parameters
    ----------
    directory
        Folder of configuration, storage and log, which is kept; a temporary folder when None.
    node
        Node to which the films of stable studies are forwarded; nothing is forwarded when None.
    ae_title
        AE title of Orthanc.
    stable_seconds
        Time without a new instance after which a study is stable, in whole seconds, from 1.
    dicomweb
        Whether to load the plug-in of the Debian package ``orthanc-dicomweb``, at :attr:`dicomweb_url`.
    overrides
        Options that replace those of ``orthanc.json``.

    Raises
    ------
    OrthancError
        From :meth:`start`, if a program is missing or does not answer in time.
    """

    def __init__(
        self,
        directory: Path | None = None,
        *,
        node: NodeAddress | None = None,
        ae_title: str = "ORTHANC",
        stable_seconds: int = 1,
        dicomweb: bool = False,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        self.ae_title = ae_title
        self.host = "127.0.0.1"
        self.http_port = 0
        self.dicom_port = 0
        self._directory = directory
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._node = node
        self._stable_seconds = stable_seconds
        self._dicomweb = dicomweb
        self._overrides = dict(overrides or {})
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Process

    @property
    def directory(self) -> Path:
        """Folder of configuration, storage and log."""
        if self._directory is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="orthanc-")
            self._directory = Path(self._temporary.name)
        self._directory.mkdir(parents=True, exist_ok=True)
        return self._directory

    @property
    def url(self) -> str:
        """Base URL of the REST interface, without a trailing slash."""
        return f"http://{self.host}:{self.http_port}"

    @property
    def dicomweb_url(self) -> str:
        """Base URL of DICOMweb, if the plug-in was asked for."""
        return f"{self.url}/dicom-web"

    @property
    def running(self) -> bool:
        """True while the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def log(self) -> str:
        """Log of Orthanc so far, of all its starts."""
        path = self.directory / "orthanc.log"
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def start(self) -> None:
        """Start the process and wait until HTTP answers; the storage of an earlier start is used again.

        Raises
        ------
        OrthancError
            If the program is missing, ends at once, or does not answer within 30 s.
        """
        if self.running:
            return
        program = shutil.which("Orthanc", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
        if program is None:
            raise OrthancError("the program Orthanc was not found; install the Debian package orthanc")
        fixed = self.http_port != 0
        for attempt in range(3):
            if not fixed:
                self.http_port, self.dicom_port = _free_ports(2)
            try:
                self._start_once(program)
            except _PortTaken as error:
                if fixed or attempt == 2:
                    raise OrthancError(str(error)) from None
            else:
                return

    def stop(self) -> None:
        """Stop the process in order, and wait for it; it is killed after 20 s."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process, as a power failure would."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop and start again with the same storage, on the same ports."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and remove a temporary folder."""
        if self._temporary is None:
            self.stop()
        else:
            self.kill()  # an orderly stop takes seconds, and the folder is removed anyway
            self._temporary.cleanup()
            self._temporary = self._directory = None

    def _start_once(self, program: str) -> None:
        path = self.directory / "orthanc.json"
        path.write_text(json.dumps(self._configuration(), indent=2), encoding="utf-8")
        began = len(self.log)
        with (self.directory / "orthanc.log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, str(path)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.directory
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                said = self.log[began:]
                kind = _PortTaken if "already in use" in said or "Address already" in said else OrthancError
                raise kind(f"Orthanc ended with {self._process.returncode}: {_last_line(said)}")
            with contextlib.suppress(OrthancError):
                self.get("/system")
                return
            time.sleep(0.05)
        self.kill()
        raise OrthancError(f"Orthanc did not answer on {self.url} within {START_SECONDS:.0f} s")

    def _configuration(self) -> dict[str, Any]:
        table = configuration()
        modalities: dict[str, Any] = {}
        if self._node is not None:
            modalities["dicom-node"] = {
                "AET": self._node.ae_title,
                "Host": self._node.host,
                "Port": self._node.port,
            }
        table |= {
            "StorageDirectory": str(self.directory / "storage"),
            "IndexDirectory": str(self.directory / "storage"),
            "HttpPort": self.http_port,
            "DicomPort": self.dicom_port,
            "DicomAet": self.ae_title,
            "DicomModalities": modalities,
            "LuaScripts": [str(HERE / "forward.lua")] if self._node is not None else [],
            "StableAge": self._stable_seconds,
            "RemoteAccessAllowed": False,
            "Plugins": [str(_plugin(DICOMWEB_PLUGIN, "orthanc-dicomweb"))] if self._dicomweb else [],
        }
        return table | self._overrides

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    # Content

    def upload(self, instance: bytes) -> str:
        """Store one DICOM file.

        Returns
        -------
        str
            Orthanc's identifier of the instance; the same identifier if Orthanc has the instance already.
        """
        return str(json.loads(self.request("POST", "/instances", instance))["ID"])

    def studies(self) -> list[str]:
        """Return Orthanc's identifiers of all studies."""
        return list(self.get("/studies"))

    def instances(self, study: str) -> list[str]:
        """Return Orthanc's identifiers of the instances of `study`, which is Orthanc's identifier too."""
        return [entry["ID"] for entry in self.get(f"/studies/{study}/instances")]

    def file(self, instance: str) -> bytes:
        """Return the stored DICOM file of `instance`."""
        return self.request("GET", f"/instances/{instance}/file")

    def tags(self, instance: str) -> dict[str, Any]:
        """Return the data set of `instance`: DICOM keyword -> value."""
        return dict(self.get(f"/instances/{instance}/simplified-tags"))

    def find(self, level: str = "Study", /, **query: str) -> list[str]:
        """Return Orthanc's identifiers of the matches.

        Parameters
        ----------
        level
            Level of the query: Patient, Study, Series or Instance.
        **query
            DICOM keyword -> value, such as ``StudyInstanceUID="1.2.3"``; ``*`` and ``?`` match as in C-FIND.
        """
        body = json.dumps({"Level": level, "Query": query, "CaseSensitive": True}).encode()
        return list(json.loads(self.request("POST", "/tools/find", body)))

    def wait_for(self, what: str, condition: Callable[[], bool], *, seconds: float = 30) -> None:
        """Wait until `condition` is true.

        Raises
        ------
        OrthancError
            If it is not true within `seconds`; the message names `what`.
        """
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                said = _last_line(self.log)
                raise OrthancError(f"waited {seconds:g} s in vain: {what}; Orthanc said: {said}")
            time.sleep(0.05)

    def get(self, path: str) -> Any:
        """Return the JSON that Orthanc answers to ``GET path``."""
        return json.loads(self.request("GET", path))

    def request(self, method: str, path: str, body: bytes | None = None, *, seconds: float = 60) -> bytes:
        """Send one request and return the body of the answer.

        Raises
        ------
        OrthancError
            If Orthanc does not answer, or answers with a status from 400.
        """
        request = urllib.request.Request(self.url + path, data=body, method=method)  # noqa: S310 - http only
        try:
            with _OPENER.open(request, timeout=seconds) as answer:
                content: bytes = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace").strip()
            raise OrthancError(f"{method} {path}: Orthanc answered {error.code}: {said[:300]}") from None
        except (OSError, urllib.error.URLError) as error:
            raise OrthancError(f"{method} {path}: Orthanc does not answer on {self.url}: {error}") from None
        return content


class _PortTaken(OrthancError):
    pass


# Without the proxies of the environment, because Orthanc is on this machine.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _plugin(name: str, package: str) -> Path:
    for folder in PLUGIN_FOLDERS:
        if (folder / name).exists():
            return folder / name
    raise OrthancError(f"the plug-in {name} was not found; install the Debian package {package}")


def _last_line(log: str) -> str:
    lines = [line for line in log.splitlines() if line.startswith("E")] or log.splitlines()
    return lines[-1] if lines else "nothing"
