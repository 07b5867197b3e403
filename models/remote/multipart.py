"""Request body of a prediction: multipart/form-data (RFC 7578) with a JSON part and one part a film."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.processing.types import FloatArray
from models.remote.transport import RequestBody

STUDY_PART: Final = "study"
"""Name of the JSON part; that of a film's part is the film's id."""
WHITE: Final = 65535
_PIECE_BYTES: Final = 1 << 20
_ROWS: Final = 256


@dataclass(frozen=True, slots=True)
class Part:
    """One part of the body.

    Attributes
    ----------
    name
        Name of the form field.
    content_type
        Media type.
    source
        JSON as text; a film, shape (rows, columns), float32 in [0, 1]; or the path of a DICOM file.
    """

    name: str
    content_type: str
    source: str | FloatArray | Path

    @property
    def length(self) -> int:
        """Length in bytes."""
        if isinstance(self.source, str):
            return len(self.source.encode())
        return self.source.stat().st_size if isinstance(self.source, Path) else 2 * self.source.size

    def pieces(self) -> Iterator[bytes]:
        """Yield the bytes, a piece at a time: no second copy of a film is held."""
        if isinstance(self.source, str):
            yield self.source.encode()
        elif isinstance(self.source, Path):
            with self.source.open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    yield piece
        else:
            for start in range(0, len(self.source), _ROWS):
                yield np.rint(self.source[start : start + _ROWS] * WHITE).astype("<u2").tobytes()


def make_body(study: Mapping[str, Any], films: Sequence[Part]) -> RequestBody:
    """Make the body of a request from the study's description and its films."""
    boundary = secrets.token_hex(16)
    parts = [Part(STUDY_PART, "application/json", json.dumps(study)), *films]
    heads = [_head(boundary, part) for part in parts]
    end = f"--{boundary}--\r\n".encode()
    length = sum(len(head) + part.length + 2 for head, part in zip(heads, parts, strict=True)) + len(end)
    return RequestBody(f"multipart/form-data; boundary={boundary}", length, _Pieces(heads, parts, end))


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Bytes of a body, made anew for each attempt."""

    heads: Sequence[bytes]
    parts: Sequence[Part]
    end: bytes

    def __iter__(self) -> Iterator[bytes]:
        for head, part in zip(self.heads, self.parts, strict=True):
            yield head
            yield from part.pieces()
            yield b"\r\n"
        yield self.end


def _head(boundary: str, part: Part) -> bytes:
    file = "" if isinstance(part.source, str) else f'; filename="{part.name}"'
    return (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{part.name}"{file}\r\n'
        f"Content-Type: {part.content_type}\r\n\r\n"
    ).encode()
