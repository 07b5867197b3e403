"""Tables that come with films: selected columns of CSV files, plain or gzip-compressed."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from models.errors import DatasetError

_BROKEN = (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, zlib.error, EOFError)


def read_table(
    path: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[tuple[int, dict[str, str]]]:
    """Read some columns of a CSV file in UTF-8 with a header, row by row.

    Parameters
    ----------
    path
        Path of the file; a name that ends in ``.gz`` is decompressed.
    columns
        Names of the required columns.
    optional
        Names of columns that may be missing; their values are then empty.

    Yields
    ------
    tuple
        Number of the line, for messages, and the values by column, without blanks around them.

    Raises
    ------
    DatasetError
        If the file cannot be read, is no such table, or a row lacks a column.
    """
    try:
        with _text(path) as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            missing = [column for column in columns if column not in header]
            if missing:
                raise DatasetError(f"{path} has no column {', '.join(missing)}")
            places = {name: header.index(name) for name in (*columns, *optional) if name in header}
            last = max(places.values())
            for row in reader:
                if not any(row):
                    continue
                if len(row) <= last:
                    raise DatasetError(f"{path} line {reader.line_num}: a value is missing")
                values = {name: row[place].strip() for name, place in places.items()}
                yield reader.line_num, {**dict.fromkeys(optional, ""), **values}
    except _BROKEN as error:
        raise DatasetError(f"{path} is not a CSV file in UTF-8: {error}") from error
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read: {error.strerror}; point to the folder that holds it"
        ) from error


def _text(path: Path) -> IO[str]:
    # A byte order mark, as spreadsheets write it, is no part of the first column's name.
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(newline="", encoding="utf-8-sig")
