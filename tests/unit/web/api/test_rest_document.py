"""Document of the REST API: every route of ``/api/v1``, with what its own description says."""

from __future__ import annotations

import re
from pathlib import Path

from dicom_node.config.settings import Settings
from dicom_node.web.app import create_app
from tests.support.peers import ROOT


def test_every_route_is_documented(tmp_path: Path) -> None:
    """A row of docs/rest-api.md: method and address, and the first line of the route's description."""
    paths = create_app(Settings(data_dir=tmp_path)).openapi()["paths"]
    routes = {
        f"{method.upper()} {path}": described["description"].splitlines()[0].replace("``", "`")
        for path, methods in paths.items()
        for method, described in methods.items()
    }
    document = (ROOT / "docs" / "rest-api.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([A-Z]+ /\S+)` \| (.*) \|$", document, re.MULTILINE))
    assert len(routes) > 40
    missing = [f"| `{route}` | {says} |" for route, says in routes.items() if rows.get(route) != says]
    assert not missing
    assert not set(rows) - set(routes)
