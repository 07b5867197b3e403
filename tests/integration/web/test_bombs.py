"""Small uploads that would be large in memory, at the page as `dicom-node web` serves it."""

from __future__ import annotations

import io
import json
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from PIL import Image
from pydicom.uid import DeflatedExplicitVRLittleEndian

from dicom_node.store.files import data_set_offset
from dicom_node.web.auth.accounts import Accounts, Role
from tests.support.factories import encoded, film
from tests.support.offline_node import OfflineNode
from tests.support.peers import Node
from tests.support.web_server import timed

pytestmark = pytest.mark.peer

MIB = 2**20
MOST = 500 * MIB
"""Most memory of the page and all its children while it refuses something."""


def resident(pid: int) -> int:
    """Resident memory of a process and its descendants, in bytes."""
    total = 0
    try:
        total += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        for task in Path(f"/proc/{pid}/task").iterdir():
            total += sum(resident(int(child)) for child in (task / "children").read_text().split())
    except OSError:
        pass
    return total


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *extra: bytes) -> bytes:
    rows = zlib.compress(bytes(width + 1) * min(height, 200))
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(extra) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg(side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (64, 64)).save(stream, "JPEG")
    data = bytearray(stream.getvalue())
    at = data.find(b"\xff\xc0")
    data[at + 5 : at + 9] = side.to_bytes(2, "big") * 2
    return bytes(data)


def deflated(size: int) -> bytes:
    ds = film(rows=16, columns=16)
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    content = encoded(ds)
    start = data_set_offset(content)
    inner = zlib.decompress(content[start:], -15)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    parts = [packer.compress(inner + b"\xe1\x7f\x10\x10OB\0\0" + size.to_bytes(4, "little"))]
    parts += [packer.compress(bytes(MIB)) for _ in range(size // MIB)]
    return content[:start] + b"".join(parts) + packer.flush()


def with_data_set(data: bytes) -> bytes:
    content = encoded(film(rows=16, columns=16))
    return content[: data_set_offset(content)] + data


def many_meta_elements(count: int) -> bytes:
    content = encoded(film(rows=16, columns=16))
    start = data_set_offset(content)
    extra = b"\x02\x00\x02\x01UI\x00\x00" * count
    length = (start - 144 + len(extra)).to_bytes(4, "little")
    return content[:140] + length + content[144:start] + extra + content[start:]


OPEN = b"\x40\x00\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
CLOSE = b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"

NO_VR = b"\x40\x00\x75\x02\xff\xff\xff\xff"
EMPTY = b"\x09\x00\x10\x10LO\0\0"


def in_item(content: bytes) -> bytes:
    item = b"\xfe\xff\x00\xe0" + len(content).to_bytes(4, "little") + content
    return OPEN[:12] + item + b"\xfe\xff\xdd\xe0\0\0\0\0"


def in_sequences(depth: int) -> bytes:
    """Sequences and items of defined length."""
    levels = [20 * level for level in range(depth)]
    return b"".join(
        OPEN[:8] + (length + 8).to_bytes(4, "little") + OPEN[12:16] + length.to_bytes(4, "little")
        for length in reversed(levels)
    )


BOMBS = {
    "deflated DICOM of 900 MiB": lambda: deflated(900 * MIB),
    "PNG of 60000 x 60000": lambda: png(60000, 60000),
    "PNG of 8000 x 8001": lambda: png(8000, 8001),
    "JPEG of 60000 x 60000": lambda: jpeg(60000),
    "PNG with 400 MiB of text": lambda: png(
        16, 16, chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(400 * MIB), 9))
    ),
    "PNG with a profile of 400 MiB": lambda: png(
        16, 16, chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(400 * MIB), 9))
    ),
    "sequences 3000 deep": lambda: with_data_set(OPEN * 3000 + CLOSE * 3000),
    "sequences of defined length 3000 deep": lambda: with_data_set(in_sequences(3000)),
    "sequences without a VR 3000 deep": lambda: with_data_set((NO_VR + OPEN[12:]) * 3000 + CLOSE * 3000),
    "two million elements that a length of two bytes hides": lambda: with_data_set(
        NO_VR + OPEN[12:] + EMPTY * 2_000_000 + CLOSE
    ),
    "two million elements in an item of defined length": lambda: with_data_set(in_item(EMPTY * 2_000_000)),
    "two million elements": lambda: with_data_set(EMPTY * 2_000_000),
    "two million elements of meta information": lambda: many_meta_elements(2_000_000),
}


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Node, dict[str, str]]]:
    node = OfflineNode(tmp_path_factory.mktemp("bombs") / "data")
    accounts = Accounts(node.index.engine)
    token = accounts.make_token(accounts.add("ada", Role.ADMIN, None), "", 3600)
    with Node(node.settings.data_dir, command="web", web__login="true") as one:
        yield one, {"Authorization": f"Bearer {token}"}
    node.close()


@pytest.mark.parametrize("bomb", BOMBS)
def test_an_upload_takes_no_more_memory_than_it_is_worth(web: tuple[Node, dict[str, str]], bomb: str) -> None:
    node, headers = web
    content = BOMBS[bomb]()
    peak, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.005):
            peak[0] = max(peak[0], resident(node.process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for path in ("trials", "instances"):
            answer = httpx.post(
                f"{node.page}api/v1/{path}", content=content, headers=headers, timeout=60, trust_env=False
            )
            assert answer.status_code == 415, answer.text
            assert answer.json()["error"].endswith(".")
            assert "recursion" not in answer.text
    finally:
        ended.set()
        watcher.join()
    assert 0 < peak[0] < MOST


def test_ten_uploads_at_once_leave_the_page_alive(web: tuple[Node, dict[str, str]]) -> None:
    node, headers = web
    content = png(7990, 8000)
    statuses: list[int] = []

    def upload() -> None:
        answer = httpx.post(
            f"{node.page}api/v1/trials", content=content, headers=headers, timeout=120, trust_env=False
        )
        statuses.append(answer.status_code)
        if answer.status_code == 503:
            assert answer.headers["Retry-After"]

    uploads = [threading.Thread(target=upload) for _ in range(10)]
    for each in uploads:
        each.start()
    answers = []
    while any(each.is_alive() for each in uploads):
        answers.append(timed(f"{node.page}healthz"))
    for each in uploads:
        each.join()
    assert len(statuses) == 10
    assert set(statuses) <= {201, 415, 503}
    assert {status for status, _ in answers} == {200}
    assert sorted(seconds for _, seconds in answers)[len(answers) // 2] < 0.2


@pytest.mark.parametrize("body", [b"[" * 60_000, b'{"q":' * 10_000, json.dumps({"q": "a" * 60_000}).encode()])
def test_nested_json_is_refused(web: tuple[Node, dict[str, str]], body: bytes) -> None:
    node, headers = web
    kind = {"Content-Type": "application/json"}
    answer = httpx.post(
        f"{node.page}api/v1/studies/search", content=body, headers=headers | kind, trust_env=False
    )
    assert answer.status_code == 400
    assert "\n" not in answer.json()["error"]
