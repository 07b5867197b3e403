"""Films for the browser: full depth for the viewer, thumbnails for the worklist.

A child process with limits decodes every film (:mod:`dicom_node.imaging.decoder`). Thumbnails are cached on
disk under the digest of their film, and made again when they are missing.
"""

from __future__ import annotations

import contextlib
import io
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dicom_node.config.sections import WorkerSettings
from dicom_node.config.web import WebSettings
from dicom_node.errors import NotAnalysable
from dicom_node.imaging.decoder import Decoder, DisplayFilm
from dicom_node.imaging.grayscale import HeaderWindow
from dicom_node.imaging.overlay_plane import Plane
from dicom_node.imaging.pixel_shape import true_size
from dicom_node.imaging.rendering import RenderedFrame
from dicom_node.imaging.voi import VoiWindow
from dicom_node.runtime import temporary_files
from dicom_node.web.media.lanes import Lanes

THUMBNAIL_SIDE: Final = 160
WHITE: Final = 65535
_CACHED_BYTES: Final = 2**28
"""Memory for films that were decoded last; one that is larger is kept alone."""
_NOT_DECODABLE = b"not decodable"


@dataclass(frozen=True, slots=True, eq=False)
class DecodedFilm:
    """One decoded film in its full depth.

    Attributes
    ----------
    values
        Grey values, shape (Rows, Columns), uint16: 1 is the least value of the film, 65535 the greatest, 0
        is not to be seen; lungs are dark.
    center, width
        Initial window on the same scale.
    slope, intercept
        Line from this scale to the values in which headers state windows: a value is intercept plus slope
        times its grey.
    offered
        Windows of the header, on this scale.
    curve
        Displayed greys, uint16, evenly spaced from the lower to the upper end of the window; empty for the
        straight line.
    aspect_ratio
        Height of a pixel over its width.
    overlay
        True when the film has overlay planes in which something is drawn.
    view_position, imager_spacing
        As of :class:`dicom_node.imaging.decoder.DisplayFilm`.
    """

    values: NDArray[np.uint16]
    center: float
    width: float
    slope: float
    intercept: float
    offered: tuple[HeaderWindow, ...]
    curve: NDArray[np.uint16]
    aspect_ratio: float
    overlay: bool
    view_position: str
    imager_spacing: tuple[float, float] | None


class FilmDecoder:
    """Decoder of films, with processes for films in view and another one for thumbnails.

    Every method raises :class:`dicom_node.web.media.lanes.Busy` when too many films are decoded at once.

    Parameters
    ----------
    limits
        Limits of a film.
    settings
        Number and memory of the processes, and the time for one answer.
    thumbnails
        Folder of the thumbnails.
    """

    def __init__(self, limits: WorkerSettings, settings: WebSettings, thumbnails: Path) -> None:
        self._folder = thumbnails
        self._seconds = settings.answer_seconds
        self._films = Lanes(limits, settings.decode_bytes, settings.decoders, "films")
        self._small = Lanes(limits, settings.decode_bytes, 1, "thumbnails")
        self._lock = threading.Lock()
        self._cache: OrderedDict[Path, DecodedFilm] = OrderedDict()

    def warm(self) -> None:
        """Start a process for films in view, without waiting for it, so that the first film is fast."""
        self._films.warm()

    def close(self) -> None:
        """Stop the processes."""
        self._films.close()
        self._small.close()

    def deadline(self) -> float:
        """Return the time until which the films of an answer may come, by the monotonic clock."""
        return time.monotonic() + self._seconds

    def decode(self, path: Path, until: float | None = None) -> DecodedFilm:
        """Return one film; the last few stay in memory.

        Parameters
        ----------
        until
            As from :meth:`deadline`, for an answer of several films.

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`dicom_node.imaging.decoder.Decoder.decode`.
        """
        with self._lock, contextlib.suppress(KeyError):
            self._cache.move_to_end(path)
            return self._cache[path]
        found = self._films.run(lambda decoder: _film(decoder.decode_full_range(path)), self._until(until))
        with self._lock:
            self._cache[path] = found
            while len(self._cache) > 1 and sum(each.values.nbytes for each in self._cache.values()) > (
                _CACHED_BYTES
            ):
                self._cache.popitem(last=False)
        return found

    def _until(self, until: float | None) -> float:
        return self.deadline() if until is None else until

    def overlay(self, path: Path) -> Plane:
        """Return the overlay planes of a film.

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`dicom_node.imaging.decoder.Decoder.decode_overlay`.
        """
        return self._films.run(lambda decoder: decoder.decode_overlay(path), self.deadline())

    def stored_pixels(self, path: Path) -> bytes:
        """Return the stored pixel values of a film, row by row, little endian.

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`dicom_node.imaging.decoder.Decoder.decode_cells`.
        """

        def little_endian(decoder: Decoder) -> bytes:
            cells = decoder.decode_cells(path)
            return cells.astype(cells.dtype.newbyteorder("<"), copy=False).tobytes()

        return self._films.run(little_endian, self.deadline())

    def encoded_frame(
        self,
        path: Path,
        encode: Callable[[RenderedFrame], bytes],
        *,
        number: int = 1,
        windowing: VoiWindow | None = None,
        until: float | None = None,
    ) -> bytes:
        """Return one frame of any image object as it is displayed, as a picture.

        Parameters
        ----------
        encode
            Function that makes the picture; it runs in the lane, for it takes time and memory too.
        number
            Frame number, from 1.
        until
            As from :meth:`deadline`, for an answer of several frames.

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`dicom_node.imaging.decoder.Decoder.render_frame`.
        """
        return self._films.run(
            lambda decoder: encode(decoder.render_frame(path, number, windowing)), self._until(until)
        )

    def thumbnail(self, path: Path, digest: str) -> bytes:
        """Return a thumbnail of a film as PNG; a grey square when the film cannot be decoded.

        Raises
        ------
        StorageFailed, NodeError
            As :meth:`dicom_node.imaging.decoder.Decoder.decode`.
        """
        return self.thumbnail_or_empty(path, digest) or _PLACEHOLDER

    def thumbnail_or_empty(self, path: Path, digest: str) -> bytes:
        """Return a thumbnail of an object's first frame as PNG; empty when it cannot be decoded.

        Raises
        ------
        StorageFailed, NodeError
            As :meth:`dicom_node.imaging.decoder.Decoder.decode`.
        """
        kept = self._folder / digest[:2] / f"{digest}.png"
        with contextlib.suppress(OSError):
            if (cached := _thumbnail_of(kept.read_bytes())) is not None:
                return cached
        try:
            content = self._small.run(
                lambda decoder: _png(_small(decoder.render_frame(path, 1, None))), self.deadline()
            )
        except NotAnalysable:
            content = b""
        with contextlib.suppress(OSError):  # a thumbnail that cannot be stored is made again
            kept.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary = temporary_files.create(kept.parent)
            try:
                with os.fdopen(handle, "wb") as file:
                    file.write(content or _NOT_DECODABLE)
                temporary.replace(kept)
            finally:
                temporary.unlink(missing_ok=True)
        return content


def _film(film: DisplayFilm) -> DecodedFilm:
    return DecodedFilm(
        values=_words(film.pixels),
        center=film.window.center * WHITE,
        width=film.window.width * WHITE,
        slope=film.window.slope / WHITE,
        intercept=film.window.intercept,
        offered=tuple(
            HeaderWindow(each.name, each.center * WHITE, each.width * WHITE) for each in film.window.offered
        ),
        curve=_words(np.zeros(0) if film.window.curve is None else film.window.curve),
        aspect_ratio=film.aspect_ratio,
        overlay=film.overlay,
        view_position=film.view_position,
        imager_spacing=film.imager_spacing,
    )


def _thumbnail_of(cached: bytes) -> bytes | None:
    """Return the thumbnail of a cached file, empty for an object without one; None when it is damaged."""
    if cached == _NOT_DECODABLE:
        return b""
    try:
        with Image.open(io.BytesIO(cached), formats=["PNG"]) as picture:
            picture.verify()  # compares the checksum of each chunk (PNG 5.5)
    except (OSError, SyntaxError, ValueError):
        return None
    return cached


def _words(greys: NDArray[np.floating[Any]]) -> NDArray[np.uint16]:
    return np.round(greys * WHITE).astype("<u2")


def _small(frame: RenderedFrame) -> Image.Image:
    picture = Image.fromarray(frame.pixels)
    width, height = true_size(picture.width, picture.height, frame.aspect_ratio)
    scale = min(1, THUMBNAIL_SIDE / max(width, height))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return picture.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return stream.getvalue()


_PLACEHOLDER: Final = _png(Image.new("L", (THUMBNAIL_SIDE, THUMBNAIL_SIDE), 24))
