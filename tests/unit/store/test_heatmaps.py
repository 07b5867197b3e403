from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import StorageFailed
from dicom_node.store.heatmaps import HeatMaps


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "zeroed", "flipped"])
def test_a_damaged_file_is_an_error_and_never_another_map(tmp_path: Path, how: str) -> None:
    maps = HeatMaps(tmp_path / "maps")
    shown = np.arange(256, dtype=np.uint8).reshape(16, 16)
    name = maps.keep([shown, shown.T])
    assert (maps.read(name, 1) == shown.T).all()
    path = maps.root / name
    content = path.read_bytes()
    middle = len(content) // 2
    flipped = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    changed = {"empty": b"", "truncated": content[:-9], "zeroed": bytes(len(content)), "flipped": flipped}
    if how == "missing":
        path.unlink()
    else:
        path.write_bytes(changed[how])
    with pytest.raises(StorageFailed, match="cannot be read"):
        maps.read(name, 0)
    assert maps.keep([shown, shown.T]) == name
    assert (maps.read(name, 0) == shown).all()
    assert [entry.name for entry in maps.root.iterdir()] == [name[:2]]
