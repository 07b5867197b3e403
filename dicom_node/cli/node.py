"""``serve``, ``scp``, ``worker``, ``sender`` and ``web``: run the whole node, or one part of it."""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import logging
import os
import shutil
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Final

import typer

from dicom_node.audit_trail import events
from dicom_node.audit_trail.settings_change import record_changed_settings
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.cli.context import config_of, open_whole_index, settings_of
from dicom_node.config.data_dir import DataDir
from dicom_node.config.private_files import check_secrets
from dicom_node.config.settings import Settings
from dicom_node.config.settings_watch import SettingsWatch
from dicom_node.dimse.tls import check_certificates
from dicom_node.dimse.transport import bind
from dicom_node.errors import ConfigurationError
from dicom_node.runtime import readiness, temporary_files
from dicom_node.runtime.broker import embedded_broker
from dicom_node.runtime.supervisor import SILENT_SECONDS, ChildProcess, Supervisor, give_up_privileges

_LOG = logging.getLogger(__name__)
_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})

_SHARED_MODULES: Final[Mapping[str, str]] = {
    "scp": "dicom_node.dimse.server.scp",
    "sender": "dicom_node.delivery.sender",
    "sweep": "worker.sweep",
}
"""Part -> its module, where most of its libraries are those of other parts. The reading room, which has many
of its own, imports them in its copy, beside the others."""

# Order of the stop: receivers first, then the processes that work on what was received, the reading room and
# the broker last.
_STOP_SCP, _STOP_SWEEP, _STOP_WORKER, _STOP_SENDER, _STOP_WEB = range(5)


class _Parts:
    """Builder of the child processes of a node.

    Parameters
    ----------
    config
        Configuration file that the child processes read.
    lock
        Descriptor of the data directory's lock, which they inherit.
    """

    def __init__(self, config: Path | None, lock: int) -> None:
        self._config = config
        self._lock = lock
        self.broker_url: str | None = None

    def child(
        self,
        part: str,
        *,
        name: str = "",
        stop_stage: int,
        stop_seconds: float,
        listening: int | None = None,
        environment: Mapping[str, str] = _NOTHING,
        program: bool = False,
    ) -> ChildProcess:
        config = ["--config", str(self._config)] if self._config else []
        listen = ["--listen-fd", str(listening)] if listening is not None else []
        broker = {"DICOM_NODE_BROKER_URL": self.broker_url} if self.broker_url else {}
        words = (*config, "child", part, *listen)
        return ChildProcess(
            name=name or part,
            argv=(sys.executable, "-m", "dicom_node", *words) if program else (),
            run=None if program else functools.partial(_run_part, words),
            stage=1,
            stop_stage=stop_stage,
            stop_seconds=stop_seconds,
            environment={**environment, **broker},
            silent_seconds=SILENT_SECONDS,
            descriptors=(self._lock,) if listening is None else (self._lock, listening),
        )

    def scp(self, processes: int, listening: int) -> list[ChildProcess]:
        return [
            self.child("scp", name=f"scp-{n}", stop_stage=_STOP_SCP, stop_seconds=8, listening=listening)
            for n in range(1, processes + 1)
        ]

    def worker(self, settings: Settings) -> list[ChildProcess]:
        """Return the sweep and the worker processes, which differ in nothing but their name."""
        from worker.processes import PROCESS_ENVIRONMENT, worker_names

        return [
            self.child("sweep", stop_stage=_STOP_SWEEP, stop_seconds=3),
            *(
                self.child(
                    "worker",
                    name=name,
                    stop_stage=_STOP_WORKER,
                    stop_seconds=10,
                    environment=PROCESS_ENVIRONMENT,
                    program=True,  # neither CUDA nor the threads of NumPy can be set anew after a fork
                )
                for name in worker_names(settings)
            ),
        ]

    def sender(self) -> ChildProcess:
        return self.child("sender", stop_stage=_STOP_SENDER, stop_seconds=5)

    def audit(self, settings: Settings) -> list[ChildProcess]:
        """Return the process that sends the audit trail to a syslog server, if there is one."""
        if settings.audit_trail.syslog_host is None:
            return []
        return [self.child("audit", stop_stage=_STOP_WEB, stop_seconds=3)]

    def web(self, listening: int) -> ChildProcess:
        return self.child("web", stop_stage=_STOP_WEB, stop_seconds=3, listening=listening)


def serve(ctx: typer.Context) -> None:
    """Run the whole node: Storage SCP, sweep, worker, sender and reading room.

    Without broker_url it also starts a broker. Prints one line that begins with "ready:" when the node is
    ready. SIGTERM or Ctrl-C stops it in order.
    """
    settings = settings_of(ctx)
    with _prepared(settings, "serve", shared=False) as lock, contextlib.ExitStack() as stack:
        parts = _Parts(config_of(ctx), lock)
        dicom = stack.enter_context(bind(settings.dicom.host, settings.dicom.port))
        page = stack.enter_context(bind(settings.web.host, settings.web.port, "web"))
        children = []
        if settings.broker_url is None:
            runtime = stack.enter_context(temporary_files.private_folder("dicom-node-"))
            broker, parts.broker_url = embedded_broker(runtime)
            # What the broker of earlier versions kept.
            shutil.rmtree(settings.data_dir / "broker", ignore_errors=True)
            children.append(broker)
        children += parts.scp(settings.dicom.processes, dicom.fileno())
        children += [*parts.worker(settings), parts.sender(), parts.web(page.fileno())]
        children += parts.audit(settings)
        _supervise(
            children, lambda: _announce(settings, dicom, page), _outdated_workers(config_of(ctx), settings)
        )


def scp(ctx: typer.Context) -> None:
    """Run only the Storage SCP, as several processes that share the port (dicom.processes)."""
    settings = settings_of(ctx)
    with (
        _prepared(settings, "scp", shared=True) as lock,
        bind(settings.dicom.host, settings.dicom.port) as dicom,
    ):
        parts = _Parts(config_of(ctx), lock)
        children = [*parts.scp(settings.dicom.processes, dicom.fileno()), *parts.audit(settings)]
        _supervise(children, lambda: _announce(settings, dicom, None))


def worker(ctx: typer.Context) -> None:
    """Run only the sweep and the Celery worker, with an external broker."""
    settings = settings_of(ctx)
    if settings.broker_url is None:
        raise ConfigurationError("broker_url is not set: a separate worker needs a Redis or Valkey server")
    with _prepared(settings, "worker", shared=True) as lock:
        _supervise(
            _Parts(config_of(ctx), lock).worker(settings),
            lambda: _say("ready: worker"),
            _outdated_workers(config_of(ctx), settings),
        )


def sender(ctx: typer.Context) -> None:
    """Run only the sender, which sends results to the destinations."""
    settings = settings_of(ctx)
    with _prepared(settings, "sender", shared=True) as lock:
        _supervise([_Parts(config_of(ctx), lock).sender()], lambda: _say("ready: sender"))


def web(ctx: typer.Context) -> None:
    """Run only the reading room, the node's web pages."""
    settings = settings_of(ctx)
    with (
        _prepared(settings, "web", shared=True) as lock,
        bind(settings.web.host, settings.web.port, "web") as page,
    ):
        child = _Parts(config_of(ctx), lock).web(page.fileno())
        _supervise([child], lambda: _announce(settings, None, page))


@contextlib.contextmanager
def _prepared(settings: Settings, part: str, *, shared: bool) -> Iterator[int]:
    """Lock the data directory, make its folders and update the database; yield the lock's descriptor.

    The audit trail says that the part has started and, in the end, that it has stopped.
    """
    check_secrets(settings)
    check_certificates(settings)
    data_dir = DataDir(settings)
    with data_dir.locked(shared=shared) as lock:
        data_dir.prepare(alone=not shared)
        index = open_whole_index(settings)
        trail = AuditTrail.open(settings, index.engine)
        trail.record(events.application_started(part))
        record_changed_settings(trail, settings, data_dir.audit_trail)
        index.close()
        try:
            yield lock
        finally:
            trail.record(events.application_stopped(part))
            trail.close()
            index.close()


def _outdated_workers(config: Path | None, settings: Settings) -> Callable[[], Collection[str]]:
    """Return a function that names the parts to start again when the configuration file names other models.

    They are the worker processes, and the reading room, which says what reads.
    """
    from dicom_node.cli.checks import analysis
    from worker.processes import worker_names

    def problem(now: Settings) -> str:
        looks = (*analysis.named(now), *analysis.bundle(now))
        if wrong := [each.found for each in looks if each.ok is False]:
            return wrong[0]
        if len(worker_names(now)) != len(worker_names(settings)):
            return "they need another number of worker processes; start the node again"
        return ""

    watch = SettingsWatch(config, settings, problem)
    return lambda: [*worker_names(settings), "web"] if watch.models_changed() else ()


def _supervise(
    children: Sequence[ChildProcess],
    announce: Callable[[], None],
    outdated: Callable[[], Collection[str]] = tuple,
) -> None:
    def on_ready() -> None:
        announce()
        readiness.notify_ready()
        if os.geteuid() == 0:  # said when all runs: an error at the start is one line
            _LOG.warning("running as root; a user of its own can do less harm")

    give_up_privileges()
    _import_parts(children)
    Supervisor(children, on_ready, outdated=outdated).run()


def _import_parts(children: Sequence[ChildProcess]) -> None:
    """Import what several parts need, once for all: they are forked copies of this process."""
    for part in {child.name.partition("-")[0] for child in children} & _SHARED_MODULES.keys():
        importlib.import_module(_SHARED_MODULES[part])
    # A collection in a copy would write into each object, and so into a page of its own.
    gc.collect()
    gc.freeze()


def _run_part(words: Sequence[str]) -> None:
    """Run one part of the node in a copy of this process, as the command line does."""
    from dicom_node.cli.app import main

    sys.argv = ["dicom-node", *words]
    main()


def _announce(settings: Settings, dicom: socket.socket | None, page: socket.socket | None) -> None:
    words = ["ready:"]
    if dicom is not None:
        host, port = dicom.getsockname()[:2]
        words.append(f"ae_title={settings.dicom.ae_title} host={host} port={port}")
    if page is not None:
        host, port = page.getsockname()[:2]
        words.append(f"page=http://{f'[{host}]' if ':' in host else host}:{port}/")
    _say(" ".join(words))


def _say(line: str) -> None:
    # One write, so that no log line of a child comes between the line and its end.
    sys.stdout.write(line + "\n")
    sys.stdout.flush()
