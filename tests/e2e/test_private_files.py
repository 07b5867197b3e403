"""Whole node under an open umask: all that it keeps is for its user alone."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tests.support.dicom_tools import storescu
from tests.support.peers import Node, StoreSCP


def test_nothing_that_a_node_writes_is_open_to_others(tmp_path: Path, cr_films: list[Path]) -> None:
    before = os.umask(0)
    try:
        with StoreSCP(tmp_path / "pacs") as pacs, Node(tmp_path / "node", [pacs.destination]) as node:
            assert storescu(node.port, cr_films).returncode == 0
            node.settled(1, seconds=120)
            root = node.data_dir
            kept = [root, *root.rglob("*")]
            loose = [
                str(path.relative_to(root))
                for path in kept
                if not path.is_symlink() and stat.S_IMODE(path.lstat().st_mode) & 0o077
            ]
            assert loose == []
            names = {path.name for path in kept}
            assert {"index.sqlite", "index.sqlite-wal", "lock"} <= names
    finally:
        os.umask(before)
