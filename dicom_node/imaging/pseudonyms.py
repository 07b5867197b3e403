"""Pseudonyms of one site: the same original gives the same one, and only the site's secret leads to it."""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import hmac
import re
from typing import Final

_DAYS: Final = 3650
_DATE_LENGTH: Final = 8
_DATE: Final = re.compile(r"\d{8}[\d.+ -]*")


class Pseudonyms:
    """Source of pseudonyms, by a keyed hash (RFC 2104).

    Parameters
    ----------
    secret
        Secret of the site. Whoever has it can test whether a pseudonym belongs to an original.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def uid(self, uid: str) -> str:
        """Return the UID that takes the place of another (PS3.5 B.2)."""
        # Version and variant of a UUID as of RFC 9562 version 8.
        number = int.from_bytes(self._digest("uid", uid)[:16])
        number = number & ~(0xF << 76) & ~(0x3 << 62) | (8 << 76) | (2 << 62)
        return f"2.25.{number}"

    def patient(self, identifier: str) -> str:
        """Return the pseudonym of a patient: P and 15 letters or digits."""
        return "P" + base64.b32encode(self._digest("patient", identifier))[:15].decode()

    def reader(self, name: str) -> str:
        """Return the pseudonym of a reader: R and 15 letters or digits."""
        return "R" + base64.b32encode(self._digest("reader", name))[:15].decode()

    def shifted(self, patient: str, value: str) -> str:
        """Return a date or date with time, moved into the past by the patient's own number of days.

        Parameters
        ----------
        value
            Value of VR DA or DT; its time of day is kept.

        Returns
        -------
        str
            Empty when it is no date.
        """
        if not _DATE.fullmatch(value):
            return ""
        try:
            date = dt.datetime.strptime(value[:_DATE_LENGTH], "%Y%m%d").replace(tzinfo=dt.UTC)
            moved = date - dt.timedelta(days=1 + int.from_bytes(self._digest("days", patient)[:8]) % _DAYS)
        except (ValueError, OverflowError):
            return ""
        return f"{moved:%Y%m%d}".zfill(_DATE_LENGTH) + value[_DATE_LENGTH:]

    def _digest(self, kind: str, text: str) -> bytes:
        return hmac.digest(self._secret, f"{kind}:{text.strip()}".encode(), hashlib.sha256)
