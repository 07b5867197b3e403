"""Static files of a study's page: small on the wire, and fetched once."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient

from dicom_node import web

STATIC = Path(web.__file__).parent / "static"
#: Of the whole page without the film, compressed.
LIMIT = 3_000_000


def sent(client: TestClient, path: str) -> int:
    """Bytes of a file as they go over the wire."""
    with client.stream("GET", path, headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.status_code == 200
        return sum(map(len, answer.iter_raw()))


def test_all_assets_together_are_below_the_limit_on_the_wire(empty: TestClient) -> None:
    files = [path for path in STATIC.rglob("*") if path.suffix in {".js", ".css"}]
    total = sum(sent(empty, f"/static/{path.relative_to(STATIC)}") for path in files)
    assert 0 < total < LIMIT < sum(path.stat().st_size for path in files)


def test_an_asset_that_has_not_changed_is_not_sent_again(empty: TestClient) -> None:
    first = empty.get("/static/page.css")
    again = empty.get("/static/page.css", headers={"If-None-Match": first.headers["ETag"]})
    assert first.headers["Cache-Control"] == "no-cache"
    assert first.headers["X-Intended-Use"] == "RESEARCH USE ONLY"
    assert again.status_code == 304
    assert again.content == b""


def test_pages_are_neither_compressed_nor_kept(empty: TestClient) -> None:
    page = empty.get("/", headers={"Accept-Encoding": "gzip"})
    assert "Content-Encoding" not in page.headers
    assert page.headers["Cache-Control"] == "no-store"
