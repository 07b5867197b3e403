"""Whatever bytes come: a film of finite greys, or a reason; never anything else."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.errors import NotAnalysable
from dicom_node.imaging.grayscale import grey_transform
from dicom_node.imaging.pixels import read_film, read_header
from dicom_node.imaging.stored_values import PixelCell, stored_values
from dicom_node.results.codes import REFUSALS
from tests.support.factories import encoded, film, put

# Native ones only: damaged codestreams belong into the decoder process, where a crash is survived.
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


@functools.cache
def whole(syntax: str) -> bytes:
    return encoded(film(rows=72, columns=64, window=(2000, 4000), transfer_syntax=syntax))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films") / "film.dcm"


def assert_film_or_reason(path: Path) -> None:
    reasons = []
    try:
        pixels = read_film(path, max_pixels=10**6).pixels
    except NotAnalysable as error:
        reasons.append(error.reason)
    else:
        assert pixels.dtype == np.float32
        assert np.isfinite(pixels).all()
        assert pixels.min() >= 0
        assert pixels.max() <= 1
    try:
        read_header(path)
    except NotAnalysable as error:
        reasons.append(error.reason)
    assert set(reasons) <= set(REFUSALS)


@settings(max_examples=120, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_with_bytes_changed(path: Path, data: st.DataObject) -> None:
    content = bytearray(whole(data.draw(st.sampled_from(SYNTAXES))))
    header = len(content) - 72 * 64 * 2
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(132, header + 20))
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    assert_film_or_reason(path)


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_file_with_pieces_cut_out_doubled_or_put_in(path: Path, data: st.DataObject) -> None:
    content = whole(data.draw(st.sampled_from(SYNTAXES)))
    first = data.draw(st.integers(0, 1500))
    last = data.draw(st.integers(first, first + 200))
    middle = data.draw(st.sampled_from([b"", content[first:last] * 2]) | st.binary(max_size=64))
    path.write_bytes(content[:first] + middle + content[last:])
    assert_film_or_reason(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=600), st.booleans())
def test_bytes_of_any_kind(path: Path, content: bytes, preamble: bool) -> None:
    path.write_bytes((bytes(128) + b"DICM" if preamble else b"") + content)
    assert_film_or_reason(path)


ODDITIES = ["", "0", "-0", "1e308", "-1e308", "1e-308", "nan", "inf", "-inf", "abc", "1\\2", "0\\1"]
NUMBERS = st.one_of(st.floats(width=64).map(lambda value: f"{value:.6g}"), st.sampled_from(ODDITIES))
ELEMENTS = st.fixed_dictionaries(
    {
        "RescaleSlope": NUMBERS,
        "RescaleIntercept": NUMBERS,
        "WindowCenter": NUMBERS,
        "WindowWidth": NUMBERS,
        "VOILUTFunction": st.sampled_from([None, "LINEAR", "LINEAR_EXACT", "SIGMOID", "?"]),
        "PixelPaddingValue": st.none() | st.integers(0, 65535),
    }
)
CELLS = st.builds(
    lambda stored, high_bit, signed: PixelCell(stored, max(stored - 1, min(high_bit, 15)), signed),
    st.integers(8, 16),
    st.integers(0, 15),
    st.booleans(),
)


@settings(max_examples=120)
@given(elements=ELEMENTS, cell=CELLS, inverted=st.booleans(), seed=st.integers(0, 3))
def test_no_header_leads_to_a_grey_that_is_none(
    elements: dict[str, object], cell: PixelCell, inverted: bool, seed: int
) -> None:
    ds = put(Dataset(), elements)
    cells = np.random.default_rng(seed).integers(0, 1 << cell.stored, (64, 64)).astype(np.uint16)
    try:
        transform = grey_transform(ds, cell, cells, inverted=inverted)
    except NotAnalysable as error:
        assume(error.reason != "blank")
        raise
    table = transform.grey(ds, stored_values(cell, cells))
    assert table.shape == (65536,)
    occurring = transform.grey(ds, stored_values(cell, cells, occurring=True))
    assert np.array_equal(occurring, table[: int(cells.max()) + 1])
    assert np.isfinite(table).all()
    assert table.min() >= 0
    assert table.max() <= 1
    assert table[cells].max() > table[cells].min()


@settings(max_examples=40)
@given(
    rows=st.integers(64, 90),
    columns=st.integers(64, 90),
    bits=st.integers(8, 16),
    photometric=st.sampled_from(["MONOCHROME1", "MONOCHROME2"]),
    seed=st.integers(0, 100),
    syntax=st.sampled_from([ImplicitVRLittleEndian, JPEG2000Lossless, JPEGLSLossless, RLELossless]),
)
def test_lossless_encoding_changes_no_film(
    rows: int, columns: int, bits: int, photometric: str, seed: int, syntax: str
) -> None:
    def pixels(transfer_syntax: str) -> np.ndarray:
        ds = film(
            rows=rows,
            columns=columns,
            bits=bits,
            photometric=photometric,
            seed=seed,
            transfer_syntax=transfer_syntax,
        )
        return read_film(ds, max_pixels=10**6).pixels

    assert np.array_equal(pixels(syntax), pixels(ExplicitVRLittleEndian))


@settings(max_examples=20)
@given(seed=st.integers(0, 100))
def test_lossy_encoding_changes_little(seed: int) -> None:
    size = {"rows": 96, "columns": 80, "bits": 8, "seed": seed}
    plain = read_film(film(**size), max_pixels=10**6).pixels
    lossy = read_film(film(transfer_syntax=JPEGBaseline8Bit, **size), max_pixels=10**6).pixels
    assert np.abs(plain - lossy).mean() < 0.03
