"""Health of the node, and its metrics for Prometheus."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from dicom_node.store.states import StudyState
from dicom_node.web.read_models.health import prometheus_text, read_health
from tests.support.offline_node import OfflineNode
from tests.support.peers import ROOT


def test_every_metric_is_documented_with_its_labels(tmp_path: Path) -> None:
    """A row of docs/operations.md: name, labels, and what the metric says of itself."""
    node = OfflineNode(tmp_path / "data")
    node.finish(1, StudyState.REPORTED)
    text = prometheus_text(read_health(node.index.engine, node.settings, node.data_dir)).decode()
    node.close()
    expected = {}
    for family in text_string_to_metric_families(text):
        labels = sorted({label for sample in family.samples for label in sample.labels})
        assert labels or len(family.samples) == 1
        named = (
            "a version each" if family.name.endswith("_info") else ", ".join(f"`{each}`" for each in labels)
        )
        expected[family.name] = (named, family.documentation)
    document = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(dicom_node_\w+)` \| (?:(.*?) )?\| (.*) \|$", document, re.MULTILINE)
    assert {name: (labels, says) for name, labels, says in rows} == expected
