"""Values of elements as they are met: missing, empty, malformed or of an ambiguous VR.

A source header with bad values is the normal case. Whoever reads one asks here and gets a value that can
be used, or none.
"""

from __future__ import annotations

import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence

MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    MemoryError,
    RuntimeError,  # RecursionError and NotImplementedError too
    TypeError,
    ValueError,
    struct.error,
)
"""What pydicom and the pixel decoders raise on bytes that are not what they say they are."""


@contextmanager
def tolerance() -> Iterator[None]:
    """Let pydicom take values as they are, without a word."""
    with disable_value_validation(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def value(ds: Dataset, keyword: str) -> Any:
    """Value of an element; None when it is missing, empty or cannot be read."""
    try:
        with tolerance():
            found = ds.get(keyword)
    except MALFORMED:
        return None
    return None if found is None or (isinstance(found, str | bytes) and not found) else found


def texts(ds: Dataset, keyword: str) -> list[str]:
    """Values of an element as text without surrounding blanks, empty ones included."""
    found = value(ds, keyword)
    if found is None or isinstance(found, Sequence | bytes):
        return []
    many = found if isinstance(found, MultiValue | list | tuple) else [found]
    try:
        with tolerance():  # a person's name is decoded only now
            return ["" if item is None else str(item).strip(" \0") for item in many]
    except MALFORMED:
        return []


def text(ds: Dataset, keyword: str) -> str:
    """First value of an element as text without surrounding blanks; empty when there is none."""
    return next(iter(texts(ds, keyword)), "")


def numbers(ds: Dataset, keyword: str) -> list[float]:
    """Values of an element as numbers; NaN for one that is none."""
    found = value(ds, keyword)
    if isinstance(found, bytes):  # an ambiguous VR that nobody resolved
        return [float(item) for item in np.frombuffer(found[: len(found) // 2 * 2], "<u2")]
    if found is None or isinstance(found, Sequence):
        return []
    many = found if isinstance(found, MultiValue | list | tuple) else [found]
    return [_number(item) for item in many]


def _number(item: Any) -> float:
    try:
        return float(item)
    except (TypeError, ValueError, OverflowError):
        return math.nan


def items(ds: Dataset, keyword: str) -> list[Dataset]:
    """Items of a sequence; none when it is missing or no sequence."""
    found = value(ds, keyword)
    return list(found) if isinstance(found, Sequence) else []
