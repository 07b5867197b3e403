"""Passwords as a node keeps them; the tests of the page hash theirs with less work."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import argon2
import pytest
from sqlalchemy import Engine, select

from dicom_node.errors import NodeError, StorageFailed
from dicom_node.store import database
from dicom_node.store.index import Index
from dicom_node.store.tables import access, account
from dicom_node.web.auth.access_log import AccessLog
from dicom_node.web.auth.accounts import Accounts, Role
from tests.support.clock import Clock
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


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    index = Index.open(f"sqlite:///{tmp_path / 'index.sqlite'}")
    yield index.engine
    index.close()


def test_a_token_that_has_expired_is_made_again_under_its_name(engine: Engine) -> None:
    clock = Clock()
    accounts = Accounts(engine, clock)
    ada = accounts.add("ada", Role.READER, None)
    accounts.make_token(ada, "nightly", 60)
    with pytest.raises(NodeError, match="has a token 'nightly' already"):
        accounts.make_token(ada, "nightly", 60)
    clock.now += 61
    accounts.make_token(ada, "nightly", 60)
    assert [each.name for each in accounts.tokens()] == ["nightly"]


def test_an_account_of_an_identity_provider_gets_no_password(engine: Engine) -> None:
    accounts = Accounts(engine)
    with engine.begin() as connection:
        row = {"name": "eve", "role": "reader", "password": "oidc:abc", "created_at": 0.0}
        connection.execute(account.insert().values(**row))
    with pytest.raises(NodeError, match="logs in at the identity provider"):
        accounts.change("eve", password=PASSWORD)
    accounts.change("eve", role=Role.ADMIN)
    with engine.connect() as connection:
        assert connection.execute(select(account.c.password)).scalar_one() == "oidc:abc"


def test_a_view_that_was_not_written_is_written_when_it_is_tried_again(engine: Engine) -> None:
    clock = Clock()
    log = AccessLog(engine, clock)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "writing", failing)
        with pytest.raises(StorageFailed):
            log.record("ada", "::1", "study", 1)
    clock.now += 5
    log.record("ada", "::1", "study", 1)
    log.record("ada", "::1", "study", 1)
    clock.now -= 3600  # the clock is set back
    log.record("ada", "::1", "study", 1)
    with engine.connect() as connection:
        times = connection.execute(select(access.c.at).order_by(access.c.id)).scalars().all()
    assert times == [clock.now + 3600, clock.now]


def failing(_: Engine) -> NoReturn:
    raise StorageFailed("the database does not answer")
