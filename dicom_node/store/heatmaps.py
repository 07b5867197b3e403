"""Heat maps on disk, for whoever looks at a study later and has no model.

A file holds all maps of one reading, as NumPy writes arrays (``.npz``), under a name made of its content.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import StorageFailed

Map: TypeAlias = NDArray[np.uint8]

LONGER_SIDE: Final = 256
"""Most rows or columns of a map that is kept: a heat map has no detail that is finer."""


class HeatMaps:
    """A folder of heat maps.

    Parameters
    ----------
    root
        The folder; made when it is first needed.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def keep(self, maps: Sequence[Map]) -> str:
        """Write the maps of one reading for good.

        Parameters
        ----------
        maps
            Each of shape (rows, columns).

        Returns
        -------
        str
            Name of the file; empty when there are no maps.

        Raises
        ------
        StorageFailed
            When it cannot be written.
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
            handle, temporary = tempfile.mkstemp(dir=self.root)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                Path(temporary).replace(target)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    Path(temporary).unlink()
        except OSError as error:
            raise StorageFailed(f"{target}: {error.strerror}; check the disk and its permissions") from error
        return name

    def read(self, name: str, number: int) -> Map:
        """Return one map of a file.

        Raises
        ------
        StorageFailed
            When the file or the map is not there.
        """
        try:
            with np.load(self.root / name, allow_pickle=False) as maps:
                found: Map = maps[f"arr_{number}"]
        except (OSError, KeyError, ValueError) as error:
            raise StorageFailed(f"heat map {number} of {name} cannot be read: {error}") from error
        return found
