"""Byte order of binary values: files in Explicit VR Big Endian have the other one (PS3.5 7.3)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import numpy as np

WORD_BYTES: Final[Mapping[str, int]] = MappingProxyType({"OW": 2, "OL": 4, "OF": 4, "OD": 8, "OV": 8})
"""Bytes of a word by VR, of those whose words have an order (PS3.5 table 6.2-1)."""


def little_endian(content: bytes, word_bytes: int) -> bytes:
    """Return big endian words in little endian, or the other way round; bytes behind the last word stay."""
    if word_bytes == 1:
        return content
    whole = len(content) // word_bytes * word_bytes
    words = np.frombuffer(content[:whole], f">u{word_bytes}")
    return words.astype(f"<u{word_bytes}").tobytes() + content[whole:]
