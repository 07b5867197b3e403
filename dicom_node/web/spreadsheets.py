"""Lines of CSV files (RFC 4180) for people, who open them in a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def csv_line(values: Iterable[object]) -> str:
    """Return one line with its end; None is an empty field, and no text is taken for a formula."""
    stream = io.StringIO()
    csv.writer(stream).writerow(["" if value is None else _plain(value) for value in values])
    return stream.getvalue()


def _plain(value: object) -> object:
    """Quote text that a spreadsheet would take for a formula (CSV injection)."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
