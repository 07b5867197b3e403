"""Decoder process: what it answers to a :class:`dicom_node.imaging.decoder.Decoder`, confined.

A request and its answer are JSON in one message of a Unix socket pair; pixels travel in shared memory, whose
descriptor comes with the answer.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import NotAnalysable, StorageFailed
from dicom_node.imaging import attributes
from dicom_node.imaging.confinement import confine, limit_cpu
from dicom_node.imaging.grayscale import DisplayWindow
from dicom_node.imaging.overlay_plane import has_overlay, read_overlay
from dicom_node.imaging.pixel_shape import aspect_ratio, imager_spacing
from dicom_node.imaging.pixels import Film, read_cells, read_film
from dicom_node.imaging.rendering import render_frame
from dicom_node.imaging.voi import VoiWindow

MESSAGE_BYTES = 1 << 16
"""Longest message, in bytes."""
READY = b"ready"
"""Beginning of the first message of the process; after it the names of what the kernel lacks, as JSON."""


def _answer(request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    path, max_pixels = Path(request["path"]), request["max_pixels"]
    pixels: NDArray[Any]
    about: dict[str, Any] = {}
    try:
        if request["what"] == "cells":
            pixels = read_cells(path, max_pixels=max_pixels)
        elif request["what"] == "overlay":
            pixels = read_overlay(path, max_pixels=max_pixels)
        elif request["what"] == "rendered":
            asked = None if request["windowing"] is None else VoiWindow(**request["windowing"])
            frame = render_frame(path, max_pixels=max_pixels, number=request["number"], windowing=asked)
            pixels, about = frame.pixels, {"aspect_ratio": frame.aspect_ratio}
        else:
            film = read_film(
                path,
                max_pixels=max_pixels,
                full_range=request["what"] == "full_range",
                opposite=request.get("opposite", False),
            )
            pixels = film.pixels
            if film.window is not None:
                about = _display(film, film.window, path, max_pixels)
            elif film.grey is not None:
                voi = film.grey.voi
                about = {
                    "voi": voi if isinstance(voi, int) else asdict(voi),
                    "inverted": film.grey.inverted,
                }
    except NotAnalysable as error:
        return {"reason": error.reason, "text": str(error)}, []
    except StorageFailed as error:
        return {"storage": str(error)}, []
    descriptor = os.memfd_create("film", os.MFD_CLOEXEC)
    os.ftruncate(descriptor, pixels.nbytes)
    with mmap.mmap(descriptor, pixels.nbytes) as memory:
        shared = np.frombuffer(memory, pixels.dtype).reshape(pixels.shape)
        np.copyto(shared, pixels)
        del shared
    return {"shape": pixels.shape, "dtype": pixels.dtype.str, "about": about}, [descriptor]


def _display(film: Film, window: DisplayWindow, path: Path, max_pixels: int) -> dict[str, Any]:
    """Describe a film for a person: all of the decoder's answer but the pixels."""
    curve = None if window.curve is None else [round(float(grey), 5) for grey in window.curve]
    return {
        "window": {
            "center": window.center,
            "width": window.width,
            "curve": curve,
            "slope": window.slope,
            "intercept": window.intercept,
            "offered": [asdict(each) for each in window.offered],
        },
        "aspect_ratio": aspect_ratio(film.header),
        "view_position": attributes.text(film.header, "ViewPosition").upper(),
        "imager_spacing": imager_spacing(film.header),
        "overlay": has_overlay(film.header) and bool(read_overlay(path, max_pixels=max_pixels).any()),
    }


def _serve(
    descriptor: int, decode_bytes: int, cpu_seconds: float, parent: int, readable: Sequence[Path]
) -> None:
    """Answer requests until the parent closes its end."""
    lacking = confine(decode_bytes, parent, readable)
    with socket.socket(fileno=descriptor) as channel:
        channel.sendall(READY + json.dumps(lacking).encode())
        while request := channel.recv(MESSAGE_BYTES):
            limit_cpu(cpu_seconds)
            answer, descriptors = _answer(json.loads(request))
            socket.send_fds(channel, [json.dumps(answer).encode()], descriptors)
            for sent in descriptors:
                os.close(sent)


if __name__ == "__main__":
    _serve(
        int(sys.argv[1]),
        int(sys.argv[2]),
        float(sys.argv[3]),
        int(sys.argv[4]),
        [Path(folder) for folder in sys.argv[5:]],
    )
