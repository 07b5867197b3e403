"""The way from a stored value to a grey: modality, VOI, polarity, padding."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.pixels import apply_modality_lut, apply_voi_lut
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian

from dicom_node.errors import NotAnalysable
from dicom_node.imaging.pixels import read_film
from dicom_node.imaging.voi import VoiWindow
from tests.support.factories import chest, film, put, write

RAMP = np.tile(np.arange(4096, dtype=np.int64), (64, 1))
"""Every 12-bit value in its column."""


def grey(**elements: object) -> np.ndarray:
    """Grey of each 12-bit stored value."""
    return read_film(film(pixels=RAMP, **elements), max_pixels=10**7).pixels[0]


def lut_item(descriptor: list[int], data: list[int] | bytes) -> Dataset:
    item = Dataset()
    item["LUTDescriptor"] = DataElement("LUTDescriptor", "US", descriptor)
    item["LUTData"] = DataElement("LUTData", "OW" if isinstance(data, bytes) else "US", data)
    return item


def sequence(*items: Dataset) -> Sequence:
    return Sequence(list(items))


STRETCHED = np.clip((np.arange(4096) - np.percentile(np.arange(4096), 0.5)) / (0.99 * 4095), 0, 1)
"""Greys of the ramp without a window."""


@pytest.mark.parametrize(
    ("function", "center", "width"),
    [("LINEAR", 2048, 4096), ("LINEAR", 600, 1000), ("LINEAR_EXACT", 600, 1000), ("SIGMOID", 600, 1000)],
)
def test_windows_are_those_of_the_standard(function: str, center: float, width: float) -> None:
    ds = film(pixels=RAMP, window=(center, width), voi_function=function)
    expected = apply_voi_lut(RAMP[0].astype(np.uint16), ds).astype(np.float64)
    if function != "SIGMOID":
        expected /= 4095
    else:
        expected = 1 / (1 + np.exp(-4 * (np.arange(4096) - center) / width))
    assert np.abs(grey(window=(center, width), voi_function=function) - expected).max() < 1e-6


def test_the_ends_of_a_linear_window_are_where_the_standard_puts_them() -> None:
    # PS3.3 C.11.2.1.2.1, example: c = 2048, w = 4096 is the identity; c = 2048, w = 1 is a threshold.
    assert np.abs(grey(window=(2048, 4096)) - np.arange(4096) / 4095).max() < 1e-6
    assert VoiWindow(2048, 1).grey(np.array([2047.0, 2048.0])).tolist() == [0, 1]


@pytest.mark.parametrize(
    "window",
    [
        (2000, 0),
        (2000, -100),
        (2000, 0.5),
        ("nan", 100),
        (2000, "inf"),
        ("abc", "def"),
        ("", ""),
        (60000, 10),
        (-60000, 10),
    ],
)
def test_a_window_that_shows_nothing_is_passed_over(window: tuple[object, object]) -> None:
    shown = grey(WindowCenter=str(window[0]), WindowWidth=str(window[1]))
    assert np.abs(shown - STRETCHED).max() < 1e-3


def test_the_first_window_that_can_be_used_is() -> None:
    shown = grey(WindowCenter=["2000", "2048", "100"], WindowWidth=["0", "4096", "100"])
    assert np.abs(shown - np.arange(4096) / 4095).max() < 1e-6


def test_an_unknown_function_is_linear() -> None:
    assert np.array_equal(grey(window=(600, 1000), voi_function="CUBIC"), grey(window=(600, 1000)))


def test_without_a_window_the_range_in_use_is_stretched() -> None:
    assert np.abs(grey() - STRETCHED).max() < 1e-3


def test_a_few_extreme_pixels_do_not_darken_the_film() -> None:
    pixels = np.round(chest() * 1000).astype(np.int64)
    pixels[:4, :40] = 4095
    shown = read_film(film(pixels=pixels), max_pixels=10**7).pixels
    assert np.median(shown) > 0.25


@pytest.mark.parametrize(("slope", "intercept"), [("2", "-1000"), ("-1", "4095"), ("0.5", "10.5")])
def test_rescale_comes_before_the_window(slope: str, intercept: str) -> None:
    window = {"WindowCenter": "1000", "WindowWidth": "2500"}
    rescaled = RAMP[0] * float(slope) + float(intercept)
    expected = np.clip((rescaled - 999.5) / 2499 + 0.5, 0, 1)
    shown = grey(RescaleSlope=slope, RescaleIntercept=intercept, **window)
    assert np.abs(shown - expected).max() < 1e-6


@pytest.mark.parametrize("slope", ["0", "nan", "inf", "1e308", "-1e308", "1e-300", "abc", ""])
def test_a_slope_that_is_none_is_passed_over(slope: str) -> None:
    assert np.array_equal(grey(RescaleSlope=slope, RescaleIntercept="0"), grey())


@pytest.mark.parametrize("intercept", ["nan", "inf", "1e308", "abc"])
def test_an_intercept_that_is_none_is_passed_over(intercept: str) -> None:
    assert np.array_equal(grey(RescaleSlope="1", RescaleIntercept=intercept), grey())


def test_a_modality_lut_is_applied() -> None:
    data = [int(value) for value in np.arange(4096)[::-1]]
    lut = sequence(lut_item([4096, 0, 16], data))
    shown = grey(ModalityLUTSequence=lut, WindowCenter="2048", WindowWidth="4096")
    ds = film(pixels=RAMP, ModalityLUTSequence=lut)
    expected = apply_modality_lut(RAMP[0].astype(np.uint16), ds) / 4095
    assert np.abs(shown - expected).max() < 1e-6


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_a_voi_lut_is_applied_before_any_window_and_whatever_bits_it_claims(bits: int) -> None:
    data = [int(value) for value in np.sqrt(np.arange(1000) / 999) * 4095]
    lut = sequence(lut_item([1000, 200, bits], data))
    shown = grey(VOILUTSequence=lut, WindowCenter="2048", WindowWidth="4096")
    expected = np.array(data)[np.clip(np.arange(4096) - 200, 0, 999)] / 4095
    assert np.abs(shown - expected).max() < 1e-6


def test_a_voi_lut_in_bytes_is_that_in_numbers() -> None:
    data = np.linspace(0, 65535, 4096).astype("<u2")
    numbers = grey(VOILUTSequence=sequence(lut_item([4096, 0, 16], data.tolist())))
    assert np.array_equal(numbers, grey(VOILUTSequence=sequence(lut_item([4096, 0, 16], data.tobytes()))))
    eight = (data >> 8).astype("u1")
    shown = grey(VOILUTSequence=sequence(lut_item([4096, 0, 8], eight.tobytes())))
    assert np.abs(shown - numbers).max() < 1 / 200


def test_a_descriptor_of_zero_means_65536_entries() -> None:
    data = np.arange(65536).astype("<u2").tobytes()
    pixels = np.tile(np.arange(65536, dtype=np.int64)[::16], (64, 1))
    lut = sequence(lut_item([0, 0, 16], data))
    shown = read_film(film(pixels=pixels, bits=16, VOILUTSequence=lut), max_pixels=10**7).pixels[0]
    assert np.abs(shown - pixels[0] / 65535).max() < 1e-6


def test_a_first_value_below_zero_is_understood_when_written_unsigned() -> None:
    data = [int(value) for value in np.linspace(0, 4095, 4096)]
    lut = sequence(lut_item([4096, 65536 - 1000, 12], data))
    shown = grey(VOILUTSequence=lut, RescaleIntercept="-1000", RescaleSlope="1")
    assert np.abs(shown - np.arange(4096) / 4095).max() < 1e-6


@pytest.mark.parametrize(
    "item",
    [
        lut_item([4096, 0, 16], [1, 2, 3]),
        lut_item([4096, 0], [0] * 4096),
        lut_item([3, 0, 16], [0, 0, 0]),
        lut_item([4096, 0, 16], b""),
        Dataset(),
    ],
    ids=["too short", "no bits", "all zero", "empty", "nothing"],
)
def test_a_lut_that_is_not_what_it_says_is_passed_over(item: Dataset) -> None:
    assert np.array_equal(grey(VOILUTSequence=sequence(item)), grey())
    assert np.array_equal(grey(ModalityLUTSequence=sequence(item)), grey())


def test_monochrome1_is_inverted_after_the_window() -> None:
    window = {"WindowCenter": "600", "WindowWidth": "1000"}
    assert np.abs(grey(photometric="MONOCHROME1", **window) - (1 - grey(**window))).max() < 1e-6


@pytest.mark.parametrize(
    ("photometric", "shape", "inverted"),
    [
        ("MONOCHROME1", "INVERSE", True),
        ("MONOCHROME1", "IDENTITY", False),
        ("MONOCHROME1", None, True),
        ("MONOCHROME1", "LIN OD", True),
        ("MONOCHROME2", "INVERSE", True),
        ("MONOCHROME2", "IDENTITY", False),
    ],
)
def test_presentation_lut_shape_goes_before_photometric_interpretation(
    photometric: str, shape: str | None, inverted: bool
) -> None:
    plain = grey(window=(2048, 4096))
    found = grey(photometric=photometric, window=(2048, 4096), PresentationLUTShape=shape)
    assert np.abs(found - (1 - plain if inverted else plain)).max() < 1e-6


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_stretch_the_film(photometric: str) -> None:
    pixels = np.round(1000 + chest() * 500).astype(np.int64)
    pixels[:, :150] = 4095
    ds = film(pixels=pixels, photometric=photometric, PixelPaddingValue=4095)
    shown = read_film(ds, max_pixels=10**7).pixels
    assert (shown[:, :150] == 0).all()
    assert shown[:, 150:].max() == 1
    assert np.ptp(shown[:, 150:]) > 0.9


def test_a_range_of_padding_is_read_either_way_round() -> None:
    one = grey(PixelPaddingValue=4000, PixelPaddingRangeLimit=4095)
    assert (one[4000:] == 0).all()
    assert one[3999] == 1
    assert np.array_equal(one, grey(PixelPaddingValue=4095, PixelPaddingRangeLimit=4000))


def test_signed_padding_is_compared_as_signed() -> None:
    pixels = np.tile(np.arange(-2048, 2048, dtype=np.int64), (64, 1))
    ds = film(pixels=pixels, signed=True, bits=12)
    ds["PixelPaddingValue"] = DataElement("PixelPaddingValue", "SS", -2048)
    shown = read_film(ds, max_pixels=10**7).pixels[0]
    assert shown[0] == 0
    assert shown[-1] == 1


def cells(
    bits: int, high_bit: int, words: np.ndarray, *, signed: bool = False, **elements: object
) -> np.ndarray:
    ds = film(pixels=words, bits=16, signed=False, **elements)
    put(ds, {"BitsStored": bits, "HighBit": high_bit, "PixelRepresentation": int(signed)})
    return read_film(ds, max_pixels=10**7).pixels[0]


def test_values_at_the_top_of_the_cell_are_those_at_the_bottom() -> None:
    assert np.array_equal(cells(12, 15, RAMP << 4), grey())


def test_a_high_bit_that_no_cell_has_is_ignored() -> None:
    for high_bit in (0, 5, 40):
        assert np.array_equal(cells(12, high_bit, RAMP), grey())


def test_a_wrong_high_bit_over_values_at_the_bottom_does_no_harm() -> None:
    assert np.array_equal(cells(12, 15, RAMP), grey())


def test_bits_of_an_embedded_overlay_are_dropped() -> None:
    words = RAMP | ((RAMP % 7 == 0) << 15)
    overlay = DataElement(0x60000102, "US", 15)
    ds = film(pixels=words, bits=16)
    put(ds, {"BitsStored": 12, "HighBit": 11})
    ds.add(overlay)
    assert np.array_equal(read_film(ds, max_pixels=10**7).pixels[0], grey())


def test_values_beyond_bits_stored_are_refused_and_never_wrap_round() -> None:
    # Ten bits are stated, twelve are used.
    with pytest.raises(NotAnalysable, match="bits outside of the 10") as caught:
        cells(10, 9, RAMP)
    assert caught.value.reason == "bad_header"


@pytest.mark.parametrize("signed", [False, True])
def test_stray_high_bits_are_no_values(signed: bool) -> None:
    # Seen on a CR: bit 15 set over 0.6 % of the pixels, no window, no overlay group.
    values = RAMP - 2048 if signed else RAMP
    stray = (np.arange(RAMP.size).reshape(RAMP.shape) % 160 == 0) << 14
    expected = cells(12, 11, values & 0xFFFF, signed=signed)
    assert np.array_equal(cells(12, 11, (values & 0xFFFF) ^ stray, signed=signed), expected)


@pytest.mark.parametrize("position", [0, 12, 15, None])
def test_an_overlay_group_without_data_is_an_embedded_overlay_whatever_its_position(
    position: int | None,
) -> None:
    words = RAMP | ((RAMP % 7 == 0) << 15)
    ds = film(pixels=words, bits=16)
    put(ds, {"BitsStored": 12, "HighBit": 11})
    ds.add(DataElement(0x60020010, "US", 64))
    if position is not None:
        ds.add(DataElement(0x60020102, "US", position))
    assert np.array_equal(read_film(ds, max_pixels=10**7).pixels[0], grey())


def test_an_overlay_with_data_of_its_own_is_not_drawn_into_the_film() -> None:
    ds = film(pixels=RAMP)
    for element, vr, value in ((0x10, "US", 64), (0x11, "US", 4096), (0x102, "US", 0)):
        ds.add(DataElement(0x60000000 | element, vr, value))
    ds.add(DataElement(0x60003000, "OW", b"\xff" * (RAMP.size // 8)))
    assert np.array_equal(read_film(ds, max_pixels=10**7).pixels[0], grey())


def test_cells_that_are_sign_extended_in_part_are_signed() -> None:
    signed = np.tile(np.arange(-2048, 2048, dtype=np.int64), (64, 1))
    words = np.where(np.arange(64)[:, None] % 2, signed & 0xFFF, signed & 0xFFFF)
    assert np.array_equal(cells(12, 11, words, signed=True), cells(12, 11, signed & 0xFFFF, signed=True))


def test_a_window_under_which_nearly_all_becomes_white_gives_way_to_the_next() -> None:
    # A GE DX: values 31 to 16344, and the window of a CT.
    assert np.abs(grey(WindowCenter="-600", WindowWidth="1600") - STRETCHED).max() < 1e-3
    both = grey(WindowCenter=["-600", "2048"], WindowWidth=["1600", "4096"])
    assert np.abs(both - np.arange(4096) / 4095).max() < 1e-6
    lut = sequence(lut_item([4096, 0, 12], [0] * 200 + [4095] * 3896))
    assert np.abs(grey(VOILUTSequence=lut, WindowCenter="2048", WindowWidth="4096") - both).max() < 1e-6


def test_a_voi_lut_that_is_dim_by_intent_stays_dim() -> None:
    data = [int(value) for value in np.linspace(0, 30000, 4096)]
    shown = grey(VOILUTSequence=sequence(lut_item([4096, 0, 16], data)))
    assert np.abs(shown - np.array(data) / 65535).max() < 1e-6


@pytest.mark.parametrize("vr", ["OW", "US"])
def test_a_lut_of_a_big_endian_data_set_is_read_in_its_byte_order(tmp_path: Path, vr: str) -> None:
    entries = np.round(np.sqrt(np.arange(4096) / 4095) * 4095).astype(np.int64)
    item = Dataset()
    item["LUTDescriptor"] = DataElement("LUTDescriptor", "US", [4096, 0, 12])
    data = entries.astype(">u2").tobytes() if vr == "OW" else entries.tolist()
    item["LUTData"] = DataElement("LUTData", vr, data)
    ds = film(pixels=RAMP, transfer_syntax=ExplicitVRBigEndian, VOILUTSequence=sequence(item))
    shown = read_film(write(ds, tmp_path / "big.dcm"), max_pixels=10**7).pixels[0]
    assert np.abs(shown - entries / 4095).max() < 1e-6


def test_a_decimal_comma_is_a_decimal_point() -> None:
    assert np.array_equal(grey(window=("2048,5", "3000,0")), grey(window=("2048.5", "3000.0")))


@pytest.mark.parametrize("center", ["2,048,5", "2048,", ",5", "2.048,5"])
def test_other_commas_could_mean_anything(center: str) -> None:
    assert np.abs(grey(window=(center, "3000")) - STRETCHED).max() < 1e-3


def test_sign_bits_that_were_not_extended_are() -> None:
    signed = np.tile(np.arange(-2048, 2048, dtype=np.int64), (64, 1))
    shown = cells(12, 11, signed & 0xFFF, signed=True)
    assert (np.diff(shown) >= 0).all()
    assert np.array_equal(shown, cells(12, 11, signed & 0xFFFF, signed=True))


def voi_lut(entries: np.ndarray, bits: int = 12) -> Sequence:
    return sequence(lut_item([len(entries), 0, bits], entries.astype(int).tolist()))


GAMMA = np.round(4095 * (np.arange(4096) / 4095) ** 0.4)
CURVED: dict[str, dict[str, object]] = {
    "sigmoid": {"window": (1500, 900), "voi_function": "SIGMOID"},
    "wide sigmoid": {"window": (1500, 6000), "voi_function": "SIGMOID"},
    "table": {"VOILUTSequence": voi_lut(GAMMA)},
    "table that falls": {"VOILUTSequence": voi_lut(GAMMA[::-1])},
    "table dim by intent": {"VOILUTSequence": voi_lut(GAMMA / 2)},
    "table that turns round": {"VOILUTSequence": voi_lut(2000 + 1500 * np.sin(np.arange(4096) / 500))},
}
STRAIGHT: dict[str, dict[str, object]] = {
    "window": {"window": (1500, 900)},
    "wide window": {"window": (1000, 20000)},
    "exact window": {"window": (1500.5, 900), "voi_function": "LINEAR_EXACT"},
    "window beside the values": {"window": (-3000, 9000)},
    "nothing": {},
    "straight table": {"VOILUTSequence": voi_lut(np.arange(4096))},
}


def through_the_window(ds: Dataset) -> tuple[np.ndarray, bool]:
    """Greys that a viewer shows at first, and whether along a curve."""
    full = read_film(ds, max_pixels=10**7, full_range=True)
    assert full.window is not None
    low = full.window.center - full.window.width / 2
    share = np.clip((full.pixels - low) / full.window.width, 0, 1)
    if full.window.curve is None:
        return share, False
    return np.interp(share, np.linspace(0, 1, len(full.window.curve)), full.window.curve), True


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("name", [*CURVED, *STRAIGHT])
def test_a_viewer_shows_at_first_what_a_model_sees(name: str, photometric: str) -> None:
    elements = {**CURVED, **STRAIGHT}[name]
    ds = film(pixels=RAMP, photometric=photometric, **elements)
    shown, curved = through_the_window(ds)
    assert np.abs(shown - read_film(ds, max_pixels=10**7).pixels).max() < 1 / 255
    assert curved == (name in CURVED)


def test_a_sigmoid_is_shown_as_the_standard_writes_it() -> None:
    shown, _ = through_the_window(film(pixels=RAMP, window=(1500, 900), voi_function="SIGMOID"))
    assert np.abs(shown[0] - 1 / (1 + np.exp(-4 * (RAMP[0] - 1500) / 900))).max() < 1 / 510


def test_a_voi_lut_is_shown_entry_by_entry() -> None:
    shown, _ = through_the_window(film(pixels=RAMP, VOILUTSequence=voi_lut(GAMMA)))
    assert np.abs(shown[0] - GAMMA / 4095).max() < 1 / 510


def test_the_brighter_a_value_is_shown_the_greater_it_is() -> None:
    for photometric, name in itertools.product(["MONOCHROME1", "MONOCHROME2"], CURVED):
        ds = film(pixels=RAMP, photometric=photometric, **CURVED[name])
        window = read_film(ds, max_pixels=10**7, full_range=True).window
        assert window is not None
        assert window.curve is not None
        assert window.curve[-1] >= window.curve[0]


def test_every_value_of_a_curved_film_is_kept_apart() -> None:
    ds = film(pixels=RAMP, VOILUTSequence=voi_lut(np.clip(np.arange(4096) * 4 - 8000, 0, 4095)))
    full = read_film(ds, max_pixels=10**7, full_range=True).pixels
    assert len(np.unique(full)) == 4096


def test_padding_and_shutter_alone_are_nought() -> None:
    ds = film(pixels=RAMP, PixelPaddingValue=100, window=(2048, 90000), ShutterShape="RECTANGULAR",
              ShutterLeftVerticalEdge="51", ShutterRightVerticalEdge="4000",
              ShutterUpperHorizontalEdge="1", ShutterLowerHorizontalEdge="64")  # fmt: skip
    full = read_film(ds, max_pixels=10**7, full_range=True).pixels[0]
    hidden = (np.arange(4096) < 50) | (np.arange(4096) >= 4000) | (np.arange(4096) == 100)
    assert np.array_equal(full == 0, hidden)
