"""A database whose server goes away under a running node: nothing is taken, nothing lost, and it goes on."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.support import factories
from tests.support.kills import destination_of
from tests.support.peers import Node, PostgreSQL, StoreSCP, until
from tests.support.tiny_bundle import write_served_bundle


def answer(node: Node, path: str) -> int:
    """HTTP status of a page, 0 when there is no answer."""
    try:
        with urllib.request.urlopen(f"{node.page}{path}", timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.mark.peer
@pytest.mark.timeout(300)
def test_a_node_waits_for_its_database_and_goes_on(tmp_path: Path) -> None:
    bundle = write_served_bundle(tmp_path / "bundle")
    for number in (1, 2):
        factories.write(factories.film(study=number, series=number), tmp_path / f"{number}.dcm")
    server = PostgreSQL(tmp_path)

    def send(number: int) -> int:
        film = str(tmp_path / f"{number}.dcm")
        return node.cli("send", film, "--to", f"DICOM_NODE@127.0.0.1:{node.port}").returncode

    try:
        server.start()
        settings = {"worker__bundle": bundle, "database_url": server.address}
        with (
            StoreSCP(tmp_path / "pacs") as pacs,
            Node(tmp_path / "node", [destination_of(pacs)], **settings) as node,
        ):
            assert send(1) == 0
            node.settled(1)  # what is under way would be taken up again after its lease, two minutes later
            server.stop()
            assert send(2) != 0
            assert answer(node, "readyz") == 503
            assert node.cli("status").stderr.startswith("error: database: connection failed")
            server.start()
            until(lambda: answer(node, "readyz") == 200, 60, "the page ready")
            until(lambda: send(2) == 0, 60, "the second film taken")
            status = node.settled(2, seconds=90)
            assert status["studies"]["REPORTED"] == 2
            assert "Traceback" not in node.output
    finally:
        server.stop()
