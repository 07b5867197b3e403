"""Entry of the audit trail: a message with its number and the hash that chains it to the one before."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Final

from dicom_node.errors import BadInstance


@dataclass(frozen=True, slots=True)
class Link:
    """Place in the chain: number and hash of an entry."""

    number: int
    hash: str


ORIGIN: Final = Link(0, "0" * 64)
"""Link before the first entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Numbered message.

    Attributes
    ----------
    number
        Place in the chain; the first is 1.
    previous
        Hash of the entry before.
    hash
        SHA-256 over number, previous hash and message, in hexadecimal.
    message
        Audit message as one line of XML.
    """

    number: int
    previous: str
    hash: str
    message: str

    @classmethod
    def after(cls, link: Link, message: str) -> Entry:
        """Return the entry that follows a link."""
        number = link.number + 1
        return cls(number, link.hash, _hash(number, link.hash, message), message)

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """Read a line of a file.

        Raises
        ------
        BadInstance
            When it is no entry; whether the hash is right is for :attr:`intact`.
        """
        try:
            found = cls(**json.loads(line))
        except (ValueError, TypeError, RecursionError):
            raise BadInstance("the line is no entry") from None
        kinds = (type(found.number), type(found.previous), type(found.hash), type(found.message))
        if kinds != (int, str, str, str):
            raise BadInstance("the line is no entry")
        return found

    @property
    def link(self) -> Link:
        """Link to the next entry."""
        return Link(self.number, self.hash)

    @property
    def intact(self) -> bool:
        """True when the hash is the one of the content."""
        return self.hash == _hash(self.number, self.previous, self.message)

    @property
    def line(self) -> bytes:
        """Line of the file, with its end."""
        return json.dumps(asdict(self), ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def _hash(number: int, previous: str, message: str) -> str:
    return hashlib.sha256(f"{number}\n{previous}\n{message}".encode("utf-8", "replace")).hexdigest()
