"""The page as `dicom-node web` serves it, and as a browser shows it."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from dicom_node.dimse.transport import bind
from dicom_node.runtime import logs
from dicom_node.store.states import StudyState
from tests.support.offline_node import OfflineNode
from tests.support.peers import Node, cli, until

pytestmark = pytest.mark.peer


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OfflineNode]:
    one = OfflineNode(tmp_path / "data")
    yield one
    one.close()


def test_the_page_is_served_over_a_real_index_and_ends_in_order(node: OfflineNode) -> None:
    skipped = node.finish(1, StudyState.SKIPPED, "Only a lateral view was received.", results=0)
    with (
        Node(node.settings.data_dir, command="web") as web,
        httpx.Client(base_url=web.page, trust_env=False) as browser,
    ):
        page = browser.get("/")
        assert page.status_code == 200
        assert logs.uid_hash(skipped) in page.text
        assert browser.get("/readyz").text == "ready\n"
        for address in re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text):
            assert browser.get(address).status_code == 200
        audit = until(lambda: browser.get("/api/v1/status").json()["audit"], 20, "an audit")
        assert audit["received"] == 1
        assert audit["conserved"]
        # A study that comes later is there at the next look; the connection is still open at the end.
        later = node.receive(2)
        assert logs.uid_hash(later) in browser.get("/").text
        assert web.stop() == 0
    assert "Traceback" not in web.output


def test_it_says_that_it_is_ready_when_it_answers(node: OfflineNode, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(60)
        listening = bind("127.0.0.1", 0)
        port = listening.getsockname()[1]
        environment = {
            **os.environ,
            "DICOM_NODE_DATA_DIR": str(node.settings.data_dir),
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
        }
        body = subprocess.Popen(
            ["dicom-node", "child", "web", "--listen-fd", str(listening.fileno())],
            executable=shutil.which("dicom-node", path=str(Path(sys.executable).parent)),
            env=environment,
            pass_fds=(listening.fileno(),),
        )
        listening.close()
        try:
            assert systemd.recv(64) == b"READY=1"
            assert httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).text == "alive\n"
        finally:
            body.terminate()
            assert body.wait(30) == 0


def test_a_taken_port_is_one_sentence(node: OfflineNode) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        answer = cli(
            "web",
            environment={
                "DICOM_NODE_DATA_DIR": str(node.settings.data_dir),
                "DICOM_NODE_WEB__PORT": str(port),
            },
        )
    assert answer.returncode == 2
    assert answer.stdout == ""
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: ")
    assert str(port) in line
    assert "in use" in line
