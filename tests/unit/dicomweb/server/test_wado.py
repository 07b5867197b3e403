"""Parts of stored objects whose bytes cannot be followed."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.dicomweb.server.wado import PartNotFound, read_bulk, read_frames
from tests.support.factories import encoded, film


def test_an_object_that_ends_within_a_sequence_has_no_parts(tmp_path: Path) -> None:
    data = encoded(film())
    where = data.index(b"\x20\x00\x13\x00IS")
    # A sequence of undefined length whose item announces more than there is.
    cut = b"\x20\x00\x0e\x00SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    path = tmp_path / "film.dcm"
    for rest in (b"", b"\xfe\xff\r\xe0\0\0\0\0"):
        path.write_bytes(data[:where] + cut + rest)
        with pytest.raises(PartNotFound):
            read_frames(path, [1])
        with pytest.raises(PartNotFound):
            read_bulk(path, 0x7FE00010)
