"""Heat map files, for processes that show a study later and have no model.

A file holds all maps of one analysis as NumPy arrays (``.npz``). Its name is made of its content.
"""

from __future__ import annotations

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StorageFailed
from dicom_node.runtime import temporary_files
from dicom_node.store.files import storage_error

HeatMap: TypeAlias = NDArray[np.uint8]

MAX_SIDE: Final = 256
"""Largest number of rows or columns of a stored map: a heat map has no finer detail."""


class HeatMaps:
    """Folder of heat map files.

    Parameters
    ----------
    root
        Path of the folder; it is made when the first map is stored.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def keep(self, maps: Sequence[HeatMap]) -> str:
        """Store the maps of one analysis; the file is durable when this returns.

        Parameters
        ----------
        maps
            Maps, each of shape (rows, columns).

        Returns
        -------
        str
            Name of the file; empty when there are no maps.

        Raises
        ------
        StorageFull, StorageFailed
            When the file cannot be written.
        """
        if not maps:
            return ""
        stream = io.BytesIO()
        np.savez_compressed(stream, *maps)
        content = stream.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        name = f"{digest[:2]}/{digest}.npz"
        target = self.root / name
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = temporary_files.create(self.root)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, target) from error
        return name

    def read(self, name: str, number: int) -> HeatMap:
        """Return one map of a file.

        Parameters
        ----------
        name
            Name of the file, from :meth:`keep`.
        number
            Position of the map, from 0.

        Raises
        ------
        StorageFailed
            When the file or the map is not there, or the file has changed since it was written.
        """
        try:
            content = (self.root / name).read_bytes()
            if hashlib.sha256(content).hexdigest() != Path(name).stem:
                raise ValueError("its content has changed")  # noqa: TRY301 - one sentence for all that is wrong
            with np.load(io.BytesIO(content), allow_pickle=False) as maps:
                found: HeatMap = maps[f"arr_{number}"]
        except (OSError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
            raise StorageFailed(f"heat map {number} of {name} cannot be read: {error}") from error
        return found
