"""The secret of the node is made once, and not used when it is damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.errors import StorageFailed
from dicom_node.store.secret_key import read_secret_key


@pytest.mark.parametrize("damaged", [b"", b"short", bytes(32)])
def test_a_damaged_secret_is_not_used(tmp_path: Path, damaged: bytes) -> None:
    path = tmp_path / "web.key"
    key = read_secret_key(path)
    assert key == read_secret_key(path)
    path.write_bytes(damaged)
    with pytest.raises(StorageFailed, match="damaged"):
        read_secret_key(path)
    assert path.read_bytes() == damaged
    assert list(tmp_path.iterdir()) == [path]
