"""Copy of an index: one consistent state of it as an SQLite file, and back into a database."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import Connection, Engine, func, insert, select, text, union, update

from dicom_node.errors import ConfigurationError, StorageFailed
from dicom_node.store import database
from dicom_node.store.tables import delivery, instance, metadata, reading, result, session, study

_BATCH = 1000


def take_snapshot(engine: Engine, target: Path) -> None:
    """Write one consistent state of a running node's index to a new SQLite file.

    No writer waits for it. What was committed before the call is in it.

    Raises
    ------
    ConfigurationError
        When another version of dicom-node made the schema.
    StorageFull, StorageFailed
        When the index cannot be read or the file cannot be written.
    """
    with database.translated_errors():
        schema = database.schema_of(engine)
    if schema != database.newest_schema():
        raise ConfigurationError(
            f"the index has schema {schema}, and this version of dicom-node {database.newest_schema()}; "
            "make the backup with the version that runs the node"
        )
    target.touch(0o600)
    with database.translated_errors():
        if engine.dialect.name == "sqlite":
            _copy_sqlite(engine, target)
        else:
            with opened(target) as copy:
                _copy_rows(engine, copy)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Engine]:
    """Open a copy of an index, with the schema of this version; close it as one file.

    Raises
    ------
    StorageFull, StorageFailed
        When it is damaged, cannot be written, or a newer version made it.
    """
    engine = database.connect(f"sqlite:///{path.resolve()}")
    try:
        database.migrate(engine)
        yield engine
    finally:
        engine.dispose()
        _without_log(path)
        Path(f"{path}.lock").unlink(missing_ok=True)


def named_files(copy: Engine) -> Iterator[str]:
    """Yield the path of each file that an index names, relative to the data directory."""
    names = union(
        select("spool/" + instance.c.file).where(instance.c.file != ""),
        select("results/" + result.c.file).where(result.c.file != ""),
        select("maps/" + reading.c.maps).where(reading.c.maps != ""),
    )
    with database.reading(copy) as connection:
        yield from connection.execute(names).scalars()


def release_all(copy: Engine) -> None:
    """End what only holds on the host that made the copy: leases, places in its queue, logins."""
    with database.writing(copy) as connection:
        connection.execute(update(study).values(owner=None, lease_until=None, queued_at=None))
        connection.execute(update(delivery).values(owner=None, lease_until=None))
        connection.execute(session.delete().where(session.c.kind == "login"))


def check_empty(engine: Engine) -> None:
    """Check that a database holds nothing of a node.

    Raises
    ------
    ConfigurationError
        When it does.
    StorageFailed
        When it cannot be reached.
    """
    with database.translated_errors():
        if database.schema_of(engine) is None:
            return
    database.migrate(engine)
    with database.reading(engine) as connection:
        for table in metadata.sorted_tables:
            if connection.execute(select(table).limit(1)).first() is not None:
                raise ConfigurationError(
                    "database_url: the database already holds the index of a node; name an empty one"
                )


def load(copy: Engine, engine: Engine) -> None:
    """Copy all rows into an empty database, in one transaction.

    Raises
    ------
    StorageFull, StorageFailed
        When a row is not taken; the database stays empty.
    """
    database.migrate(engine)
    _copy_rows(copy, engine)


def _copy_sqlite(engine: Engine, target: Path) -> None:
    raw = engine.raw_connection()
    try:
        with contextlib.closing(sqlite3.connect(target)) as copy:
            source = raw.driver_connection
            assert isinstance(source, sqlite3.Connection)
            source.backup(copy)
            found = copy.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.Error as error:
        raise StorageFailed(
            f"index: {error}; make it anew from the stored files, or restore a backup"
        ) from error
    finally:
        raw.close()
    if found != "ok":
        raise StorageFailed(f"index: it is damaged ({' '.join(found.split())}); restore an earlier backup")
    _without_log(target)


def _copy_rows(source: Engine, target: Engine) -> None:
    with database.reading(source) as reader, database.writing(target) as writer:
        for table in metadata.sorted_tables:
            rows = reader.execution_options(yield_per=_BATCH).execute(select(table))
            for batch in rows.mappings().partitions():
                writer.execute(insert(table), [dict(row) for row in batch])
        if target.dialect.name == "postgresql":
            _set_sequences(writer)


def _set_sequences(writer: Connection) -> None:
    """Let the next rows get numbers after those of the rows that were copied."""
    for table in metadata.sorted_tables:
        if "id" in table.c and table.c.id.primary_key:
            highest = writer.execute(select(func.max(table.c.id))).scalar()
            writer.execute(
                text("SELECT setval(pg_get_serial_sequence(:name, 'id'), :number, :used)"),
                {"name": table.name, "number": highest or 1, "used": highest is not None},
            )


def _without_log(path: Path) -> None:
    """Turn an SQLite file with a write-ahead log into one that is whole by itself."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as copy:
            copy.execute("PRAGMA journal_mode=DELETE")
    except sqlite3.Error:  # a damaged file: whoever opened it has said so
        pass
