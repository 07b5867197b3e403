from __future__ import annotations

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import Engine, inspect, text

from dicom_node.errors import StorageFailed
from dicom_node.store import database
from dicom_node.store.tables import metadata, schema_version

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

OTHER_STUDY = """
    INSERT INTO study (id, study_instance_uid, state, revision, first_received_at, last_received_at, attempts,
    reason, updated_at) VALUES (:key, :uid, 'REPORTED', 1, 5, 5, 1, '', 1)
"""
HEADERS = """
    INSERT INTO catalogue (study_id, received_at, named, person, patient, description, study_date,
    manufacturer, views, search, patient_name, patient_id, accession_number, referring_physician, study_time,
    study_identifier, modalities)
    VALUES (:key, 5, :named, '', '', '', '', '', '', '', '', '', '', '', '', '', '')
"""


def migrated(engine: Engine, revision: str) -> None:
    """Bring a database to a revision of the schema, from the first migration on."""
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    config.attributes["engine"] = engine
    command.upgrade(config, revision)


def described(engine: Engine) -> dict[str, dict[str, list[str]]]:
    """Return what a database says of each of its tables."""
    found = inspect(engine)
    return {
        name: {
            "columns": sorted(str({key: str(value) for key, value in each.items()})
                              for each in found.get_columns(name)),
            "primary key": [str(found.get_pk_constraint(name))],
            "foreign keys": sorted(map(str, found.get_foreign_keys(name))),
            "indexes": sorted(map(str, found.get_indexes(name))),
            "unique": sorted(map(str, found.get_unique_constraints(name))),
            "checks": sorted(map(str, found.get_check_constraints(name))),
        }
        for name in found.get_table_names()
    }  # fmt: skip


def test_the_migrations_make_exactly_the_tables_of_a_new_database(address: str) -> None:
    engine = database.connect(address)
    migrated(engine, "head")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    by_migrations = described(engine)
    with engine.begin() as connection:
        metadata.drop_all(connection)
        schema_version.drop(connection)
    database.migrate(engine)
    assert described(engine) == by_migrations
    assert database.schema_of(engine) == database.newest_schema()
    engine.dispose()


def test_tables_of_unknown_origin_are_an_error_and_stay_as_they_are(address: str) -> None:
    engine = database.connect(address)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE study (id INTEGER)"))
    with pytest.raises(StorageFailed, match="study"):
        database.migrate(engine)
    assert inspect(engine).get_table_names() == ["study"]
    engine.dispose()


def test_what_the_first_version_sent_can_be_confirmed(address: str) -> None:
    engine = database.connect(address)
    migrated(engine, "0001")
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


def test_headers_are_read_anew_for_sex_and_age_where_names_are_shown(address: str) -> None:
    engine = database.connect(address)
    migrated(engine, "0018")
    with engine.begin() as connection:
        for key, named in ((1, True), (2, False)):
            values = {"key": key, "uid": f"1.{key}", "named": named}
            connection.execute(text(OTHER_STUDY), values)
            connection.execute(text(HEADERS), values)
    database.migrate(engine)
    with engine.connect() as connection:
        rows = connection.execute(
            text("SELECT received_at, patient_sex, patient_age FROM catalogue ORDER BY study_id")
        )
        assert [tuple(row) for row in rows] == [(0.0, "", ""), (5.0, "", "")]
    engine.dispose()
