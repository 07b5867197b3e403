"""``purge``, ``pin`` and ``unpin``."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from dicom_node.store import database
from dicom_node.store.states import StudyState
from dicom_node.store.tables import instance
from tests.support.factories import uid
from tests.support.offline_node import OfflineNode
from tests.support.peers import cli

DAY = 86_400


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    """A node with a film that came 20 days ago, was reported and is kept here."""
    one = OfflineNode(tmp_path)
    one.finish(1, StudyState.REPORTED, destinations=())
    with database.writing(one.index.engine) as connection:
        connection.execute(update(instance).values(received_at=time.time() - 20 * DAY))
    yield one
    one.close()


def environment(node: OfflineNode, **days: str) -> dict[str, str]:
    rules = {f"DICOM_NODE_RETENTION__{name.upper()}": value for name, value in days.items()}
    return {"DICOM_NODE_DATA_DIR": str(node.settings.data_dir), **rules}


def test_a_dry_run_says_what_would_go_and_a_run_lets_it_go(node: OfflineNode) -> None:
    rules = environment(node, unconfirmed_days="10")
    dry = json.loads(cli("purge", "--dry-run", "--json", environment=rules).stdout)
    (entry,) = dry["rules"]
    assert (dry["dry_run"], entry["setting"], entry["what"], entry["count"]) == (
        True,
        "unconfirmed_days",
        "films",
        1,
    )
    assert entry["size"] > 1000
    assert entry["oldest"] == entry["newest"]
    assert len(list(node.data_dir.spool.names())) == 1
    done = cli("purge", environment=rules)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[:3] == ["rule", "what", "count"]
    assert list(node.data_dir.spool.names()) == []
    assert "nothing is old enough" in cli("purge", environment=rules).stdout
    audit = cli("status", "--audit", environment=rules)
    assert audit.returncode == 0
    assert "1 purged" in audit.stdout.replace("\n", " ")
    assert "disk full: " in audit.stdout


def test_without_rules_everything_is_kept(node: OfflineNode) -> None:
    done = cli("purge", environment=environment(node))
    assert "everything is kept" in done.stdout
    assert len(list(node.data_dir.spool.names())) == 1


def test_a_pinned_study_is_kept_and_an_unknown_one_is_named(node: OfflineNode) -> None:
    rules = environment(node, unconfirmed_days="10")
    assert cli("pin", uid("study", 1), environment=rules).stdout == "1 study pinned\n"
    cli("purge", environment=rules)
    assert len(list(node.data_dir.spool.names())) == 1
    unknown = cli("unpin", uid("study", 1), "1.2.3", environment=rules)
    assert (unknown.returncode, unknown.stdout) == (1, "1 study unpinned\n")
    assert "1.2.3" in unknown.stderr
    cli("purge", environment=rules)
    assert list(node.data_dir.spool.names()) == []


def test_free_space_that_is_wanted_needs_a_limit(node: OfflineNode) -> None:
    done = cli("purge", environment=environment(node, free_bytes_until="5"))
    assert done.returncode == 2
    assert "free_bytes_until needs free_bytes_below" in done.stderr
