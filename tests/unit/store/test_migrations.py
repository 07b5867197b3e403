from __future__ import annotations

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import text

from dicom_node.store import database
from dicom_node.store.tables import metadata

STUDY = """
    INSERT INTO study (id, study_instance_uid, state, revision, first_received_at, last_received_at, attempts,
    reason, updated_at) VALUES (1, '1.2', 'REPORTED', 1, 1, 1, 1, '', 1)
"""
RESULT = """
    INSERT INTO result (id, study_id, revision, kind, sop_instance_uid, sop_class_uid, digest, size, file,
    created_at) VALUES (1, 1, 1, 'sr', '2.25.1', '1.2.3', '', 1, 'x', 1)
"""
DELIVERY = """
    INSERT INTO delivery (result_id, destination, state, attempts, next_try_at, error, updated_at)
    VALUES (1, 'a', 'SENT', 1, 5, '', 7), (1, 'b', 'ENCODED', 1, 5, '', 7)
"""


def test_the_migrations_make_exactly_the_tables(address: str) -> None:
    engine = database.connect(address)
    database.migrate(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_what_the_first_version_sent_can_be_confirmed(address: str) -> None:
    engine = database.connect(address)
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    config.attributes["engine"] = engine
    command.upgrade(config, "0001")
    with engine.begin() as connection:
        for statement in (STUDY, RESULT, DELIVERY):
            connection.execute(text(statement))
    database.migrate(engine)
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT destination, sent_at, inquiries, confirmed_by FROM delivery ORDER BY destination")
        )
        assert [tuple(row) for row in rows] == [("a", 7.0, 0, ""), ("b", None, 0, "")]
    engine.dispose()
