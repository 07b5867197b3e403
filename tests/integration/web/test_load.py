"""Readers who ask for more than can be decoded: the page as `dicom-node web` serves it answers the others."""

from __future__ import annotations

import threading
from pathlib import Path

import httpx
import pytest

from dicom_node.store.states import StudyState
from dicom_node.web.auth.accounts import Accounts, Role
from tests.support.factories import film
from tests.support.offline_node import OfflineNode
from tests.support.peers import Node
from tests.support.web_server import timed

pytestmark = pytest.mark.peer

FRAMES = 12
READERS = 41
"""More than there are threads for requests."""


def test_health_answers_beside_readers_of_many_frames(tmp_path: Path) -> None:
    node = OfflineNode(tmp_path / "data")
    ds = film(rows=1500, columns=1500, NumberOfFrames=FRAMES)
    ds.PixelData = ds.PixelData * FRAMES
    node.finish(1, StudyState.SKIPPED, "more than one frame", films=[ds], results=0)
    accounts = Accounts(node.index.engine)
    token = accounts.make_token(accounts.add("rita", Role.READER, None), "", 3600)
    headers = {"Authorization": f"Bearer {token}", "Accept": 'multipart/related; type="image/png"'}
    settings = {"web__login": "true", "web__patient": "name", "web__answer_seconds": "10"}
    numbers = ",".join(map(str, range(1, FRAMES + 1)))
    path = f"studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    statuses: list[int] = []

    with Node(node.settings.data_dir, command="web", **settings) as web:

        def read() -> None:
            address = f"{web.page}dicom-web/{path}/frames/{numbers}/rendered?viewport=2000,2000"
            try:
                answer = httpx.get(address, headers=headers, timeout=60, trust_env=False)
            except httpx.RemoteProtocolError:  # it has begun, and its time was over
                statuses.append(200)
                return
            statuses.append(answer.status_code)
            assert answer.status_code == 200 or answer.headers["Retry-After"]

        readers = [threading.Thread(target=read) for _ in range(READERS)]
        for each in readers:
            each.start()
        taken = []
        while any(each.is_alive() for each in readers):
            for name in ("healthz", "readyz", "login"):
                status, seconds = timed(f"{web.page}{name}")
                assert status == 200
                taken.append(seconds)
        for each in readers:
            each.join()
    node.close()
    assert len(statuses) == READERS
    assert set(statuses) <= {200, 503}
    assert sorted(taken)[len(taken) // 2] < 0.2
