"""The database behind the index: SQLite by default, PostgreSQL by address."""

from __future__ import annotations

import contextlib
import fcntl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, Select, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, OperationalError, SQLAlchemyError

from dicom_node.errors import ConfigurationError, StorageFailed, StorageFull

MIGRATIONS = Path(__file__).parent / "migrations"
_ADVISORY_LOCK = 0x64696E6F  # "dino": one migration at a time per PostgreSQL database
_NO_ROOM = ("database or disk is full", "No space left", "could not extend file")


def connect(address: str) -> Engine:
    """Return an engine whose commits are durable when they return.

    SQLite runs in WAL mode with ``synchronous = FULL``; a writing transaction takes its lock at once
    (``BEGIN IMMEDIATE``), so that it waits for other writers instead of failing half-way.

    Raises
    ------
    ConfigurationError
        When the address cannot be understood, or its driver is not installed.
    """
    try:
        url = make_url(address)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        if url.get_backend_name() not in {"sqlite", "postgresql"}:
            raise ConfigurationError(
                f"database_url: {url.drivername} is not supported; use sqlite or postgresql"
            )
        engine = create_engine(url, pool_pre_ping=url.get_backend_name() == "postgresql")
    except (ArgumentError, ValueError) as error:
        raise ConfigurationError(f"database_url: {error}") from None
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"database_url: the driver {error.name} is missing; install dicom-node[postgresql]"
        ) from None
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite alone
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=20000", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


class Clashed(StorageFailed):
    """Another transaction entered the same key first; the same call sees it the second time."""


@contextlib.contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Run the body as one durable transaction.

    Raises
    ------
    StorageFull, StorageFailed
        When the database did not take it; nothing of it is kept.
    """
    with translated(), engine.begin() as connection:
        yield connection


@contextlib.contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Run the body over one consistent snapshot that blocks no writer."""
    with translated(), engine.connect().execution_options(reading=True) as connection:
        yield connection


def pairs(connection: Connection, query: Select[Any, Any]) -> dict[Any, Any]:
    """Return the rows of a query of two columns as a mapping from the first to the second."""
    return {key: value for key, value in connection.execute(query)}  # noqa: C416 - a result is no sequence


class Records:
    """Rows of the index and the clock that dates them: what reads and writes some of its tables.

    Parameters
    ----------
    engine
        From :func:`connect`; its schema is current.
    clock
        Returns seconds since the epoch; another one in tests.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into the node's."""
    try:
        yield
    except IntegrityError as error:
        raise Clashed(f"database: {error.orig}") from error
    except DBAPIError as error:
        sentence = (
            str(error.orig).strip().splitlines()[0] if str(error.orig).strip() else type(error.orig).__name__
        )
        kind = StorageFull if any(mark in sentence for mark in _NO_ROOM) else StorageFailed
        raise kind(f"database: {sentence}") from error
    except SQLAlchemyError as error:
        raise StorageFailed(f"database: {error}") from error


def migrate(engine: Engine) -> None:
    """Bring the schema to this version; safe to call from several processes and hosts at once.

    Raises
    ------
    StorageFailed
        When the database cannot be reached or is of a newer version.
    """
    with translated():
        # Importing Alembic takes longer than asking whether there is anything to do.
        if inspect(engine).has_table("alembic_version") and _version(engine) == _newest():
            return
        with _one_at_a_time(engine):
            _upgrade(engine)


def _newest() -> str:
    return max(path.stem for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))


def _version(engine: Engine) -> str | None:
    with engine.connect().execution_options(reading=True) as connection:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()


def _upgrade(engine: Engine) -> None:
    from alembic import command  # noqa: PLC0415 - half a second that a running node need not spend
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["engine"] = engine
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StorageFailed(f"database: {error}; it was made by another version of dicom-node") from error


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


def reachable(engine: Engine) -> str:
    """Return an empty string when the database answers, else one sentence that says why not."""
    try:
        with engine.connect().execution_options(reading=True) as connection:
            connection.execute(text("SELECT 1"))
    except OperationalError as error:
        return str(error.orig).strip().splitlines()[0]
    return ""
