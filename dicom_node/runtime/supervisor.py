"""Supervisor of child processes: starts them in order, restarts them, and ends them in order.

``serve`` runs the whole node under one supervisor; ``scp`` and ``worker`` each run their part under one. A
child reports that it is ready, and then that it still works, as services of systemd do
(:mod:`dicom_node.runtime.readiness`). One that falls silent is killed and started again.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import select
import selectors
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from dicom_node.errors import ConfigurationError, NodeError
from dicom_node.runtime import readiness
from dicom_node.runtime.forked_process import ForkedProcess

_LOG = logging.getLogger(__name__)
_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_NO_NEW_PRIVS = 1, 15, 38
_LIBC = ctypes.CDLL(None, use_errno=True)
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 30.0
_STEADY_SECONDS = 60.0
_NO_PROGRAM = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ENOEXEC})
"""Errors of a program that is not there or none: what is wrong is a setting, and no waiting mends it."""
SILENT_SECONDS = 60.0
"""Silence after which a part of the node is taken for hung or stopped, in seconds."""
_LATE_SECONDS = 5.0
"""Pause of the supervisor itself after which the silence of its children says nothing."""


def give_up_privileges() -> None:
    """Give up gaining privileges by programs (no_new_privs), for this process and all that it starts."""
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class ChildProcess:
    """Child process to keep running.

    Attributes
    ----------
    name
        Label for logs and errors.
    argv
        Program and arguments.
    run
        Function to run instead of a program, in a copy of this process
        (:mod:`dicom_node.runtime.forked_process`). Not for one that computes on a GPU, whose driver does not
        survive a fork.
    stage
        Start order: children of a lower stage must be ready before those of a higher one start.
    stop_stage
        Stop order: children of a lower stage must have ended before those of a higher one are stopped.
    stop_seconds
        Seconds between SIGTERM and SIGKILL.
    environment
        Variables to add to the environment of this process.
    descriptors
        Open file descriptors that the child inherits.
    probe
        Function that returns True when the child works, for a program that does not use ``NOTIFY_SOCKET``.
    silent_seconds
        Longest silence of a ready child that sends heartbeats or has a probe, in seconds; None: it may be
        silent.
    relay
        Function that is called with each line that the child prints; None: the child prints for itself.
    """

    name: str
    argv: Sequence[str] = ()
    run: Callable[[], None] | None = None
    stage: int = 0
    stop_stage: int = 0
    stop_seconds: float = 8.0
    environment: Mapping[str, str] = field(default_factory=dict)
    descriptors: tuple[int, ...] = ()
    probe: Callable[[], bool] | None = None
    silent_seconds: float | None = None
    relay: Callable[[str], None] | None = None


class _Running:
    """Child with its process, its notification channel and its restarts."""

    def __init__(self, child: ChildProcess) -> None:
        self.child = child
        self.process: subprocess.Popen[bytes] | ForkedProcess | None = None
        self.pidfd = -1
        self.ready = False
        self.started_at = 0.0
        self.start_at = 0.0
        self.pause = _FIRST_PAUSE
        self.heard_at = 0.0
        self.probe_at = 0.0
        self.printed = b""
        self.asked_to_end = False
        self.channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        # The kernel chooses the name: containers that share a network share these names, and the number of
        # this process may be that of another one's supervisor.
        self.channel.bind("")
        self.channel.setblocking(False)
        name = self.channel.getsockname()[1:].decode("ascii")
        self.environment = {
            **child.environment,
            readiness.SOCKET_VARIABLE: "@" + name,
            readiness.WATCHDOG_VARIABLE: str(int((child.silent_seconds or 0) * 1e6)),
        }

    @property
    def alive(self) -> bool:
        return self.process is not None

    def hear(self) -> None:
        """Read one message of the child."""
        try:
            message = self.channel.recv(4096)
        except BlockingIOError:
            return
        self.ready = self.ready or b"READY=1" in message
        self.heard_at = time.monotonic()

    def ask(self, now: float) -> None:
        """Call the probe: at each turn until the child is ready, then as often as a heartbeat would come."""
        if self.child.probe is None or not self.alive or now < self.probe_at:
            return
        if self.child.probe():
            self.ready, self.heard_at = True, now
        if self.ready:
            self.probe_at = now + (self.child.silent_seconds or _LATE_SECONDS) / 4

    def relay(self) -> bool:
        """Pass on what the child has printed; False when it will print no more."""
        assert self.process is not None
        assert self.process.stdout is not None
        assert self.child.relay is not None
        try:
            read = os.read(self.process.stdout.fileno(), 65536)
        except BlockingIOError:
            return True
        *lines, self.printed = (self.printed + read).split(b"\n")
        for line in lines:
            self.child.relay(line.decode("utf-8", "replace"))
        return bool(read)


class Supervisor:
    """Supervisor that keeps child processes running until it is stopped.

    Parameters
    ----------
    children
        Children in the order in which they are started.
    on_ready
        Called once, when every child is ready.
    ready_seconds
        Most seconds until every child is ready for the first time.
    outdated
        Called at each turn once all are ready: names of children to end and start again, because their
        settings have changed.
    """

    def __init__(
        self,
        children: Sequence[ChildProcess],
        on_ready: Callable[[], None],
        ready_seconds: float = 180.0,
        outdated: Callable[[], Collection[str]] = tuple,
    ) -> None:
        self._running = [_Running(child) for child in children]
        self._on_ready = on_ready
        self._ready_seconds = ready_seconds
        self._outdated = outdated
        self._selector = selectors.DefaultSelector()
        self._ending = False
        self._announced = False
        self._turned_at = time.monotonic()

    def run(self) -> None:
        """Run until SIGTERM or SIGINT; every child has ended when this returns.

        Raises
        ------
        ConfigurationError
            When a child reports a wrong setting.
        NodeError
            When the children are not ready in time.
        """
        wake_reader, wake_writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        previous = {
            number: signal.signal(number, lambda *_: self._end())
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        previous_wake = signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        self._selector.register(wake_reader, selectors.EVENT_READ, None)
        for running in self._running:
            self._selector.register(running.channel, selectors.EVENT_READ, running)
        try:
            self._watch(wake_reader)
        finally:
            self._stop_all()
            signal.set_wakeup_fd(previous_wake)
            for number, handler in previous.items():
                signal.signal(number, handler)
            for running in self._running:
                running.channel.close()
            self._selector.close()
            os.close(wake_reader)
            os.close(wake_writer)

    def _end(self) -> None:
        self._ending = True

    def _watch(self, wake_reader: int) -> None:
        give_up_at = time.monotonic() + self._ready_seconds
        while not self._ending:
            self._start_due()
            for key, _ in self._selector.select(timeout=0.1):
                if key.fd == wake_reader:
                    os.read(wake_reader, 512)
                elif key.fileobj is key.data.channel:
                    key.data.hear()
                elif key.fd == key.data.pidfd:
                    self._reap(key.data)
                elif key.data.alive and not key.data.relay():
                    self._selector.unregister(key.fd)
            self._kill_silent()
            if self._announced:
                self._renew(self._outdated())
            elif all(running.ready for running in self._running):
                self._announced = True
                self._on_ready()
            elif time.monotonic() > give_up_at:
                late = ", ".join(running.child.name for running in self._running if not running.ready)
                raise NodeError(f"not ready after {self._ready_seconds:.0f} s: {late}; see the log above")

    def _start_due(self) -> None:
        now = time.monotonic()
        for running in self._running:
            below = [other for other in self._running if other.child.stage < running.child.stage]
            if not running.alive and now >= running.start_at and all(other.ready for other in below):
                self._start(running)

    def _start(self, running: _Running) -> None:
        child = running.child
        supervisor = os.getpid()

        def tie_to_parent() -> None:
            # When the supervisor is killed, the kernel ends its children.
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != supervisor:
                os._exit(1)

        def run() -> None:
            tie_to_parent()
            _LIBC.prctl(_PR_SET_NAME, child.name.encode())  # what ps, top and pgrep show: 15 bytes
            os.environ.update(running.environment)
            assert child.run is not None
            child.run()

        try:
            # In a process group of its own: Ctrl-C must reach only the supervisor, which ends all in order.
            if child.run is not None:
                running.process = ForkedProcess(run, child.descriptors)
            else:
                running.process = subprocess.Popen(
                    child.argv,
                    env={**os.environ, **running.environment},
                    pass_fds=child.descriptors,
                    stdin=subprocess.DEVNULL,
                    stdout=None if child.relay is None else subprocess.PIPE,
                    stderr=None if child.relay is None else subprocess.STDOUT,
                    process_group=0,
                    preexec_fn=tie_to_parent,  # noqa: PLW1509 - this process has one thread
                )
            running.pidfd = os.pidfd_open(running.process.pid)
        except OSError as error:
            if child.run is None and error.errno in _NO_PROGRAM and not self._announced:
                raise ConfigurationError(f"{child.name}: {child.argv[0]}: {error.strerror}") from None
            self._put_off(running, error)
            return
        running.started_at = running.heard_at = time.monotonic()
        self._selector.register(running.pidfd, selectors.EVENT_READ, running)
        if running.process.stdout is not None:
            os.set_blocking(running.process.stdout.fileno(), False)
            self._selector.register(running.process.stdout.fileno(), selectors.EVENT_READ, running)

    def _put_off(self, running: _Running, error: OSError) -> None:
        """Start a child later: processes, memory or descriptors are short, which is when children end."""
        if running.process is not None:
            running.process.kill()
            running.process.wait()
            if running.process.stdout is not None:
                running.process.stdout.close()
            running.process = None
        running.pause = min(2 * running.pause, _LONGEST_PAUSE)
        running.start_at = time.monotonic() + running.pause
        _LOG.error(
            "%s cannot be started: %s; again in %.1f s", running.child.name, error.strerror, running.pause
        )

    def _kill_silent(self) -> None:
        now = time.monotonic()
        late, self._turned_at = now - self._turned_at > _LATE_SECONDS, now
        for running in self._running:
            running.ask(now)
            if running.process is None or running.child.silent_seconds is None:
                continue
            longest = running.child.silent_seconds if running.ready else self._ready_seconds
            if late:
                running.heard_at = now
            elif now - running.heard_at > longest:
                _LOG.error("%s gave no sign of life for %.0f s; killed", running.child.name, longest)
                running.process.kill()  # a stopped process does not see SIGTERM
                running.heard_at = now

    def _renew(self, names: Collection[str]) -> None:
        """Ask children to end when they have finished what they do; they are then started again."""
        for running in self._running:
            if running.child.name in names and running.process is not None:
                running.asked_to_end = True
                running.process.terminate()

    def _reap(self, running: _Running) -> None:
        assert running.process is not None
        code = running.process.wait()
        self._forget(running)
        if code == ConfigurationError.exit_code and not self._announced:
            raise ConfigurationError(f"{running.child.name} could not start; see its error above")
        if running.asked_to_end and code == 0:
            running.asked_to_end, running.start_at = False, time.monotonic()
            _LOG.info("%s ended to take changed settings", running.child.name)
            return
        lasted = time.monotonic() - running.started_at
        running.pause = _FIRST_PAUSE if lasted > _STEADY_SECONDS else min(2 * running.pause, _LONGEST_PAUSE)
        running.start_at = time.monotonic() + running.pause
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        _LOG.warning("%s ended with %s; restarting in %.1f s", running.child.name, how, running.pause)

    def _forget(self, running: _Running) -> None:
        assert running.process is not None
        self._selector.unregister(running.pidfd)
        os.close(running.pidfd)
        if running.process.stdout is not None:
            while running.relay():
                if not select.select([running.process.stdout], [], [], 0)[0]:
                    break  # a child of the child still holds the pipe
            if running.process.stdout.fileno() in self._selector.get_map():
                self._selector.unregister(running.process.stdout.fileno())
            running.process.stdout.close()
        running.process = None
        running.ready = False
        running.probe_at, running.printed = 0.0, b""

    def _stop_all(self) -> None:
        if any(running.process is not None for running in self._running):
            _LOG.info("stopping: each part finishes its current work")
        for stage in sorted({running.child.stop_stage for running in self._running}):
            group = [r for r in self._running if r.child.stop_stage == stage and r.process is not None]
            for running in group:
                assert running.process is not None
                running.process.terminate()
            began = time.monotonic()
            for running in group:
                assert running.process is not None
                left = began + running.child.stop_seconds - time.monotonic()
                try:
                    running.process.wait(max(0.0, left))
                except subprocess.TimeoutExpired:
                    _LOG.error(
                        "%s did not end in %.0f s; killed", running.child.name, running.child.stop_seconds
                    )
                    running.process.kill()
                    running.process.wait()
                self._forget(running)
