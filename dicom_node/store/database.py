"""Database of the index: SQLite by default, PostgreSQL when ``database_url`` names one."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import (
    URL,
    ColumnElement,
    Connection,
    Engine,
    Select,
    create_engine,
    event,
    inspect,
    make_url,
    or_,
    select,
    text,
)
from sqlalchemy.exc import (
    ArgumentError,
    DataError,
    DBAPIError,
    IntegrityError,
    SQLAlchemyError,
)

from dicom_node.errors import ConfigurationError, IndexDamaged, StorageFailed, StorageFull
from dicom_node.store import index_file
from dicom_node.store.tables import metadata, schema_version

MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x64696E6F  # "dino": one migration at a time per PostgreSQL database
_DISK_FAILS = "disk I/O error"
_NO_ROOM = ("database or disk is full", "No space left", "could not extend file")
# deadlock_detected, serialization_failure (https://www.postgresql.org/docs/current/errcodes-appendix.html)
_DEADLOCKS = frozenset({"40P01", "40001"})
CLOCK_SLACK = 60.0
"""Seconds by which clocks of hosts may differ: a time further ahead is that of a clock that was set back."""
"""Seconds by which the clocks of the hosts on one database may differ."""


def connect(address: str, *, create: bool = True) -> Engine:
    """Return an engine whose commits are durable when they return.

    SQLite runs in WAL mode with ``synchronous = FULL``. A writing transaction takes its lock at once
    (``BEGIN IMMEDIATE``), so that it waits for other writers and does not fail in the middle. When its file
    is deleted or replaced, every transaction fails, see :mod:`dicom_node.store.index_file`.

    Parameters
    ----------
    create
        Whether the file of SQLite is made when it is not there.

    Raises
    ------
    ConfigurationError
        When the address is not valid, or its driver is not installed.
    """
    try:
        url = parse_address(address)
        engine = create_engine(url, pool_pre_ping=url.get_backend_name() == "postgresql")
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(f"database_url: {error}") from None
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"database_url: {url.get_backend_name()} needs the driver {error.name}"
        ) from error
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        index_file.watch(engine, create=create)
    return engine


def parse_address(address: str) -> URL:
    """Return the parts of a database's address, with the driver that is used.

    Raises
    ------
    ValueError
        When it is malformed, or the address of another kind of database.
    """
    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise ValueError(
            "must be the address of a database: postgresql://USER@HOST/DATABASE or sqlite:////PATH"
        ) from None
    if url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() not in {"sqlite", "postgresql"}:
        raise ValueError(f"{url.drivername} is not supported; use sqlite or postgresql")
    if url.get_backend_name() == "sqlite" and url.database in {None, "", ":memory:"}:
        raise ValueError("names no file: the processes of a node share the database; use sqlite:////PATH")
    return url


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # only _begin_sqlite begins transactions
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=20000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


class KeyConflict(StorageFailed):
    """Insert that failed because another transaction inserted the same key first; a repeated call sees it."""


class Deadlock(StorageFailed):
    """Transaction that PostgreSQL ended because it and another waited for each other; a repeat succeeds."""


class ValueRefused(StorageFailed):
    """Error in a value that the database never takes, such as text with a NUL."""


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Run the body as one durable transaction.

    Raises
    ------
    StorageFull, StorageFailed
        When the database did not commit; nothing was changed, or the index itself is gone (IndexDamaged).
    """
    with translated_errors(), engine.begin() as connection:
        yield connection
    index_file.check(engine)  # what was committed into a file that is gone is not durable


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Run the body over one consistent snapshot that blocks no writer."""
    options: dict[str, Any] = {"reading": True}
    if engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"  # by default each statement has a snapshot of its own
    with translated_errors(), engine.connect().execution_options(**options) as connection:
        yield connection


def as_mapping(connection: Connection, query: Select[Any, Any]) -> dict[Any, Any]:
    """Return the rows of a query with two columns as a mapping from the first column to the second."""
    return {key: value for key, value in connection.execute(query)}  # noqa: C416 - a result is no sequence


def elapsed(column: ColumnElement[float], now: float, seconds: float) -> ColumnElement[bool]:
    """Return the condition that at least so many seconds have passed since a time.

    It is met by a time in the future too, see :func:`in_future`.
    """
    return or_(column <= now - seconds, in_future(column, now))


def in_future(column: ColumnElement[float], now: float) -> ColumnElement[bool]:
    """Return the condition that a time of something that has happened lies in the future.

    Then the clock was set back: to wait until that time could take days.
    """
    return column > now + CLOCK_SLACK


class Repository:
    """Base of the classes that read and write tables of the index.

    Parameters
    ----------
    engine
        Engine from :func:`connect`; its schema is current.
    clock
        Function that returns the time in seconds since the epoch; tests pass another one.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock


@contextlib.contextmanager
def translated_errors() -> Iterator[None]:
    """Translate errors of SQLAlchemy and of the driver.

    Raises
    ------
    StorageFull, StorageFailed
        With the driver's sentence; IndexDamaged when the index cannot be used any more.
    """
    try:
        yield
    except IntegrityError as error:
        raise KeyConflict(f"database: {error.orig}") from error
    except DataError as error:
        raise ValueRefused(f"database: {error.orig}") from error
    except DBAPIError as error:
        sentence = (
            str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        )
        if index_file.is_damage(error.orig):
            raise IndexDamaged(f"database: the index is damaged ({sentence}); {index_file.ADVICE}") from error
        if getattr(error.orig, "sqlstate", None) in _DEADLOCKS:
            raise Deadlock(f"database: {sentence}") from error
        if any(mark in sentence for mark in _NO_ROOM):
            raise StorageFull(f"database: {sentence}; free space on its disk") from error
        advice = "; check its disk, and the free space on it" if _DISK_FAILS in sentence else ""
        raise StorageFailed(f"database: {sentence}{advice}") from error
    except SQLAlchemyError as error:
        raise StorageFailed(f"database: {error}") from error


def migrate(engine: Engine) -> None:
    """Bring the schema to this version; several processes and hosts may call it at once.

    Raises
    ------
    StorageFailed
        When the database cannot be reached, or a newer version made it.
    """
    with translated_errors():
        # To import Alembic takes longer than to ask whether there is anything to do.
        if schema_of(engine) == newest_schema():
            return
        with _one_at_a_time(engine):
            if schema_of(engine) is None:
                _create(engine)
            else:
                _upgrade(engine)


def newest_schema() -> str:
    """Return the revision of the schema that this version of dicom-node uses."""
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def schema_of(engine: Engine) -> str | None:
    """Return the revision of a database's schema; None when it has none yet."""
    if not inspect(engine).has_table(schema_version.name):
        return None
    with engine.connect().execution_options(reading=True) as connection:
        return connection.execute(select(schema_version.c.version_num)).scalar_one_or_none()


def _create(engine: Engine) -> None:
    """Make all tables of an empty database at once: a dozen times faster than one migration after another."""
    with engine.begin() as connection:
        metadata.create_all(connection, checkfirst=False)  # tables of unknown origin are an error
        schema_version.create(connection, checkfirst=True)
        connection.execute(schema_version.insert().values(version_num=newest_schema()))


def _upgrade(engine: Engine) -> None:
    from alembic import command  # noqa: PLC0415 - takes half a second, and most starts do not need it
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["engine"] = engine
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StorageFailed(f"database: {error}; another version of dicom-node made it") from error


@contextlib.contextmanager
def _one_at_a_time(engine: Engine) -> Iterator[None]:
    if engine.dialect.name == "sqlite":
        path = engine.url.database
        if not path or path == ":memory:":
            yield
            return
        with Path(path + ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        return
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        try:
            yield
        finally:
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _ADVISORY_LOCK})


def is_new(address: str) -> bool:
    """Return whether a database holds no index yet; a file of SQLite is not made.

    Raises
    ------
    StorageFailed
        When it does not answer.
    """
    url = parse_address(address)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        return not path.exists() or not path.stat().st_size
    engine = connect(address)
    try:
        with translated_errors():
            return not inspect(engine).has_table(schema_version.name)
    finally:
        engine.dispose()


def connection_error(engine: Engine) -> str:
    """Return the reason why the database does not answer, as one sentence; empty when it answers."""
    try:
        with engine.connect().execution_options(reading=True) as connection:
            connection.execute(text("SELECT 1"))
    except DBAPIError as error:
        return str(error.orig).strip().splitlines()[0]
    except IndexDamaged as error:
        return str(error)
    return ""
