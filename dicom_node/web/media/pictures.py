"""Pictures that are uploaded in place of DICOM: PNG and JPEG files of grey films; others are refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from dicom_node.errors import BadInstance

_FORMATS: Final = ("PNG", "JPEG")
_GREY_16: Final = ("I;16", "I;16B", "I")
_SPREAD: Final = 24
"""Difference of the colour channels from which a pixel is coloured; the JPEG of a grey film stays below."""
_COLOURED: Final = 0.02
"""Share of coloured pixels from which a picture is a colour photograph; a marker or a ruler takes less."""
_LOOKED_AT: Final = 512
"""Rows and columns of the small copy in which colour is looked for."""

_KINDS: Final = (
    (0, b"%PDF", "a PDF document: save the film itself as DICOM, PNG or JPEG"),
    (0, b"PK\x03\x04", "a ZIP archive: unpack it, and choose the files in it"),
    (0, b"\x1f\x8b", "a compressed archive: unpack it, and choose the files in it"),
    (0, b"GIF8", "a GIF picture, which holds too few greys: save the film as DICOM or PNG"),
    (0, b"II*\x00", "a TIFF picture: save the film as DICOM or 16-bit PNG"),
    (0, b"MM\x00*", "a TIFF picture: save the film as DICOM or 16-bit PNG"),
    (0, b"BM", "a BMP picture: save the film as DICOM or PNG"),
    (8, b"WEBP", "a WebP picture: save the film as DICOM or PNG"),
    (4, b"ftyp", "a HEIC picture or a video: save the film as DICOM, PNG or JPEG"),
    (4, b"jP  ", "a JPEG 2000 picture outside of DICOM: save the film as DICOM or PNG"),
    (0, b"\xffO\xffQ", "a JPEG 2000 picture outside of DICOM: save the film as DICOM or PNG"),
)
"""Offset and bytes by which other kinds of files are known, and what to do with them."""
_NO_PICTURE: Final = "the file is not a DICOM, PNG or JPEG picture"


def is_dicom(head: bytes) -> bool:
    """Return whether a file that begins with these bytes, 132 or more, is a Part 10 file (PS3.10 7.1)."""
    return head[128:132] == b"DICM"


def is_picture(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is a PNG or JPEG file."""
    return head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def refusal(head: bytes) -> str:
    """Return what is wrong with a file that is neither DICOM nor a picture, by its first bytes."""
    if not head:
        return "the file is empty"
    for offset, magic, words in _KINDS:
        if head[offset : offset + len(magic)] == magic:
            return f"the file is {words}"
    return _NO_PICTURE


def read_grey(source: Path, max_pixels: int) -> NDArray[Any]:
    """Read a grey picture; one in colours whose channels agree counts as grey.

    Parameters
    ----------
    max_pixels
        Most pixels of the picture.

    Returns
    -------
    numpy.ndarray
        Shape (rows, columns), uint8 or uint16, upright as its Exif orientation says.

    Raises
    ------
    BadInstance
        When it is too large, damaged, or a colour photograph.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # refused below, by the setting
            opened = Image.open(source, formats=_FORMATS)
        with opened:
            if opened.width * opened.height > max_pixels:
                raise BadInstance(
                    f"the picture has {opened.width} x {opened.height} pixels, more than {max_pixels}: "
                    "make it smaller"
                )
            upright = ImageOps.exif_transpose(opened)
            if upright.mode in _GREY_16:
                return np.asarray(upright.convert("I")).clip(0, 65535).astype("<u2")
            if upright.mode not in ("1", "L", "LA", "La"):
                _refuse_colour(upright)
            return np.asarray(upright.convert("L"))
    except UnidentifiedImageError:
        raise BadInstance(_NO_PICTURE) from None
    except Image.DecompressionBombError:
        raise BadInstance("the picture has too many pixels: make it smaller") from None
    except (OSError, SyntaxError, ValueError, EOFError):  # what Pillow raises for damaged files
        raise BadInstance("the picture is damaged or ends early: save it again where it comes from") from None


def _refuse_colour(picture: Image.Image) -> None:
    scale = min(1.0, _LOOKED_AT / max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    # Nearest: of any mode, and a mean of pixels would hide colours.
    small = picture.resize(size, Image.Resampling.NEAREST).convert("RGB")
    channels = np.asarray(small).astype(np.int16)
    coloured = float((channels.max(axis=2) - channels.min(axis=2) > _SPREAD).mean())
    if coloured > _COLOURED:
        raise BadInstance(
            f"the picture is in colours ({100 * coloured:.0f} % of it), so it is no radiograph as a device "
            "writes it: export the film as DICOM, or save it in grey"
        )
