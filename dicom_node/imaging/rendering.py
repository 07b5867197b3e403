"""Rendered frames: one frame of any instance as a person sees it, 8 bits, grey or sRGB.

More can be shown than a model may read: colour, many frames, icons, blank films. Decoders of compressed
pixels are C code that reads untrusted bytes: call :func:`render_frame` through
:class:`dicom_node.imaging.decoder.Decoder`, whose process can be killed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.uid import ExplicitVRBigEndian

from dicom_node.errors import NotAnalysable
from dicom_node.imaging import attributes
from dicom_node.imaging.grayscale import display_table
from dicom_node.imaging.pixel_shape import aspect_ratio
from dicom_node.imaging.pixels import (
    GRAYSCALE,
    errors_as_not_analysable,
    integer,
    is_inverted,
    photometric_name,
    pixel_cell,
    read_instance,
    transfer_syntax_of,
    without_pixels,
)
from dicom_node.imaging.shutter import visible
from dicom_node.imaging.voi import VoiWindow


@dataclass(frozen=True, slots=True, eq=False)
class RenderedFrame:
    """One frame as a person sees it, pixel by pixel.

    Attributes
    ----------
    pixels
        Shape (Rows, Columns), grey, in the MONOCHROME2 sense: low values are dark; or (Rows, Columns, 3),
        sRGB.
    aspect_ratio
        Height of a pixel over its width, from 1/4 to 4.
    """

    pixels: NDArray[np.uint8]
    aspect_ratio: float = 1.0


_PALETTE: Final = "PALETTE COLOR"
_COLOURS: Final = frozenset({"RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"})
_BITS_ALLOCATED: Final = frozenset({1, 8, 16})
_BYTE: Final = 8


def render_frame(
    source: Path, *, max_pixels: int, number: int = 1, windowing: VoiWindow | None = None
) -> RenderedFrame:
    """Read one frame of a file and render it as it is displayed.

    Parameters
    ----------
    source
        Path of a file.
    max_pixels
        Most pixels (Rows x Columns x frames) that are decoded.
    number
        Frame number, from 1.
    windowing
        Window for a grey picture; None for the window of the header. Colour ignores it.

    Returns
    -------
    RenderedFrame

    Raises
    ------
    NotAnalysable
        With the key of a reason: ``undecodable``, ``transfer_syntax``, ``no_pixels``, ``bad_header`` or
        ``too_large``.
    StorageFailed
        When the file cannot be opened.
    """
    with errors_as_not_analysable(f"the file {source.name}"):
        ds = read_instance(source, pixels=True)
        if attributes.value(ds, "PixelData") is None:
            raise NotAnalysable("no_pixels", "the instance holds no pixel data")
        photometric = attributes.text(ds, "PhotometricInterpretation").upper()
        colours = photometric in _COLOURS
        decoded = _decoded(ds, number, photometric, samples=3 if colours else 1, max_pixels=max_pixels)
        header = _of_frame(ds, number)
        if photometric in GRAYSCALE:
            pixels = _grey(ds, header, decoded, windowing)
        elif colours:
            pixels = _eight_bits(decoded, integer(ds, "BitsStored"))
        else:
            entries = apply_color_lut(decoded, ds)[..., :3]
            if "RedPaletteColorLookupTableData" in ds and transfer_syntax_of(ds) == ExplicitVRBigEndian:
                entries = entries.byteswap()  # apply_color_lut reads words in this machine's byte order
            pixels = _eight_bits(entries, _BYTE * entries.dtype.itemsize)
        return RenderedFrame(pixels, aspect_ratio(header))


def _decoded(ds: Dataset, number: int, photometric: str, *, samples: int, max_pixels: int) -> NDArray[Any]:
    """Check the header, then decode one frame: pixel cells, or red, green and blue."""
    found = integer(ds, "SamplesPerPixel", 1)
    if photometric not in GRAYSCALE | _COLOURS | {_PALETTE} or found != samples:
        what = photometric_name(photometric)
        raise NotAnalysable("bad_header", f"a picture that is {what} with {found} samples a pixel")
    frames = integer(ds, "NumberOfFrames", 1)
    rows, columns = integer(ds, "Rows"), integer(ds, "Columns")
    if not 1 <= number <= frames or min(rows, columns) < 1:
        raise NotAnalysable("bad_header", f"there is no frame {number} of {rows} x {columns} pixels")
    if rows * columns * frames > max_pixels:
        raise NotAnalysable(
            "too_large",
            f"{frames} x {rows} x {columns} pixels are more than the {max_pixels} that are decoded",
        )
    allocated, stored = integer(ds, "BitsAllocated"), integer(ds, "BitsStored")
    if allocated not in _BITS_ALLOCATED or not 1 <= stored <= allocated:
        raise NotAnalysable("bad_header", f"{stored} bits stored in {allocated} allocated are not shown")
    data = ds["PixelData"]
    options: dict[str, Any] = {
        "pixel_keyword": "PixelData",
        "pixel_vr": data.VR,
        "number_of_frames": frames,
        "rows": rows,
        "columns": columns,
        "samples_per_pixel": samples,
        "photometric_interpretation": photometric,
        "planar_configuration": integer(ds, "PlanarConfiguration", 0),
        "bits_allocated": allocated,
        "bits_stored": stored,
        "pixel_representation": integer(ds, "PixelRepresentation", 0),
        "correct_unused_bits": photometric in _COLOURS,  # for grey, grayscale.py decides what they mean
        "view_only": True,
    }
    decoder = get_decoder(transfer_syntax_of(ds))
    pixels, _ = decoder.as_array(data.value, index=number - 1, raw=photometric not in _COLOURS, **options)
    expected = (rows, columns) if samples == 1 else (rows, columns, samples)
    if pixels.shape != expected or pixels.dtype.kind not in "iu":
        raise ValueError(f"{pixels.shape} pixels came out, not {expected}")
    return pixels if pixels.dtype.isnative else pixels.astype(pixels.dtype.newbyteorder("="))


def _grey(
    ds: Dataset, header: Dataset, pixels: NDArray[Any], windowing: VoiWindow | None
) -> NDArray[np.uint8]:
    cells = pixels.view(f"u{pixels.dtype.itemsize}")
    cell = pixel_cell(ds, integer(ds, "BitsAllocated"), integer(ds, "BitsStored"))
    inverted = is_inverted(ds)
    film = "MaximumFractionalValue" not in ds and integer(ds, "NumberOfFrames", 1) == 1
    table = display_table(header, cell, cells, inverted=inverted, windowing=windowing, film=film)
    picture = np.take((table * 255 + 0.5).astype(np.uint8), cells, mode="clip")
    if film and (seen := visible(ds, *picture.shape)) is not None:
        picture[~seen] = 0
    return picture


def _of_frame(ds: Dataset, number: int) -> Dataset:
    """Return the header, with a frame's greys and shape from its functional groups (PS3.3 C.7.6.16)."""
    header = without_pixels(ds)
    shared = attributes.items(ds, "SharedFunctionalGroupsSequence")[:1]
    own = attributes.items(ds, "PerFrameFunctionalGroupsSequence")[number - 1 : number]
    for group in (*shared, *own):
        for keyword in ("PixelMeasuresSequence", "PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in attributes.items(group, keyword)[:1]:
                header.update(item)
    if full := attributes.numbers(ds, "MaximumFractionalValue"):  # a segmentation has no window of its own
        header.WindowCenter, header.WindowWidth, header.VOILUTFunction = full[0] / 2, full[0], "LINEAR_EXACT"
    return header


def _eight_bits(pixels: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    return (pixels >> max(0, bits - _BYTE)).astype(np.uint8)
