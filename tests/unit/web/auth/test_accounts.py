"""Passwords as a node keeps them; the tests of the page hash theirs with less work."""

from __future__ import annotations

from pathlib import Path

import argon2
from sqlalchemy import select

from dicom_node.store import database
from dicom_node.store.tables import account
from tests.support.login import PASSWORD
from tests.support.peers import cli


def test_a_password_is_kept_as_argon2id_with_the_work_of_rfc_9106(tmp_path: Path) -> None:
    words = ("users", "add", "rita", "--stdin")
    done = cli(*words, environment={"DICOM_NODE_DATA_DIR": str(tmp_path / "node")}, text=PASSWORD + "\n")
    assert done.returncode == 0, done.stderr
    engine = database.connect(f"sqlite:///{tmp_path / 'node' / 'index.sqlite'}")
    with engine.connect() as connection:
        kept = connection.execute(select(account.c.password)).scalar_one()
    engine.dispose()
    found = argon2.extract_parameters(kept)
    assert found == argon2.profiles.RFC_9106_LOW_MEMORY
    assert argon2.PasswordHasher().verify(kept, PASSWORD)
