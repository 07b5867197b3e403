"""Film files, image or DICOM, as the commands that train, measure and explain read them."""

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
    """Read a film; its suffix says whether it is DICOM (``.dcm``) or an image.

    A plain function, because it is pickled for the processes of a distributed training.

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
