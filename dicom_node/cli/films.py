"""What the commands that train and measure read films with: image files, and DICOM."""

from __future__ import annotations

import atexit
import functools
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.errors import NotAnalysable

if TYPE_CHECKING:
    from dicom_node.imaging.decoder import Decoder
    from models.processing.types import FloatArray

_DICOM = ".dcm"


def read_film(path: Path) -> FloatArray:
    """Read a film by its ending, ``.dcm`` or that of an image.

    A plain function, so that processes that train together can be handed it.

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

    if path.suffix.lower() != _DICOM:
        return read_image(path)
    if not path.exists():
        raise DatasetError(f"film {path} is missing: restore it or take it out of the data set")
    try:
        return decoder().decode(path)
    except NotAnalysable as error:
        raise DatasetError(f"film {path} cannot be read: {error}") from error


@functools.cache
def decoder() -> Decoder:
    """The decoder of this process, within the limits that the environment, or else the default, gives."""
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
