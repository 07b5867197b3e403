"""Seconds from the release of the association to the report at the destination, without the quiet time.

The baseline is DCMTK: the time in which storescu sends the same film to storescp.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage

from tests.support import factories
from tests.support.dicom_tools import storescu
from tests.support.peers import Node, StoreSCP, until

RUNS = 9
SIDES = {"0.5 MB": (512, 488), "10 MB": (2236, 2236)}


def peak(pid: int) -> int:
    """Peak resident memory, MiB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) // 1024


def reports(pacs: StoreSCP) -> int:
    return sum(path.name.startswith("SR") for path in pacs.files())


@pytest.mark.peer
def test_turnaround(tmp_path: Path) -> None:
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        StoreSCP(tmp_path / "plain", "PLAIN") as plain,
        Node(tmp_path / "node", [pacs.destination], study__quiet_seconds="0") as node,
    ):
        print(f"\nready after {node.seconds_to_ready:.1f} s")
        print(f"{'film':8}{'SR median s':>13}{'min':>7}{'max':>7}{'DCMTK s':>9}{'ratio':>7}")
        for name, (rows, columns) in SIDES.items():
            ours, theirs = [], []
            for run in range(RUNS):
                chest = factories.chest(rows, columns, seed=run % 4)
                pixels = np.round(chest * 4095).astype(np.int64)
                ds = factories.film(pixels=pixels, study=f"{name}-{run}", series=run, instance=run + 1)
                film = factories.write(ds, tmp_path / "film.dcm")
                before = time.perf_counter()
                command = ["storescu", "-aec", "PLAIN", "127.0.0.1", str(plain.port), str(film)]
                subprocess.run(command, check=True, env={"TCP_NODELAY": "1", "PATH": "/usr/bin"})
                theirs.append(time.perf_counter() - before)
                count = reports(pacs)
                assert storescu(node.port, [film]).returncode == 0
                released = time.perf_counter()
                until(lambda count=count: reports(pacs) > count, 30, "a report")
                ours.append(time.perf_counter() - released)
                node.settled(1)
            middle, peer = statistics.median(ours), statistics.median(theirs)
            print(f"{name:8}{middle:13.2f}{min(ours):7.2f}{max(ours):7.2f}{peer:9.2f}{middle / peer:7.1f}")
        parts = node.children()
        print("peak MiB:", {part: max(map(peak, pids)) for part, pids in parts.items()})
        assert all(
            dcmread(path).SOPClassUID == Comprehensive3DSRStorage
            for path in pacs.files()
            if path.name.startswith("SR")
        )
