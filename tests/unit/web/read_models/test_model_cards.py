"""Model cards, and how far a certainty can be believed."""

from __future__ import annotations

import json

import pytest
from fastapi.testclient import TestClient

from tests.support.offline_node import OfflineNode

POINT = {"count": 40, "predicted": 0.1, "observed": 0.125, "low": 0.05, "high": 0.25}
CALIBRATED = {"method": "platt", "slope": 1.2, "intercept": -0.3, "threshold": 0.3, "n_positive": 9}


@pytest.fixture
def used(node: OfflineNode) -> OfflineNode:
    """A node whose worker has left a card."""
    folder = node.data_dir.cards / "tiny-1.0.0"
    folder.mkdir(parents=True)
    (folder / "README.md").write_text("# tiny\n\nSees **little**.\n", encoding="utf-8")
    labels = {
        "nodule": CALIBRATED,
        "mass": CALIBRATED,
        "hernia": {**CALIBRATED, "method": "none", "slope": 1.0, "intercept": 0.0},
    }
    (folder / "calibration.json").write_text(json.dumps({"labels": labels}), encoding="utf-8")
    measured = {"nodule": {"ece": 0.02, "reliability": [POINT]}, "hernia": {"ece": None, "reliability": None}}
    (folder / "metrics.json").write_text(json.dumps({"test": {"labels": measured}}), encoding="utf-8")
    return node


def test_a_card_shows_what_was_observed_where_the_model_was_so_certain(
    used: OfflineNode, client: TestClient
) -> None:
    page = client.get("/models/tiny-1.0.0").text
    assert "Sees <strong>little</strong>." in page
    assert "40 studies with a certainty of about 10 %: 12 % have the finding, 95 % interval 5–25 %" in page
    assert '<circle cx="10.0" cy="87.5"' in page
    assert "9 positives, ECE 0.02" in page
    assert "9 positives, not measured" in page
    assert "hernia" not in page
    told = client.get("/api/v1/models/tiny-1.0.0").json()
    assert told["text"].startswith("# tiny")
    nodule, mass = told["reliabilities"]
    assert (nodule["points"], nodule["threshold"], nodule["error"]) == ([POINT], 0.3, 0.02)
    assert (mass["key"], mass["points"], mass["error"]) == ("mass", [], None)
    assert client.get("/api/v1/models/other-1").status_code == 404
    assert client.get("/api/v1/models/..").status_code == 404
