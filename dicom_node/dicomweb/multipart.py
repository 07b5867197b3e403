"""Multipart answers of WADO-RS (PS3.18 8.6.1.2): instances go to files as they come, never into memory."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from email.message import Message
from typing import IO, Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser

MAX_INSTANCES: Final = 1000
"""Most instances in one answer."""
_HEAD_BYTES = 132
_PREFIX = slice(128, 132)


def instance_files(content_type: str, pieces: Iterable[bytes]) -> Iterator[IO[bytes]]:
    """Yield each instance of an answer as a file without a name, at its beginning; the caller closes it.

    Parameters
    ----------
    content_type
        Content-Type of the answer; ``application/dicom`` is one instance.
    pieces
        Body of the answer.

    Raises
    ------
    ValueError
        When the answer is not multipart, or a part of it is no DICOM Part 10 file (PS3.10 7.1).
    """
    header = Message()
    header["Content-Type"] = content_type
    parts = _Parts()
    with contextlib.closing(parts):
        if header.get_content_type() == "application/dicom":
            parts.begin()
            for piece in pieces:
                parts.write(piece, 0, len(piece))
            parts.end()
            yield from parts.take()
            return
        boundary = header.get_param("boundary")
        if header.get_content_type() != "multipart/related" or not isinstance(boundary, str):
            raise ValueError("the answer holds no instances: it is not multipart/related with a boundary")
        parser = MultipartParser(
            boundary.encode("latin-1", "replace"),
            {"on_part_begin": parts.begin, "on_part_data": parts.write, "on_part_end": parts.end},
        )
        for piece in pieces:
            try:
                parser.write(piece)
            except FormParserError as error:
                raise ValueError(f"the answer is not multipart: {error}") from None
            yield from parts.take()
        if parts.open:
            raise ValueError("the answer ends inside an instance")


class _Parts:
    """Parts of an answer: the one that is being written, and those that are complete."""

    def __init__(self) -> None:
        self._count = 0
        self._file: IO[bytes] | None = None
        self._head = b""
        self._complete: list[IO[bytes]] = []

    @property
    def open(self) -> bool:
        return self._file is not None

    def begin(self) -> None:
        self._count += 1
        if self._count > MAX_INSTANCES:
            raise ValueError(f"an answer holds more than {MAX_INSTANCES} instances")
        self._head = b""
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - whoever takes it closes it

    def write(self, data: bytes, start: int, end: int) -> None:
        assert self._file is not None
        if len(self._head) < _HEAD_BYTES:
            self._head += data[start : min(end, start + _HEAD_BYTES)]
            if len(self._head) >= _HEAD_BYTES and self._head[_PREFIX] != b"DICM":
                raise ValueError("a part of the answer is no DICOM Part 10 file (PS3.10 7.1)")
        self._file.write(memoryview(data)[start:end])

    def end(self) -> None:
        assert self._file is not None
        self._file.seek(0)
        self._complete.append(self._file)
        self._file = None
        if self._head[_PREFIX] != b"DICM":
            raise ValueError("a part of the answer is no DICOM Part 10 file (PS3.10 7.1)")

    def take(self) -> Iterator[IO[bytes]]:
        while self._complete:
            yield self._complete.pop(0)

    def close(self) -> None:
        for file in [*self._complete, *([self._file] if self._file else [])]:
            file.close()
