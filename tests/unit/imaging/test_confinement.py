"""Confinement of a decoder process: what it may not do is refused, with Landlock and without."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dicom_node.errors import StorageFailed
from dicom_node.imaging.confinement import limit_cpu
from dicom_node.imaging.decoder import Decoder, read_only_below
from tests.support import factories
from tests.support.peers import ROOT

MAY = {"read", "import", "memfd", "thread"}


def attempts(tmp_path: Path, *, landlock: bool) -> dict[str, object]:
    allowed, secret = tmp_path / "allowed" / "film", tmp_path / "secret"
    allowed.parent.mkdir()
    for path in (allowed, secret):
        path.write_text("x")
    ran = subprocess.run(
        [
            *(sys.executable, "-m", "tests.support.confined_child", str(os.getpid()), str(landlock)),
            *(str(allowed), str(secret)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert allowed.read_text() == "x"
    assert [each.name for each in allowed.parent.iterdir()] == ["film"]
    if "seccomp" in found["lacking"]:
        pytest.skip("this kernel has no seccomp for it")
    return dict(found)


@pytest.mark.parametrize("landlock", [True, False])
def test_network_files_and_processes_are_out_of_reach(tmp_path: Path, landlock: bool) -> None:
    found = attempts(tmp_path, landlock=landlock)
    lacking = found.pop("lacking")
    may = MAY | {"secret"} if "Landlock" in lacking else MAY
    assert {name for name, outcome in found.items() if outcome == "done"} == may
    refused = {name: outcome for name, outcome in found.items() if name not in may}
    assert set(refused.values()) <= {"EPERM", "EACCES", "ENOSYS", "EFBIG"}, refused


def test_a_decoder_reads_only_below_the_folders_of_its_node(tmp_path: Path) -> None:
    inside, outside = tmp_path / "data" / "film.dcm", tmp_path / "film.dcm"
    inside.parent.mkdir()
    for path in (inside, outside):
        factories.film().save_as(path, enforce_file_format=True)
    read_only_below(inside.parent)
    try:
        with Decoder(max_pixels=10**7, decode_seconds=60, decode_bytes=4 << 30) as decoder:
            assert decoder.decode(inside).size
            if "Landlock" not in decoder.lacking:
                with pytest.raises(StorageFailed):
                    decoder.decode(outside)
            status = Path(f"/proc/{decoder._process.pid}/status").read_text()
            environment = Path(f"/proc/{decoder._process.pid}/environ").read_bytes()
    finally:
        read_only_below()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert fields["Threads"] == "1"
    assert b"DICOM_NODE_" not in environment


def test_a_process_that_computes_for_ever_is_ended_by_the_kernel() -> None:
    program = "from dicom_node.imaging.confinement import limit_cpu\nlimit_cpu(0.1)\nwhile True:\n    pass\n"
    begun = time.monotonic()
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, timeout=60)
    assert ran.returncode == -24  # SIGXCPU
    assert time.monotonic() - begun < 60


def test_the_limit_of_processor_time_moves_with_each_film() -> None:
    before = resource.getrlimit(resource.RLIMIT_CPU)
    try:
        limit_cpu(100)
        first = resource.getrlimit(resource.RLIMIT_CPU)[0]
        limit_cpu(200)
        assert first + 99 <= resource.getrlimit(resource.RLIMIT_CPU)[0]
    finally:
        resource.setrlimit(resource.RLIMIT_CPU, before)
