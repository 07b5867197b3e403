"""Health of a node, as metrics."""

from __future__ import annotations

import re

from tests.support.offline_node import OfflineNode
from tests.support.peers import ROOT


def test_every_metric_is_in_the_document(node: OfflineNode) -> None:
    with node.browser() as client:
        metrics = client.get("/metrics").text
    offered = set(re.findall(r"^# TYPE (\w+) ", metrics, flags=re.MULTILINE))
    document = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    table = document[document.index("| metric |") : document.index("What the words in the log mean")]
    assert set(re.findall(r"dicom_node_\w+", table)) == offered
