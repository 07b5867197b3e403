"""Film files, image or DICOM, as the commands that train, measure and explain read them, and notebooks."""

from __future__ import annotations

import atexit
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dicom_node.errors import NotAnalysable

if TYPE_CHECKING:
    from dicom_node.imaging.decoder import Decoder
    from models.processing.types import FloatArray

IMAGE_SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".webp")
"""Suffixes of image files; a file with any other suffix, or none, is read as DICOM."""


def is_image(path: Path) -> bool:
    """Return whether a file is an image and no DICOM file, as its suffix says."""
    return path.suffix.lower() in IMAGE_SUFFIXES


def read_film(path: Path | str) -> FloatArray:
    """Read a film from a DICOM file or an image file; its suffix says which.

    A plain function, because it is pickled for the processes of a distributed training.

    Parameters
    ----------
    path
        File; PNG, JPEG, TIFF, BMP or WebP by its suffix, else DICOM.

    Returns
    -------
    numpy.ndarray
        Shape (rows, columns), float32 in [0, 1], lungs dark.

    Raises
    ------
    models.errors.DatasetError
        If it cannot be read.
    """
    from models.data.dataset import read_film as read_image
    from models.errors import DatasetError

    path = Path(path)
    if is_image(path):
        return read_image(path)
    if not path.exists():
        raise DatasetError(f"film {path} is missing: restore it or take it out of the data set")
    try:
        return shared_decoder().decode(path)
    except NotAnalysable as error:
        raise DatasetError(f"film {path} cannot be read: {error}") from error


@functools.cache
def shared_decoder() -> Decoder:
    """Return the decoder of this process, with the limits of ``worker`` in the environment or by default."""
    from dicom_node.config.settings import load_settings
    from dicom_node.imaging.decoder import Decoder

    limits = load_settings().worker
    decoder = Decoder(
        max_pixels=limits.max_pixels,
        decode_seconds=limits.decode_seconds,
        decode_bytes=limits.decode_bytes,
    )
    atexit.register(decoder.close)
    return decoder
