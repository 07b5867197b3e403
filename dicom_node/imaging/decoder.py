"""Client of the decoder process, which decodes films with limited memory and time, and crashes alone.

Decoders of compressed pixels are C code that reads untrusted bytes. The child process answers over a Unix
socket pair and returns the pixels in shared memory without a copy. It is an ordinary program, not a
``multiprocessing`` child, so that it also starts from a daemonic process and never runs the parent's main
module again.
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import NodeError, NotAnalysable, StorageFailed
from dicom_node.imaging.decoder_process import MESSAGE_BYTES, READY
from dicom_node.imaging.grayscale import DisplayWindow, GreyTransform, HeaderWindow
from dicom_node.imaging.overlay_plane import Plane
from dicom_node.imaging.pixels import FloatArray
from dicom_node.imaging.rendering import RenderedFrame
from dicom_node.imaging.voi import VoiWindow

_START_SECONDS = 60.0
_CPU_SHARE = 2  # seconds of processor time for each second of decode_seconds; some decoders have threads
_READABLE: list[Path] = []


def read_only_below(*folders: Path) -> None:
    """Have the decoder processes of this process read films only below some folders.

    Parameters
    ----------
    folders
        Folders, which may be symbolic links; those in them are not followed.
    """
    _READABLE[:] = folders


@dataclass(frozen=True, slots=True, eq=False)
class DisplayFilm:
    """Film for a person who moves its window.

    Attributes
    ----------
    pixels
        Shape (Rows, Columns), float32 in [0, 1]; greys as from
        :func:`dicom_node.imaging.grayscale.full_range_table`: 0 is not to be seen.
    window
        Window to show first.
    aspect_ratio
        Height of a pixel over its width.
    overlay
        True when the film has overlay planes in which something is drawn.
    view_position
        View Position of its header, in upper case; empty without.
    imager_spacing
        Imager Pixel Spacing: vertical and horizontal distance of two pixels at the detector, in millimetres
        (PS3.3 C.8.11.7.1.1); None where the header has none that can be used.
    """

    pixels: FloatArray
    window: DisplayWindow
    aspect_ratio: float
    overlay: bool
    view_position: str
    imager_spacing: tuple[float, float] | None


class Decoder:
    """Client of a decoder process, which is started when needed and restarted after it was killed.

    Any thread may use it; a forked child that uses it gets a decoder process of its own. The decoder process
    ends with the thread that started it, and the next film starts another.

    Parameters
    ----------
    max_pixels
        Most pixels (Rows x Columns x frames) that are decoded.
    decode_seconds
        Most seconds for one film; then the process is killed.
    decode_bytes
        Address space of the process, in bytes.

    Attributes
    ----------
    lacking
        What the kernel lacks to confine the process that was started last
        (:mod:`dicom_node.imaging.confinement`).
    """

    def __init__(self, *, max_pixels: int, decode_seconds: float, decode_bytes: int) -> None:
        self._max_pixels = max_pixels
        self._seconds = decode_seconds
        self._bytes = decode_bytes
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._owner = 0
        self.lacking: tuple[str, ...] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def warm(self) -> None:
        """Start the process if it does not run, so that the first film need not wait for it.

        Raises
        ------
        NodeError
            When it cannot be started.
        """
        with self._lock:
            self._running()

    def decode(self, path: Path, *, opposite: bool = False) -> FloatArray:
        """Decode one file as a model sees it.

        Parameters
        ----------
        path
            Path of a file that :func:`dicom_node.imaging.pixels.read_film` can read.
        opposite
            True for the grey scale that is the opposite of what the header says.

        Returns
        -------
        numpy.ndarray
            Shape (Rows, Columns), float32 in [0, 1], lungs dark; writable.

        Raises
        ------
        NotAnalysable
            As :func:`dicom_node.imaging.pixels.read_film`; ``undecodable`` too when the process ran out of
            time or memory, or crashed.
        StorageFailed
            When the file cannot be opened.
        NodeError
            When the process cannot be started.
        """
        return self.decode_as_seen(path, opposite=opposite)[0]

    def decode_as_seen(self, path: Path, *, opposite: bool = False) -> tuple[FloatArray, GreyTransform]:
        """Decode one file as a model sees it, and say by which transform.

        Parameters
        ----------
        path, opposite
            As for :meth:`decode`.

        Returns
        -------
        pixels : numpy.ndarray
            As from :meth:`decode`.
        transform : GreyTransform
            Transform from stored values to these greys.

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`decode`.
        """
        pixels, about = self._decoded(path, "film", opposite=opposite)
        voi = about["voi"]
        return pixels, GreyTransform(voi if isinstance(voi, int) else VoiWindow(**voi), about["inverted"])

    def decode_full_range(self, path: Path) -> DisplayFilm:
        """Decode one file with its full range of values, for a person who moves the window.

        Parameters
        ----------
        path
            As for :meth:`decode`.

        Returns
        -------
        DisplayFilm

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`decode`.
        """
        pixels, about = self._decoded(path, "full_range")
        told = about["window"]
        curve = told.pop("curve")
        offered = tuple(HeaderWindow(**each) for each in told.pop("offered"))
        curve = None if curve is None else np.array(curve, np.float32)
        window = DisplayWindow(**told, curve=curve, offered=offered)
        return DisplayFilm(
            pixels,
            window,
            aspect_ratio=about["aspect_ratio"],
            overlay=about["overlay"],
            view_position=about["view_position"],
            imager_spacing=None if (spacing := about["imager_spacing"]) is None else tuple(spacing),
        )

    def decode_overlay(self, path: Path) -> Plane:
        """Decode the overlay planes of one file.

        Parameters
        ----------
        path
            As for :meth:`decode`.

        Returns
        -------
        numpy.ndarray
            As from :func:`dicom_node.imaging.overlay_plane.read_overlay`.

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`decode`.
        """
        plane: Plane = self._decoded(path, "overlay")[0]
        return plane

    def decode_cells(self, path: Path) -> NDArray[np.unsignedinteger[Any]]:
        """Decode one file to its pixel cells, for programs that interpret them themselves.

        Parameters
        ----------
        path
            As for :meth:`decode`.

        Returns
        -------
        numpy.ndarray
            As from :func:`dicom_node.imaging.pixels.read_cells`.

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`decode`.
        """
        cells: NDArray[np.unsignedinteger[Any]] = self._decoded(path, "cells")[0]
        return cells

    def render_frame(self, path: Path, number: int, windowing: VoiWindow | None) -> RenderedFrame:
        """Decode one frame of any file and render it as it is displayed.

        Parameters
        ----------
        path, number, windowing
            As for :func:`dicom_node.imaging.rendering.render_frame`.

        Returns
        -------
        RenderedFrame
            As from :func:`dicom_node.imaging.rendering.render_frame`.

        Raises
        ------
        NotAnalysable, StorageFailed, NodeError
            As :meth:`decode`.
        """
        asked = None if windowing is None else asdict(windowing)
        pixels, about = self._decoded(path, "rendered", number=number, windowing=asked)
        return RenderedFrame(pixels, about["aspect_ratio"])

    def _decoded(
        self, path: Path, what: Literal["film", "full_range", "overlay", "cells", "rendered"], **how: Any
    ) -> tuple[NDArray[Any], dict[str, Any]]:
        request = json.dumps(
            {
                "path": os.fspath(path.absolute()),
                "max_pixels": self._max_pixels,
                "what": what,
                **how,
            }
        ).encode()
        with self._lock:
            channel = self._running()
            try:
                channel.sendall(request)
            except OSError:  # it died while idle: not the fault of this film
                self._kill()
                channel = self._running()
                channel.sendall(request)
            channel.settimeout(self._seconds)
            try:
                reply, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 1)
            except TimeoutError:
                self._kill()
                raise NotAnalysable(
                    "undecodable", f"decoding took longer than {self._seconds:g} s and was stopped"
                ) from None
            except OSError:
                reply, descriptors = b"", []
            if not reply:
                ended = self._kill()
                raise NotAnalysable("undecodable", f"decoding ended its process ({_describe(ended)})")
        answer = json.loads(reply)
        if "shape" in answer:
            return _mapped(descriptors, answer["shape"], answer["dtype"]), answer["about"]
        if "storage" in answer:
            raise StorageFailed(answer["storage"])
        raise NotAnalysable(answer["reason"], answer["text"])

    def close(self) -> None:
        """End the process; a later call of :meth:`decode` would start another."""
        with self._lock:
            self._kill()

    def _running(self) -> socket.socket:
        if self._owner != os.getpid():  # forked: the process belongs to the parent, leave it alone
            self._process = self._channel = None
        if self._channel is not None and self._process is not None and self._process.poll() is None:
            return self._channel
        self._kill()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        command = [
            sys.executable,
            "-m",
            "dicom_node.imaging.decoder_process",
            *map(str, (theirs.fileno(), self._bytes, self._seconds * _CPU_SHARE)),
        ]
        # Without the settings, which may hold passwords.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("DICOM_NODE_")}
        environment |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        with theirs:
            self._process = subprocess.Popen(
                [*command, str(os.getpid()), *map(str, _READABLE)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
                env=environment,
            )
        self._channel, self._owner = ours, os.getpid()
        ours.settimeout(_START_SECONDS)
        with contextlib.suppress(OSError):
            message = ours.recv(MESSAGE_BYTES)
            if message.startswith(READY):
                self.lacking = tuple(json.loads(message.removeprefix(READY)))
                return ours
        raise NodeError(
            f"the decoder process did not start ({_describe(self._kill())}): decode_bytes is too small for "
            "it, or the installation is damaged"
        )

    def _kill(self) -> int:
        """End the process and return its exit code; 0 when there was none."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if channel is not None:
            channel.close()
        if process is None:
            return 0
        ended = process.poll()
        if ended is None and channel is not None:
            # A process that closed its end may need a moment to exit, so that its exit code can be reported.
            with contextlib.suppress(subprocess.TimeoutExpired):
                ended = process.wait(0.05)
        process.kill()
        return process.wait() if ended is None else ended


def _describe(returned: int) -> str:
    return signal.Signals(-returned).name if returned < 0 else f"exit code {returned}"


def _mapped(descriptors: list[int], shape: list[int], dtype: str) -> NDArray[Any]:
    try:
        memory = mmap.mmap(descriptors[0], math.prod(shape) * np.dtype(dtype).itemsize)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return np.frombuffer(memory, dtype).reshape(shape)
