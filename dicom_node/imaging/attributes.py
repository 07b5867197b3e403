"""Element values of untrusted headers: missing, empty, malformed or of an ambiguous VR.

A header with bad values is the normal case. These functions return a value that can be used, or none, and
never raise for bad content.
"""

from __future__ import annotations

import math
import re
import struct
import threading
import warnings
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np
from pydicom._uid_dict import UID_dictionary
from pydicom.config import IGNORE, disable_value_validation
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID

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
"""Exceptions that pydicom and the pixel decoders raise on malformed bytes."""


class _Tolerance:
    """Switch for pydicom's validation and Python's warnings: off while any thread is inside.

    Both are process-wide, so the threads inside are counted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._restore = ExitStack()

    def __enter__(self) -> None:
        with self._lock:
            self._inside += 1
            if self._inside == 1:
                self._restore.enter_context(disable_value_validation())
                self._restore.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._restore.close()
        if type(error) is OSError and error.errno is None:
            # pydicom says so of bytes that it cannot follow; an error of the system has a number, and that of
            # another library a type of its own.
            raise InvalidDicomError(str(error)) from error


_TOLERANCE = _Tolerance()
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+(?:[Ee][+-]?\d+)?")


def tolerance() -> AbstractContextManager[None]:
    """Return a context in which pydicom neither validates values nor warns; threads may share and nest it.

    Raises
    ------
    InvalidDicomError
        For an OSError that pydicom raises at malformed bytes; those of the system pass.
    """
    return _TOLERANCE


def value(ds: Dataset, keyword: str | BaseTag) -> Any:
    """Return the value of an element; None when it is missing, empty or cannot be read.

    Parameters
    ----------
    keyword
        Keyword, or the tag where several have the same keyword (PS3.5 7.6).
    """
    try:
        with tolerance():
            found = ds.get(keyword)
            if isinstance(found, DataElement):
                found = found.value
    except (*MALFORMED, OSError):  # pydicom seeks to where lengths point
        return None
    return None if found is None or (isinstance(found, str | bytes) and not found) else found


def texts(ds: Dataset, keyword: str | BaseTag) -> list[str]:
    """Return the values of an element as text without surrounding blanks, empty ones included."""
    found = value(ds, keyword)
    if found is None or isinstance(found, Sequence | bytes):
        return []
    many = found if isinstance(found, MultiValue | list | tuple) else [found]
    try:
        with tolerance():  # pydicom decodes a person's name only here
            return ["" if item is None else str(item).strip(" \0") for item in many]
    except MALFORMED:
        return []


def is_uid(text: str) -> bool:
    """Return whether a text is a UID by PS3.5 9.1, without padding."""
    return bool(UID(text, IGNORE).is_valid)


def uid_name(text: str) -> str:
    """Return the name of a UID that PS3.6 lists; empty for any other text."""
    return UID_dictionary[text][0] if text in UID_dictionary else ""


def text(ds: Dataset, keyword: str | BaseTag) -> str:
    """Return the first value of an element as text without surrounding blanks; empty when there is none."""
    return next(iter(texts(ds, keyword)), "")


def whole_text(ds: Dataset, keyword: str) -> str:
    """Return all values of an element as one text, with backslashes between them as in the file.

    An identifier or a name that holds a backslash is read as several values, and the first alone would name
    somebody else.
    """
    return "\\".join(texts(ds, keyword))


def numbers(ds: Dataset, keyword: str | BaseTag) -> list[float]:
    """Return the values of an element as numbers; NaN for a value that is no number."""
    found = value(ds, keyword)
    if isinstance(found, bytes):  # words, of OW or of an ambiguous VR that nobody resolved
        words = "<u2" if ds.original_encoding[1] is not False else ">u2"
        return [float(item) for item in np.frombuffer(found[: len(found) // 2 * 2], words)]
    if found is None or isinstance(found, Sequence):
        return []
    many = found if isinstance(found, MultiValue | list | tuple) else [found]
    return [_number(item) for item in many]


def _number(item: Any) -> float:
    try:
        return float(item)
    except (TypeError, ValueError, OverflowError):
        # One comma between digits is a decimal point that followed a locale; two could be anything.
        if isinstance(item, str) and _DECIMAL_COMMA.fullmatch(item.strip(" \0")):
            return float(item.replace(",", "."))
        return math.nan


def items(ds: Dataset, keyword: str) -> list[Dataset]:
    """Return the items of a sequence; none when it is missing or no sequence."""
    found = value(ds, keyword)
    return list(found) if isinstance(found, Sequence) else []
