"""Compression of the pictures among the results: RGB of 8 bits, one frame (PS3.5 8.2 and A.4).

A picture is compressed once, when it is written. A destination that does not take its transfer syntax gets
the same pixels uncompressed (:func:`decompressed`).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Final, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.pixels.encoders.base import get_encoder
from pydicom.pixels.utils import decompress
from pydicom.tag import Tag
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.imaging import attributes
from dicom_node.results.encoding.part10 import put

Compression: TypeAlias = Literal["jpeg", "jpeg-ls", "rle", "none"]

TRANSFER_SYNTAXES: Final[dict[Compression, UID]] = {
    "jpeg": JPEGBaseline8Bit,
    "jpeg-ls": JPEGLSLossless,
    "rle": RLELossless,
    "none": ExplicitVRLittleEndian,
}
"""Transfer syntax that each compression writes."""

_QUALITY: Final = 90
_HALF_THE_COLUMNS: Final = 1
"""Pillow's number for chroma of half the columns, 4:2:2, as Photometric Interpretation YBR_FULL_422 says."""
_PIXEL_DATA: Final = Tag("PixelData")


def put_picture(ds: Dataset, picture: NDArray[np.uint8], compression: Compression) -> UID:
    """Set the Image Pixel module (PS3.3 C.7.6.3) of a picture; return the transfer syntax.

    Parameters
    ----------
    ds
        Secondary Capture; what it says of the source's own loss is kept, and the loss that is added comes
        last (PS3.3 C.7.6.1.1.5).
    picture
        Shape (Rows, Columns, 3), sRGB.
    """
    syntax = TRANSFER_SYNTAXES[compression]
    rows, columns, samples = picture.shape
    put(
        ds,
        SamplesPerPixel=samples,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=0,
        Rows=rows,
        Columns=columns,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
    )
    if compression == "none":
        content = picture.tobytes()
        ds.add_new(_PIXEL_DATA, "OB", content + b"\0" * (len(content) % 2))
        return syntax
    if compression == "jpeg":
        frame = _jpeg(picture)
        put(ds, PhotometricInterpretation="YBR_FULL_422", **_loss(ds, picture.nbytes / len(frame)))
    else:
        frame = get_encoder(syntax).encode(
            picture,
            rows=rows,
            columns=columns,
            samples_per_pixel=samples,
            photometric_interpretation="RGB",
            bits_allocated=8,
            bits_stored=8,
            pixel_representation=0,
            planar_configuration=0,
            number_of_frames=1,
        )
    ds.add_new(_PIXEL_DATA, "OB", encapsulate([frame]))
    ds[_PIXEL_DATA].is_undefined_length = True
    return syntax


def decompressed(path: Path) -> Dataset:
    """Return the data set of a file with its pixels uncompressed, the same to the last bit.

    The instance keeps its UID: decompression loses nothing (PS3.4 B.4.1.3).

    Raises
    ------
    dicom_node.imaging.attributes.MALFORMED
        When the pixels cannot be decompressed.
    """
    with attributes.tolerance():
        ds = dcmread(path)
        decompress(ds, as_rgb=True, generate_instance_uid=False)
    return ds


def written(ds: Dataset) -> bytes:
    """Return a data set from :func:`decompressed` as a Part 10 file."""
    stream = io.BytesIO()
    with attributes.tolerance():
        dcmwrite(stream, ds, enforce_file_format=True)
    return stream.getvalue()


def _jpeg(picture: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "JPEG", quality=_QUALITY, subsampling=_HALF_THE_COLUMNS)
    return stream.getvalue()


def _loss(ds: Dataset, ratio: float) -> dict[str, object]:
    """Lossy Image Compression attributes after one more step, whose values come last."""

    def with_last(keyword: str, value: str) -> list[str]:
        return [*attributes.texts(ds, keyword), value]

    methods = with_last("LossyImageCompressionMethod", "ISO_10918_1")
    ratios = with_last("LossyImageCompressionRatio", f"{ratio:.6g}")
    found: dict[str, object] = {"LossyImageCompression": "01"}
    # Both have a value for each step: a step of the film whose ratio nobody stated has none, nor a method.
    steps = min(len(methods), len(ratios))
    return {
        **found,
        "LossyImageCompressionMethod": methods[-steps:],
        "LossyImageCompressionRatio": ratios[-steps:],
    }
