from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dicom_node.runtime import temporary_files
from dicom_node.runtime.lease_owner import LeaseOwner

MAKE = """
import sys
from pathlib import Path
from dicom_node.runtime import temporary_files
print(temporary_files.create(Path(sys.argv[1]), ".part")[1], flush=True)
sys.stdin.read()
"""


def test_the_files_of_a_killed_process_go_and_those_of_a_living_one_stay(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", MAKE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    theirs = Path(child.stdout.readline().strip())
    descriptor, mine = temporary_files.create(tmp_path)
    os.close(descriptor)
    old = 10 * temporary_files.STALE_SECONDS
    for path in (theirs, mine):
        os.utime(path, (old, old))  # age says nothing about a living process
    assert temporary_files.remove_left_over(tmp_path) == 0
    child.kill()
    child.communicate()
    os.utime(theirs)
    assert temporary_files.remove_left_over(tmp_path) == 1
    assert [path.name for path in tmp_path.iterdir()] == [mine.name]


@pytest.mark.parametrize(
    ("name", "goes"), [("tmpab12cd_9", True), ("tmpab12cd_9.dcm", True), ("web.key", False)]
)
def test_files_of_unknown_processes_go_when_they_are_a_day_old(
    tmp_path: Path, name: str, *, goes: bool
) -> None:
    path = tmp_path / name
    path.write_bytes(b"half")
    assert temporary_files.remove_left_over(tmp_path) == 0
    before = path.stat().st_mtime - temporary_files.STALE_SECONDS - 1
    os.utime(path, (before, before))
    assert temporary_files.remove_left_over(tmp_path) == goes


def test_files_of_another_container_are_kept_for_a_day(tmp_path: Path) -> None:
    owner = LeaseOwner.this_process()
    path = tmp_path / f"tmp-{owner.boot}-{owner.namespace + 1}-1-1-abcdefgh"
    path.write_bytes(b"half")
    assert temporary_files.remove_left_over(tmp_path) == 0
    assert temporary_files.remove_left_over(tmp_path, alone=True) == 1


def test_folders_of_a_killed_process_go_with_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left = tmp_path / "dicom-node-left"
    left.mkdir()
    owner = LeaseOwner.this_process()
    dead = LeaseOwner(owner.host, owner.pid, owner.started - 1, owner.boot, owner.namespace)
    (left / "owner").write_text(str(dead))
    foreign = tmp_path / "dicom-node-foreign"
    foreign.mkdir()
    with temporary_files.private_folder("dicom-node-") as one:
        with temporary_files.private_folder("dicom-node-") as two:
            assert {path.name for path in tmp_path.iterdir()} == {one.name, two.name, "dicom-node-foreign"}
        assert one.exists()
    assert not one.exists()
