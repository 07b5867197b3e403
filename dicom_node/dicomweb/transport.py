"""HTTP connections whose answers have an end: no service can keep the node waiting, or fill its memory."""

from __future__ import annotations

import time
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter

from dicom_node.errors import PeerUnavailable

_MAX_BYTES = 64 * 2**20
"""Largest answer that holds no instances, in bytes."""
_MAX_INSTANCES_BYTES = 2**30
"""Largest answer that holds instances: all films of a study."""
_PIECE_BYTES = 1 << 16
# A large answer gets more time: one second for so many bytes.
_SLOWEST_BYTES_PER_SECOND = 64 * 1024


class BoundedAdapter(HTTPAdapter):
    """HTTP adapter that reads each answer within a time and a size; instances may be larger.

    Parameters
    ----------
    name
        Name of the service, for errors.
    seconds
        Most seconds for the body of an answer, beside one second for every 64 KiB.
    """

    def __init__(self, name: str, seconds: float) -> None:
        super().__init__()
        self._name, self._seconds = name, seconds

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        """Send a request and read the answer to its end.

        Raises
        ------
        PeerUnavailable
            When the answer is too long or takes too long.
        requests.RequestException
            When the connection fails.
        """
        response = super().send(request, *args, **options)
        if options.get("stream"):
            return response
        try:
            response._content = self._read(response)  # noqa: SLF001 - where requests itself would put it
        except urllib3.exceptions.TimeoutError as error:
            raise requests.ReadTimeout(error) from error
        except urllib3.exceptions.HTTPError as error:
            raise requests.ConnectionError(error) from error
        finally:
            response.close()
        response._content_consumed = True  # type: ignore[attr-defined]  # noqa: SLF001
        return response

    def _read(self, response: requests.Response) -> bytes:
        # By what was asked for: a service may call any answer multipart.
        instances = response.request.headers.get("Accept", "").startswith("multipart/")
        most = _MAX_INSTANCES_BYTES if instances else _MAX_BYTES
        content = bytearray()
        begun = time.monotonic()
        while piece := response.raw.read1(_PIECE_BYTES, decode_content=True):
            content += piece
            if len(content) > most:
                raise PeerUnavailable(f"{self._name}: an answer is longer than {most >> 20} MiB")
            if time.monotonic() > begun + self._seconds + len(content) / _SLOWEST_BYTES_PER_SECOND:
                raise PeerUnavailable(f"{self._name}: an answer was not complete in time")
        return bytes(content)
