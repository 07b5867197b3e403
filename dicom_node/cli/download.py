"""One file from a web server to a folder: resumed where it broke off, checked, never half there."""

from __future__ import annotations

import hashlib
import http.client
import re
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO, TypeAlias
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from dicom_node.errors import ConfigurationError, NodeError

#: Told how many bytes are there, and of how many; None while nobody knows.
Progress: TypeAlias = Callable[[int, int | None], None]

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60.0
#: Answers that say "not now" (RFC 9110, 15.5 and 15.6; RFC 6585).
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206
_RANGE = re.compile(r"bytes (?:(\d+)-\d+|\*)/(\d+)")


class Unreachable(NodeError):
    """The server did not answer, or broke off again and again; what came is kept."""


def download(
    url: str,
    target: Path,
    *,
    size: int | None = None,
    digest: str = "",
    progress: Progress = lambda _done, _all: None,
    waits: Iterable[float] = (1, 2, 4, 8, 16, 32),
) -> None:
    """Download a file; the bytes that an earlier call received are not asked for again.

    They lie beside the target, in ``NAME.part``. A server that does not know ranges (RFC 9110, 14) sends the
    whole anew.

    Parameters
    ----------
    size
        In bytes, where it is known: a server that has another one is not listened to.
    digest
        Such as ``md5:`` or ``sha256:`` and hexadecimal digits, where it is known.
    waits
        Seconds before each further attempt. They begin anew whenever an attempt received anything.

    Raises
    ------
    Unreachable
        If the server cannot be reached, or it broke off and no further attempt is left.
    NodeError
        If it refuses, sends something else, or the disk does not take it.
    ConfigurationError
        If the address is not of the web.
    """
    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigurationError(f"{url} is no address that begins with http:// or https://")
    part = target.with_name(target.name + ".part")
    left = iter(waits)
    answered = False
    while True:
        before = _bytes_in(part)
        try:
            if _receive(url, part, size, progress):
                break
            reason, answered = "the connection was cut", True
        except (URLError, http.client.HTTPException, OSError) as error:
            reason = _reason(error)
            answered = answered or isinstance(error, HTTPError)
            if isinstance(error, HTTPError) and error.code not in _PASSING:
                raise NodeError(f"{url}: the server answered {error.code} {error.reason}") from None
        if _bytes_in(part) > before:
            answered, left = True, iter(waits)
        # Where nobody has answered yet, there is most likely no way to the server: that is said at once.
        wait = next(left, None) if answered else None
        if wait is None:
            raise Unreachable(f"{urlsplit(url).netloc} cannot be reached ({reason})")
        time.sleep(wait)
    if digest:
        _verify(part, digest, url)
    part.replace(target)


def _receive(url: str, part: Path, size: int | None, progress: Progress) -> bool:
    """Receive what is still missing of a file; whether it is whole now."""
    start = _bytes_in(part)
    headers = {"Accept-Encoding": "identity", "User-Agent": "dicom-node"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urlopen(Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)  # noqa: S310 - checked
    except HTTPError as error:
        with error:
            if error.code != _NOT_SATISFIABLE:
                raise
            # There is nothing behind what is here: it is the whole, or of another file.
            place = _RANGE.fullmatch(error.headers.get("Content-Range", ""))
        if place and int(place[2]) == start and size in (None, start):
            return True
        _discard(part)
        return False
    with response:
        place = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        resumed = response.status == _PARTIAL_CONTENT and place is not None and place[1] == str(start)
        if resumed and place is not None:
            total: int | None = int(place[2])
        else:
            start = 0
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdecimal() else None
        if response.headers.get_content_type() == "text/html":
            raise NodeError(f"{url}: the server sent a web page instead of the file; try again later")
        if size is not None and total not in (None, size):
            raise NodeError(
                f"{url}: the server has a file of {total} bytes there, not the one of {size} bytes"
            )
        return _write(response, part, start, size or total, progress)


def _write(
    response: http.client.HTTPResponse, part: Path, start: int, total: int | None, progress: Progress
) -> bool:
    """Write an answer behind the first bytes of a file; whether it is whole then."""
    done = start
    progress(done, total)
    with _open(part, "ab" if start else "wb") as file:
        while block := response.read(_BLOCK_BYTES):
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
            f"{url}: the file that came has the {name} digest {found}, not {expected}, and was deleted; "
            "give the command again"
        )


def _bytes_in(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"it answered {error.code} {error.reason}"
    inner = error.reason if isinstance(error, URLError) else error
    return getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
