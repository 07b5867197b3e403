"""Films as a notebook names them: files or arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dicom_node.analysis import film_files
from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.errors import ConfigurationError, NodeError

if TYPE_CHECKING:
    from models.processing.types import Film, FloatArray


def read_film(path: str | Path) -> FloatArray:
    """Read a film as a model sees it, from a DICOM file or an image file.

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
    ConfigurationError
        If there is no such file.
    NodeError
        If it cannot be read as a film.
    """
    if not Path(path).is_file():
        raise ConfigurationError(f"{path}: there is no such file")
    with translated_model_errors():
        return film_files.read_film(path)


def named_film(film: str | Path | Any, name: str = "film") -> Film:
    """Return a film of a file or an array.

    Raises
    ------
    ConfigurationError
        If there is no such file.
    NodeError
        If a file cannot be read, or an array is no film.
    """
    from models.processing.types import Film

    if isinstance(film, str | Path):
        return Film(Path(film).name, read_film(film))
    try:
        return Film(name, np.asarray(film, np.float32))
    except (TypeError, ValueError) as error:
        raise NodeError(f"{error}; give an array of shape (rows, columns) in [0, 1], lungs dark") from error
