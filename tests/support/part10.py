"""Small Part 10 files around any bytes."""

from __future__ import annotations

META = b"\x02\x00\x10\x00UI\x04\x001.2\x00"
"""File meta information: a transfer syntax."""


def part10(data_set: bytes, meta: bytes = META, preamble: bytes = bytes(128)) -> bytes:
    """Part 10 file of a data set, which need not be one (PS3.10 7.1)."""
    head = b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little")
    return preamble + b"DICM" + head + meta + data_set
