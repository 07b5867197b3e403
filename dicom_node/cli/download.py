"""Download of one file by HTTP: continued after an interruption, and checked by size and digest."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from pathlib import Path
from typing import IO, TypeAlias
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError as TransportError

from dicom_node.errors import ConfigurationError, NodeError

Progress: TypeAlias = Callable[[int, int | None], None]
"""Called with the bytes received and the bytes in all; None while the size is unknown."""

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60.0
#: Statuses that mean "not now" (RFC 9110, 15.5 and 15.6; RFC 6585).
_TEMPORARY = frozenset({408, 425, 429, 500, 502, 503, 504})
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")


class Unreachable(NodeError):
    """The server does not answer, or the connection breaks again and again; the received bytes are kept."""


class _Refused(Exception):
    """The server answered with an error status that may be temporary; its text says which."""


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    digest: str = "",
    progress: Progress = lambda _done, _all: None,
    waits: Iterable[float] = (1, 2, 4, 8, 16, 32),
) -> None:
    """Download a file; bytes that an earlier call received are not requested again.

    They are in ``NAME.part`` beside the target. A server without range requests (RFC 9110, 14) sends the
    whole file again.

    Parameters
    ----------
    url
        Address, ``http://`` or ``https://``.
    target
        File that is written.
    size
        Size in bytes, if known: a file of another size is not downloaded.
    digest
        ``md5:`` or ``sha256:`` and hexadecimal digits, if known.
    progress
        Function that is called after each block.
    waits
        Seconds before each further attempt; they start again after an attempt that received something.

    Raises
    ------
    Unreachable
        If the server does not answer, or the connection broke and no further attempt is left.
    NodeError
        If the server refuses or sends something else, or the file cannot be written.
    ConfigurationError
        If the address is not ``http://`` or ``https://``.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigurationError(f"{url} is not an address that begins with http:// or https://")
    part = target.with_name(target.name + ".part")
    left = iter(waits)
    answered = False
    while True:
        before = _bytes_in(part)
        try:
            if _receive(url, part, size, progress):
                break
            reason, answered = "the connection was cut", True
        except _Refused as error:
            reason, answered = str(error), True
        except (requests.RequestException, TransportError, OSError) as error:
            reason = _reason(error)
        if _bytes_in(part) > before:
            answered, left = True, iter(waits)
        # A server that has never answered is most likely out of reach: report it at once.
        wait = next(left, None) if answered else None
        if wait is None:
            raise Unreachable(f"{urlsplit(url).netloc} cannot be reached ({reason})")
        time.sleep(wait)
    if digest:
        _verify(part, digest, url)
    part.replace(target)


def _receive(url: str, part: Path, size: int | None, progress: Progress) -> bool:
    """Receive the missing bytes of a file; return whether it is complete now."""
    start = _bytes_in(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": "dicom-node"}
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=_TIMEOUT_SECONDS) as response:
        place = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        if response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            # Nothing follows the bytes that are here: the file is complete, or they are of another file.
            if place and int(place[2]) == start and size in (None, start):
                return True
            _discard(part)
            return False
        _check_status(response, url)
        resumed = response.status_code == HTTPStatus.PARTIAL_CONTENT
        if resumed and place is not None and place[1] == str(start):
            total: int | None = int(place[2])
        else:
            start = 0
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
        _check_content(response, url, size, total)
        return _write(response, part, start, size or total, progress)


def _check_status(response: requests.Response, url: str) -> None:
    """Check that the answer is a success.

    Raises
    ------
    _Refused
        If the status may be temporary.
    NodeError
        If it is not.
    """
    status = response.status_code
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return
    if status in _TEMPORARY:
        raise _Refused(f"it answered {status} {response.reason}")
    raise NodeError(f"{url}: the server answered {status} {response.reason}")


def _check_content(response: requests.Response, url: str, size: int | None, total: int | None) -> None:
    """Check that the answer is the file, and has the size that is known.

    Raises
    ------
    NodeError
        If it is a web page, or of another size.
    """
    content_type = response.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if content_type == "text/html":
        raise NodeError(f"{url}: the server sent a web page instead of the file; try again later")
    if size is not None and total not in (None, size):
        raise NodeError(f"{url}: the file on the server has {total} bytes, not the expected {size} bytes")


def _write(
    response: requests.Response, part: Path, start: int, total: int | None, progress: Progress
) -> bool:
    """Append the body of an answer to the first bytes of a file; return whether it is complete then."""
    done = start
    progress(done, total)
    # A body that ends early is noticed here by its length. Response.iter_content would raise an error for it
    # and drop the bytes of the last block.
    response.raw.enforce_content_length = False
    with _open(part, "ab" if start else "wb") as file:
        while block := response.raw.read(_BLOCK_BYTES, decode_content=False):
            try:
                file.write(block)
                file.flush()
            except OSError as error:
                raise NodeError(f"{part} cannot be written: {error.strerror}") from error
            done += len(block)
            progress(done, total)
    if total is not None and done > total:
        _discard(part)
        return False
    return total is None or done == total


def _open(part: Path, mode: str) -> IO[bytes]:
    try:
        return part.open(mode)
    except OSError as error:
        raise NodeError(f"{part} cannot be written: {error.strerror}") from error


def _verify(part: Path, digest: str, url: str) -> None:
    name, _, expected = digest.partition(":")
    with part.open("rb") as file:
        found = hashlib.file_digest(file, name).hexdigest()
    if found != expected:
        _discard(part)
        raise NodeError(
            f"{url}: the downloaded file has the {name} digest {found}, not {expected}, and was deleted; "
            "give the command again"
        )


def _bytes_in(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)


def _reason(error: BaseException) -> str:
    """Return the system's reason below an error of requests, such as "Connection refused"."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
