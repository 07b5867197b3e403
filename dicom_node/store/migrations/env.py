"""Environment script of Alembic; ``database.migrate`` passes the engine."""

from alembic import context

from dicom_node.store.tables import metadata

with context.config.attributes["engine"].begin() as connection:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()
