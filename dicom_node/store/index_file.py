"""File of a SQLite index, and how its loss is noticed while processes have it open.

A process goes on to write into a file that was deleted or replaced, and nobody will ever read what it wrote.
So each process remembers which file it opened, with the write-ahead log and the shared memory beside it
(https://www.sqlite.org/walformat.html), and compares before each transaction and after each commit.

What is damaged inside the file shows only when it is read as a whole (:func:`damage_of`). The process that
finds it leaves a note beside the index, and from then on no process uses it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Engine, event

from dicom_node.errors import IndexDamaged

ADVICE: Final = (
    "stop the node, then bring the index back from a backup or make it anew with `dicom-node rebuild`"
)
"""Advice about an index that is lost or damaged."""

_SUFFIXES: Final = ("", "-wal", "-shm")
NOTE: Final = "-damaged"
"""Suffix of the note beside a damaged index; its text says what was found."""

_FILES: WeakKeyDictionary[Engine, IndexFile] = WeakKeyDictionary()
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class IndexFile:
    """File of a SQLite index as this process opened it.

    Parameters
    ----------
    path
        Path of the file.
    create
        Whether the first connection may make the file.
    """

    def __init__(self, path: Path, *, create: bool) -> None:
        self.path = path
        self._create = create
        self._note = Path(f"{path}{NOTE}")
        self._paths = {suffix: Path(f"{path}{suffix}") for suffix in _SUFFIXES}
        self._connections = 0
        self._known: dict[str, tuple[int, int]] = {}

    def before_connecting(self, *_: object) -> None:
        """Refuse to make a new file where one is expected."""
        there = self.path.exists() and self.path.stat().st_size
        if not (self._known or self._create or there):
            raise IndexDamaged(f"database: {self.path} is not there; {ADVICE}")
        if self._known:
            self.check()

    def connected(self, *_: object) -> None:
        """Count a new connection."""
        self._connections += 1
        self.check()

    def closed(self, *_: object) -> None:
        """Forget the files beside the index with the last connection: SQLite removes them then."""
        self._connections -= 1
        if self._connections == 0:
            for suffix in _SUFFIXES[1:]:
                self._known.pop(suffix, None)

    def check(self, *_: object) -> None:
        """Compare the files with those that were opened.

        Raises
        ------
        IndexDamaged
            When one is not there any more, or is another file.
        """
        if self._note.exists():
            raise IndexDamaged(f"database: the index is damaged ({_first_line(self._note)}); {ADVICE}")
        for suffix, path in self._paths.items():
            known = self._known.get(suffix)
            try:
                status = path.stat()
            except OSError:
                if known is not None:
                    raise IndexDamaged(
                        f"database: {path} was deleted while the node runs; {ADVICE}"
                    ) from None
                continue
            found = (status.st_dev, status.st_ino)
            if known is None:
                self._known[suffix] = found
            elif found != known:
                raise IndexDamaged(
                    f"database: {path} was replaced by another file while the node runs; {ADVICE}; if the "
                    "new file is meant, start the node again"
                )


def watch(engine: Engine, *, create: bool) -> None:
    """Have an engine of SQLite compare its file before each connection and each transaction."""
    watched = IndexFile(Path(engine.url.database or ""), create=create)
    _FILES[engine] = watched
    event.listen(engine, "do_connect", watched.before_connecting)
    event.listen(engine, "connect", watched.connected)
    event.listen(engine, "close", watched.closed)

    def begin(_connection: Connection) -> None:
        watched.check()

    event.listen(engine, "begin", begin, insert=True)


def check(engine: Engine) -> None:
    """Compare the file of an engine with the one that it opened; does nothing for other databases.

    Raises
    ------
    IndexDamaged
        When it was deleted or replaced.
    """
    if (watched := _FILES.get(engine)) is not None:
        watched.check()


def _first_line(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").partition("\n")[0]
    except OSError as error:
        return str(error.strerror)


def damage_of(path: Path) -> str:
    """Return what SQLite finds wrong with the file of an index, as one line; empty when it is intact.

    It reads the whole file by a connection of its own (``PRAGMA quick_check``), which takes about a second
    for each GiB.
    """
    try:
        with contextlib.closing(
            sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True)
        ) as connection:
            found = str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError:
        return ""  # locked, or not there: that is noticed elsewhere
    except sqlite3.DatabaseError as error:
        return " ".join(str(error).split())
    return "" if found == "ok" else " ".join(found.split())


def check_content(path: Path) -> None:
    """Read the file of an index as a whole; when it is damaged, leave the note, else remove an old one.

    Raises
    ------
    IndexDamaged
        When it is damaged.
    """
    note = Path(f"{path}{NOTE}")
    if found := damage_of(path) if path.exists() else "":
        with contextlib.suppress(OSError):
            note.write_text(found + "\n", "utf-8")
        raise IndexDamaged(f"database: the index is damaged ({found}); {ADVICE}")
    with contextlib.suppress(OSError):
        note.unlink(missing_ok=True)


def is_damage(error: BaseException | None) -> bool:
    """Return whether an error of a driver says that the database is damaged, or holds no index."""
    code: Any = getattr(error, "sqlite_errorcode", None)
    if code is not None and (code & 0xFF) in _DAMAGE:
        return True
    return getattr(error, "sqlstate", None) == "42P01" or str(error).startswith("no such table")
