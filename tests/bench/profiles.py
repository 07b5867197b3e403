"""Profiles of the three hottest paths by py-spy: the receiver, the worker and the page, each under load.

``python -m tests.bench.profiles receive`` prints the share of samples in which each function of the node was
met, with all that it calls, and that of each function that was running. py-spy must be on the path (``pip
install py-spy``). ``--idle`` also counts threads that wait.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import expect

from tests.bench.bench_turnaround import DEFAULTS, REPORTS, Films, reports, send
from tests.support.browser import launched
from tests.support.peers import Node, StoreSCP, leave_own_programs, until
from tests.support.scp_processes import ScpProcesses

RATE = 200
SHOWN = 25
_OURS = re.compile(r"\((?:dicom_node|models|worker)/")


@contextmanager
def receive(folder: Path) -> Iterator[tuple[Sequence[int], Callable[[], None]]]:
    """Receivers, and what stores a film of 0.5 MB on each of four associations."""
    films = Films("0.5 MB", folder)
    with ScpProcesses(folder / "node") as running:
        numbers = iter(range(10**9))

        def store() -> None:
            senders = [
                threading.Thread(
                    target=send,
                    args=(running.port, "DICOM_NODE", [films.film(next(numbers))[1:] for _ in range(20)]),
                )
                for _ in range(4)
            ]
            for sender in senders:
                sender.start()
            for sender in senders:
                sender.join()

        yield running.pids, store


@contextmanager
def worker(folder: Path) -> Iterator[tuple[Sequence[int], Callable[[], None]]]:
    """Worker of a node, and what brings it four studies of a film of 0.5 MB and awaits their reports."""
    films = Films("0.5 MB", folder)
    with (
        StoreSCP(folder / "pacs") as pacs,
        Node(folder / "node", [pacs.destination], parallel=True, **DEFAULTS) as node,
    ):
        sent = 0

        def study() -> None:
            nonlocal sent
            send(node.port, "DICOM_NODE", [films.film(sent + each)[1:] for each in range(4)])
            sent += 4
            until(lambda: len(reports(pacs)) >= REPORTS * sent, 120, "reports")

        study()
        yield node.children()["worker"], study


@contextmanager
def page(folder: Path) -> Iterator[tuple[Sequence[int], Callable[[], None]]]:
    """Web server of a node, and what opens the worklist and then a study with a film of 10 MB in Chromium."""
    films = Films("10 MB", folder)
    with Node(folder / "node", study__quiet_seconds="0") as node, launched() as chromium:
        send(node.port, "DICOM_NODE", [films.film(each)[1:] for each in range(4)])
        node.settled(4)
        visit = chromium.new_context(viewport={"width": 1280, "height": 800}).new_page()
        numbers = iter(range(10**9))

        def click() -> None:
            visit.goto(node.page)
            link = visit.locator(".worklist a.open").nth(next(numbers) % 4)
            expect(link).to_be_visible()
            link.click()
            visit.locator('.film[aria-busy="false"]').wait_for(timeout=60_000)

        click()
        yield node.children()["web"], click


PATHS = {"receive": receive, "worker": worker, "page": page}


def profile(
    spy: str, pids: Sequence[int], work: Callable[[], None], seconds: float, *, idle: bool
) -> Counter[str]:
    """Samples of processes and their children while they work: stacks with their counts."""
    with tempfile.TemporaryDirectory() as folder:
        spies = []
        for pid in pids:
            command = [spy, "record", "--pid", str(pid), "--subprocesses", "--format", "raw"]
            command += ["--rate", str(RATE), "--duration", str(int(seconds)), "--output", f"{folder}/{pid}"]
            command += ["--nonblocking", *(["--idle"] if idle else [])]
            spies.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            work()
        for each in spies:
            each.wait(60)
        found: Counter[str] = Counter()
        for path in Path(folder).iterdir():
            for line in path.read_text().splitlines():
                stack, _, count = line.rpartition(" ")
                found[stack] += int(count)
    return found


def shares(stacks: Counter[str], shown: int = SHOWN) -> tuple[dict[str, float], dict[str, float]]:
    """Share of samples in which each function of the node was met, and in which each was the running one."""
    total = sum(stacks.values())
    met: Counter[str] = Counter()
    running: Counter[str] = Counter()
    for stack, count in stacks.items():
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in stack.split(";")]
        met.update(dict.fromkeys((frame for frame in frames if _OURS.search(frame)), count))
        running[frames[-1]] += count
    return tuple({name: count / total for name, count in each.most_common(shown)} for each in (met, running))  # type: ignore[return-value]


def main() -> int:
    """Print the profile of one path."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.profiles", description=__doc__)
    parser.add_argument("path", choices=PATHS)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--shown", type=int, default=SHOWN, help="most functions of each list")
    parser.add_argument("--idle", action="store_true", help="count threads that wait, too")
    words = parser.parse_args()
    spy = shutil.which("py-spy")
    if spy is None:
        print("error: py-spy is not on the path; install it with: pip install py-spy", file=sys.stderr)
        return 2
    leave_own_programs()
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
        PATHS[words.path](Path(folder)) as (pids, work),
    ):
        stacks = profile(spy, pids, work, words.seconds, idle=words.idle)
    if not stacks:
        print("error: py-spy saw nothing; it needs the right to trace other processes", file=sys.stderr)
        return 1
    for title, found in zip(
        ("functions of the node, calls included", "running"), shares(stacks, words.shown), strict=True
    ):
        print(f"\n{title}, of {sum(stacks.values())} samples")
        for name, share in found.items():
            print(f"{100 * share:6.1f} %  {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
