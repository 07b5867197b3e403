"""Films for a person: full depth for the viewer, small pictures for the worklist.

Every film is decoded by a limited child process (:mod:`dicom_node.imaging.decoder`). Small pictures are kept
on disk under the digest of their film; they are made again when they are not there.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.config.sections import WorkerSettings
from dicom_node.errors import NotAnalysable
from dicom_node.imaging.decoder import Decoder
from dicom_node.imaging.grayscale import Window, Windowing
from dicom_node.imaging.pixels import FloatArray
from dicom_node.imaging.rendering import Picture

THUMBNAIL_SIDE: Final = 160
WHITE: Final = 65535
_KEPT = 4


@dataclass(frozen=True, slots=True, eq=False)
class GreyFilm:
    """One film in its full depth.

    Attributes
    ----------
    values
        Shape (Rows, Columns), uint16: 0 is the film's least value, 65535 its greatest, lungs dark.
    center, width
        The window to begin with, on the same scale.
    """

    values: NDArray[np.uint16]
    center: float
    width: float


class Films:
    """Decodes films; the films in view do not wait for the small pictures.

    Parameters
    ----------
    settings
        Limits of the decoder.
    thumbnails
        Folder of small pictures.
    """

    def __init__(self, settings: WorkerSettings, thumbnails: Path) -> None:
        self._folder = thumbnails
        self._films, self._small = (_Lane(settings) for _ in range(2))
        self._latest: OrderedDict[Path, GreyFilm] = OrderedDict()

    def warm(self) -> None:
        """Start the decoder of films in view, without waiting for it, so that the first film need not."""
        self._films.warm()

    def close(self) -> None:
        """End the decoders."""
        self._films.close()
        self._small.close()

    def film(self, path: Path) -> GreyFilm:
        """Return one film; the last few are kept at hand.

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`dicom_node.imaging.decoder.Decoder.decode`.
        """
        with contextlib.suppress(KeyError):
            self._latest.move_to_end(path)
            return self._latest[path]
        pixels, window = self._films.depth(path)
        values = np.round(pixels * WHITE).astype("<u2")
        found = GreyFilm(values, window.center * WHITE, window.width * WHITE)
        self._latest[path] = found
        while len(self._latest) > _KEPT:
            with contextlib.suppress(KeyError):
                self._latest.popitem(last=False)
        return found

    def cells(self, path: Path) -> bytes:
        """Return the pixel cells of a film, row by row, little endian.

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`dicom_node.imaging.decoder.Decoder.decode_cells`.
        """
        cells = self._films.cells(path)
        return cells.astype(cells.dtype.newbyteorder("<")).tobytes()

    def picture(self, path: Path, number: int = 1, windowing: Windowing | None = None) -> Picture:
        """Return one frame of any object as it is displayed.

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`dicom_node.imaging.decoder.Decoder.decode_picture`.
        """
        return self._films.picture(path, number, windowing)

    def thumbnail(self, path: Path, digest: str) -> bytes:
        """Return a small PNG of a film; a grey plate when nothing of it can be shown.

        Raises
        ------
        StorageFailed, NodeError
            As :meth:`dicom_node.imaging.decoder.Decoder.decode`.
        """
        return self.small(path, digest) or _PLATE

    def small(self, path: Path, digest: str) -> bytes:
        """Return a small PNG of an object's first frame as it is displayed; empty when it cannot be.

        Raises
        ------
        StorageFailed, NodeError
            As :meth:`dicom_node.imaging.decoder.Decoder.decode`.
        """
        kept = self._folder / digest[:2] / f"{digest}.png"
        with contextlib.suppress(OSError):
            return kept.read_bytes()
        try:
            picture = Image.fromarray(self._small.picture(path, 1, None))
            picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), reducing_gap=2.0)
            content = _png(picture)
        except NotAnalysable:
            content = b""
        with contextlib.suppress(OSError):  # a picture that cannot be kept is made again
            kept.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = tempfile.mkstemp(dir=kept.parent)
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(temporary).replace(kept)
        return content


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


_PLATE: Final = _png(Image.new("L", (THUMBNAIL_SIDE, THUMBNAIL_SIDE), 24))


class _Lane:
    """One decoder and the one thread that it lives with."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._decoder = Decoder(
            max_pixels=settings.max_pixels,
            decode_seconds=settings.decode_seconds,
            decode_bytes=settings.decode_bytes,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="films")

    def warm(self) -> None:
        # One that does not start says so to whoever asks for a film, so nobody looks at the outcome here.
        self._thread.submit(self._decoder.warm)

    def depth(self, path: Path) -> tuple[FloatArray, Window]:
        return self._thread.submit(self._decoder.decode_depth, path).result()

    def picture(self, path: Path, number: int, windowing: Windowing | None) -> Picture:
        return self._thread.submit(self._decoder.decode_picture, path, number, windowing).result()

    def cells(self, path: Path) -> NDArray[np.unsignedinteger[Any]]:
        return self._thread.submit(self._decoder.decode_cells, path).result()

    def close(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._decoder.close()
