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


def test_headers_are_read_anew_for_sex_and_age_where_names_are_shown(address: str) -> None:
    engine = database.connect(address)
    config = Config()
    config.set_main_option("script_location", str(database.MIGRATIONS))
    config.attributes["engine"] = engine
    command.upgrade(config, "0018")
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
