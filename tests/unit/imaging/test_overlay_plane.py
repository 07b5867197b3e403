"""Overlay planes: what is drawn, where, and what contradicts itself."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian, JPEGLSLossless

from dicom_node.errors import NotAnalysable
from dicom_node.imaging.overlay_plane import has_overlay, read_overlay
from dicom_node.imaging.pixels import read_film, read_header
from tests.support.factories import film, put, with_overlay, write

ROWS, COLUMNS = 70, 90
MAX_PIXELS = ROWS * COLUMNS


def base(**given: Any) -> Dataset:
    return film(rows=ROWS, columns=COLUMNS, **given)


def drawing(rows: int = ROWS, columns: int = COLUMNS) -> np.ndarray:
    """A drawing that is alike nowhere: its bits are a random sequence."""
    return np.random.default_rng(5).random((rows, columns)) < 0.3


def read(ds: Dataset, folder: Path) -> np.ndarray:
    return read_overlay(write(ds, folder / "film.dcm"), max_pixels=MAX_PIXELS)


def test_graphics_are_drawn_bit_by_bit(tmp_path: Path) -> None:
    assert np.array_equal(read(with_overlay(base(), drawing()), tmp_path), drawing())
    assert has_overlay(read_header(tmp_path / "film.dcm"))


def test_a_film_without_overlay_has_an_empty_one(tmp_path: Path) -> None:
    assert not read(base(), tmp_path).any()
    assert not has_overlay(read_header(tmp_path / "film.dcm"))


@pytest.mark.parametrize("vr", ["OW", "OB"])
def test_words_of_a_big_endian_file_are_read_in_its_byte_order(tmp_path: Path, vr: str) -> None:
    ds = with_overlay(base(transfer_syntax=ExplicitVRBigEndian), drawing())
    data = np.frombuffer(ds[0x60003000].value, "<u2")
    ds[0x60003000].VR = vr
    ds[0x60003000].value = data.astype(">u2").tobytes() if vr == "OW" else data.tobytes()
    assert np.array_equal(read(ds, tmp_path), drawing())


def test_compressed_pixels_leave_the_overlay_as_it_is(tmp_path: Path) -> None:
    ds = with_overlay(base(transfer_syntax=JPEGLSLossless), drawing())
    assert np.array_equal(read(ds, tmp_path), drawing())


@pytest.mark.parametrize(
    "origin",
    [(1, 1), (11, 21), (-4, -9), (60, 80), (-59, 1), (1, -69), (-500, 1), (1, 500), (32767, -32768)],
)
def test_an_overlay_begins_at_its_origin_and_ends_at_the_edge_of_the_film(
    tmp_path: Path, origin: tuple[int, int]
) -> None:
    mark = drawing(40, 50)
    expected = np.zeros((3000, 3000), bool)
    top, left = (1000 + at - 1 for at in origin)
    if max(top, left) < 2900:
        expected[max(top, 0) : max(top + 40, 0), max(left, 0) : max(left + 50, 0)] = mark
    found = read(with_overlay(base(), mark, origin=origin), tmp_path)
    assert np.array_equal(found, expected[1000 : 1000 + ROWS, 1000 : 1000 + COLUMNS])


def test_a_region_is_drawn_as_its_outline(tmp_path: Path) -> None:
    region = np.zeros((ROWS, COLUMNS), bool)
    region[20:30, 40:60] = True
    expected = region.copy()
    expected[21:29, 41:59] = False
    assert np.array_equal(read(with_overlay(base(), region, kind="R"), tmp_path), expected)


def test_planes_of_several_groups_are_drawn_together(tmp_path: Path) -> None:
    first, second = np.zeros((2, ROWS, COLUMNS), bool)
    first[5], second[:, 7] = True, True
    ds = with_overlay(with_overlay(base(), first), second, group=0x601E)
    assert np.array_equal(read(ds, tmp_path), first | second)


def test_the_first_of_many_frames_is_drawn(tmp_path: Path) -> None:
    frames = np.stack([drawing(), ~drawing()])
    packed = np.packbits(frames, bitorder="little").tobytes()
    ds = with_overlay(base(), drawing(), x0015=("IS", "2"), x3000=("OW", packed + b"\0" * (len(packed) % 2)))
    assert np.array_equal(read(ds, tmp_path), drawing())
    later = with_overlay(base(), drawing(), x0051=("US", 2))  # begins at a second frame of the picture
    assert not read(later, tmp_path).any()


@pytest.mark.parametrize(
    "stated",
    [
        {"x3000": ("OW", b"\xff" * 10)},
        {"x0010": ("US", 0)},
        {"x0011": ("US", 65535)},
        {"x0010": None},
        {"x0040": ("CS", "X")},
        {"x0040": None},
    ],
    ids=["too short", "no rows", "too large", "rows missing", "unknown type", "type missing"],
)
def test_a_plane_that_contradicts_itself_is_left_out(tmp_path: Path, stated: dict[str, Any]) -> None:
    ds = with_overlay(base(), drawing(), **stated)
    good = np.zeros((ROWS, COLUMNS), bool)
    good[3] = True
    assert np.array_equal(read(with_overlay(ds, good, group=0x6002), tmp_path), good)


def test_a_malformed_origin_is_the_first_pixel(tmp_path: Path) -> None:
    assert np.array_equal(read(with_overlay(base(), drawing(), x0050=("SS", [5])), tmp_path), drawing())


def embedded(bit: int, *, stored: int = 12, drawn: np.ndarray) -> Dataset:
    values = np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) % (1 << stored)
    ds = film(pixels=values | drawn.astype(np.int64) << bit, bits=16)
    put(ds, {"BitsStored": stored, "HighBit": stored - 1})
    return with_overlay(ds, drawn, x3000=None, x0100=("US", 16), x0102=("US", bit))


@pytest.mark.parametrize("bit", [12, 15])
def test_a_plane_in_a_bit_above_the_values_is_drawn(tmp_path: Path, bit: int) -> None:
    ds = embedded(bit, drawn=drawing())
    assert np.array_equal(read(ds, tmp_path), drawing())
    plain = read_film(embedded(15, drawn=np.zeros((ROWS, COLUMNS), bool)), max_pixels=MAX_PIXELS)
    assert np.array_equal(read_film(ds, max_pixels=MAX_PIXELS).pixels, plain.pixels)


@pytest.mark.parametrize("bit", [0, 11])
def test_a_plane_that_would_lie_in_a_bit_of_the_values_is_none(tmp_path: Path, bit: int) -> None:
    ds = embedded(15, drawn=drawing())
    ds[0x60000102].value = bit
    assert not read(ds, tmp_path).any()


def test_a_film_larger_than_the_limit_is_refused(tmp_path: Path) -> None:
    path = write(with_overlay(base(), drawing()), tmp_path / "film.dcm")
    with pytest.raises(NotAnalysable, match="more than"):
        read_overlay(path, max_pixels=MAX_PIXELS - 1)


@pytest.mark.peer
@pytest.mark.parametrize("case", ["plain", "moved", "embedded"])
def test_dcmtk_draws_the_same(tmp_path: Path, case: str) -> None:
    frame = np.zeros((ROWS, COLUMNS), bool)
    frame[10:60:7, 5:80] = frame[10:60, 5:80:9] = True
    if case == "embedded":
        ds = embedded(15, drawn=frame)
    else:
        ds = with_overlay(base(), frame, origin=(-4, 12) if case == "moved" else (1, 1))
    path = write(ds, tmp_path / "film.dcm")
    pictures = []
    for option in ("-O", "+Omr"):
        done = subprocess.run(
            ["dcm2pnm", "+Ww", "2048", "40000", option, path, tmp_path / "out.pgm"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        with Image.open(tmp_path / "out.pgm") as picture:
            pictures.append(np.asarray(picture).astype(int))
    assert np.array_equal(read_overlay(path, max_pixels=MAX_PIXELS), pictures[0] != pictures[1])
