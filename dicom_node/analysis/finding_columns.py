"""Columns of a finding in tables: what `analyze` and `export` write of it."""

from __future__ import annotations

from typing import Final

from dicom_node.analysis.table_files import TableColumn

FINDING: Final = TableColumn("finding", "text", "key of the finding")
"""Column that names a finding."""

FINDING_COLUMNS: Final = (
    FINDING,
    TableColumn("name", "text", "its name"),
    TableColumn("score", "number", "output of the network for it, 0 to 1; no probability"),
    TableColumn(
        "certainty", "number", "calibrated probability, 0 to 1; empty where the label is not calibrated"
    ),
    TableColumn("low", "number", "lower end of the 95 % interval of the certainty"),
    TableColumn("high", "number", "upper end of it"),
    TableColumn(
        "threshold",
        "number",
        "value from which it counts as present: of the certainty, or of the score without one",
    ),
    TableColumn("presence", "text", "present, absent or undetermined"),
    TableColumn("above", "truth", "whether certainty, or score without one, reaches the threshold"),
)
"""Columns of a finding and of its scores, in their order."""
