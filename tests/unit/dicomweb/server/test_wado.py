"""Parts of stored objects whose bytes cannot be followed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pydicom.uid import ExplicitVRBigEndian, JPEGLSLossless

from dicom_node.dicomweb.server.wado import PartNotFound, parse_accept, read_bulk, read_frames
from tests.support.factories import encoded, film, write


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


@pytest.mark.parametrize("rows", [64, 512])
def test_cells_of_a_film_in_big_endian_come_in_little_endian(tmp_path: Path, rows: int) -> None:
    ds = film(rows=rows, columns=512, transfer_syntax=ExplicitVRBigEndian)
    content, _ = read_bulk(write(ds, tmp_path / "film.dcm"), 0x7FE00010)
    assert isinstance(content, bytes) == (rows == 64)
    whole = content if isinstance(content, bytes) else b"".join(content.pieces())
    assert np.array_equal(np.frombuffer(whole, "<u2").reshape(rows, 512), ds.pixel_array)


@pytest.mark.parametrize("side", [64, 1024])
def test_fragments_are_no_value(tmp_path: Path, side: int) -> None:
    noise = np.random.default_rng(0).integers(0, 4096, (side, side))
    path = write(film(pixels=noise / 4096, transfer_syntax=JPEGLSLossless), tmp_path / "film.dcm")
    with pytest.raises(PartNotFound):
        read_bulk(path, 0x7FE00010)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("image/png;q=0.2, image/jpeg", ["image/jpeg", "image/png"]),
        ("image/png, image/jpeg;q=1.0, image/gif;q=0.999", ["image/png", "image/jpeg", "image/gif"]),
        ("image/png;q=0, image/jpeg;q=0.000, image/gif;q=0.001", ["image/gif"]),
        ("image/png;q=high, image/jpeg;q=0.5", ["image/png", "image/jpeg"]),
    ],
)
def test_the_most_wanted_comes_first_and_nothing_that_is_not_wanted(header: str, expected: list[str]) -> None:
    assert [each.media_type for each in parse_accept(header)] == expected
