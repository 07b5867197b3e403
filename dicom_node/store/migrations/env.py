"""Environment script of Alembic; ``database.migrate`` passes the engine."""

from alembic import context
from sqlalchemy import Connection, Engine

from dicom_node.store.tables import metadata


def _foreign_keys(connection: Connection, switch: str) -> None:
    """Switch the checks of foreign keys: SQLite changes a constraint by making the whole table again."""
    if connection.dialect.name == "sqlite":  # it ignores the switch within a transaction
        connection.connection.driver_connection.execute(f"PRAGMA foreign_keys={switch}")  # type: ignore[union-attr]


def _run(engine: Engine) -> None:
    with engine.connect() as connection:
        _foreign_keys(connection, "OFF")
        try:
            with connection.begin():
                context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
                with context.begin_transaction():
                    context.run_migrations()
        finally:
            _foreign_keys(connection, "ON")


_run(context.config.attributes["engine"])
