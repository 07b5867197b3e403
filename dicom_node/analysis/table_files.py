"""Table files, CSV or Parquet, that are written while their rows are made, and their data dictionary."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TextIO, TypeAlias

from dicom_node.analysis.packages import packages_of
from dicom_node.errors import NodeError
from dicom_node.web.spreadsheets import csv_line

Row: TypeAlias = Mapping[str, Any]
Kind: TypeAlias = Literal["text", "whole", "number", "truth"]

_GROUP: Final = 50_000
"""Rows of a row group of Parquet: as many are held in memory."""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """Column of a table.

    Attributes
    ----------
    name
        Name of the column.
    kind
        Kind of its values: text, whole numbers, numbers, or true and false. A value may be missing.
    description
        Meaning, with unit and range.
    """

    name: str
    kind: Kind
    description: str


class TableWriter(Protocol):
    """Writer of the rows of a table; a column that a row lacks stays empty."""

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows, in order."""


class _CsvWriter:
    def __init__(self, path: Path, columns: Sequence[TableColumn], stream: TextIO) -> None:
        self._path = path
        self._names = [column.name for column in columns]
        self._stream = stream

    def write(self, rows: Iterable[Row]) -> None:
        self.write_lines(map(row.get, self._names) for row in rows)

    def write_lines(self, lines: Iterable[Iterable[object]]) -> None:
        # At once, and flushed: what was interrupted leaves whole rows.
        text = "".join([csv_line(line) for line in lines])
        with _translated(self._path):
            self._stream.write(text)
            self._stream.flush()


class _ParquetWriter:
    def __init__(self, path: Path, columns: Sequence[TableColumn]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        kinds = {"text": pa.string(), "whole": pa.int64(), "number": pa.float64(), "truth": pa.bool_()}
        described = [
            pa.field(each.name, kinds[each.kind], metadata={"description": each.description})
            for each in columns
        ]
        self._path = path
        self._schema = pa.schema(described, metadata={"intended_use": "RESEARCH USE ONLY"})
        self._table = pa.Table
        self._file = pq.ParquetWriter(path, self._schema)
        self._rows: list[Row] = []

    def write(self, rows: Iterable[Row]) -> None:
        self._rows.extend(rows)
        if len(self._rows) >= _GROUP:
            self._write_group()

    def close(self) -> None:
        self._write_group()
        with _translated(self._path):
            self._file.close()

    def _write_group(self) -> None:
        if self._rows:
            columns = {name: [row.get(name) for row in self._rows] for name in self._schema.names}
            with _translated(self._path):
                self._file.write_table(self._table.from_pydict(columns, schema=self._schema))
            self._rows = []


@packages_of("tables")
def check_parquet() -> None:
    """Check before a long run that Parquet can be written.

    Raises
    ------
    ConfigurationError
        If pyarrow is not installed.
    """
    import pyarrow.parquet  # noqa: F401 - a missing package is reported


@contextmanager
def opened_csv(path: Path, columns: Sequence[TableColumn], *, append: bool = False) -> Iterator[TableWriter]:
    """Open a CSV file (RFC 4180, UTF-8) for writing; what its writer was given is on the disk.

    Texts that a spreadsheet would take for a formula get an apostrophe in front.

    Parameters
    ----------
    append
        True to go on with a file that has its header line.

    Raises
    ------
    NodeError
        If the file cannot be written.
    """
    with _translated(path):
        stream = path.open("a" if append else "w", encoding="utf-8", newline="")
    with stream:
        writer = _CsvWriter(path, columns, stream)
        if not append:
            writer.write_lines([[column.name for column in columns]])
        yield writer


@contextmanager
def opened_parquet(path: Path, columns: Sequence[TableColumn]) -> Iterator[TableWriter]:
    """Open a Parquet file for writing; it appears when the block ends, also by an interruption.

    Raises
    ------
    NodeError
        If the file cannot be written.
    ModuleNotFoundError
        If pyarrow is not installed.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with _translated(path):
        writer = _ParquetWriter(draft, columns)
    try:
        try:
            yield writer
        finally:
            writer.close()
        with _translated(path):
            draft.replace(path)
    except KeyboardInterrupt:
        draft.replace(path)  # what was done until then
        raise
    finally:
        draft.unlink(missing_ok=True)


def read_csv(path: Path, columns: Sequence[TableColumn]) -> Iterator[dict[str, str]]:
    """Yield the whole rows of a CSV file, as text; the last one is left out where its end is missing.

    Raises
    ------
    NodeError
        If the file cannot be read, or is no table with these columns.
    """
    names = [column.name for column in columns]
    with _translated(path):
        stream = path.open(encoding="utf-8", newline="")
    with stream:
        try:
            rows = csv.reader(_whole_lines(stream))
            if next(rows, None) != names:
                raise NodeError(f"{path}: it is no table of this version; name another file")
            for row in rows:
                if len(row) == len(names):
                    yield dict(zip(names, row, strict=True))
        except (csv.Error, UnicodeDecodeError) as error:
            raise NodeError(f"{path}: {error}; name a table of this program") from error


def read_parquet(path: Path, columns: Sequence[TableColumn]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of a Parquet file, row group by row group.

    Raises
    ------
    NodeError
        If the file cannot be read, or is no table with these columns.
    ModuleNotFoundError
        If pyarrow is not installed.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = [column.name for column in columns]
    try:
        with _translated(path):
            file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise NodeError(f"{path}: it is no Parquet file; name a table of this program") from error
    with file:
        if file.schema_arrow.names != names:
            raise NodeError(f"{path}: it is no table of this version; name another file")
        for group in range(file.num_row_groups):
            yield file.read_row_group(group).to_pylist()


def write_dictionary(path: Path, tables: Mapping[str, Sequence[TableColumn]]) -> None:
    """Write a data dictionary: a CSV file with table, column, kind and description.

    Raises
    ------
    NodeError
        If the file cannot be written.
    """
    lines = [("table", "column", "kind", "description")]
    lines += [
        (table, each.name, each.kind, each.description)
        for table, columns in tables.items()
        for each in columns
    ]
    with _translated(path):
        path.write_text("".join(map(csv_line, lines)), encoding="utf-8", newline="")


def _whole_lines(stream: Iterable[str]) -> Iterator[str]:
    return (line for line in stream if line.endswith("\n"))


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise NodeError(f"{path}: {error.strerror or error}; name another file") from error
