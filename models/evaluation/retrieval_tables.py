"""The tables of retrieval figures, from their JSON alone: for the terminal and for documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from models.evaluation.tables import Table, number

_RULES = {
    "share_one_group": "share one group",
    "same_set": "same set of groups",
    "jaccard": "graded (Jaccard)",
}
_MEASURES = {
    "p_at_5": "P@5",
    "p_at_10": "P@10",
    "map": "mAP",
    "mrr": "MRR",
    "ndcg_at_5": "nDCG@5",
    "mean_at_5": "mean@5",
    "mean_at_10": "mean@10",
}


def tables(figures: Mapping[str, Any]) -> Iterator[Table]:
    """One table for each way of asking."""
    for name, way in figures["ways"].items():
        rows = tuple(
            (
                f"{_RULES[rule]}: {_MEASURES[measure]}",
                f"{number(found['value'])} ({number(found['low'])} to {number(found['high'])})",
                number(found["with_a_group"]),
                number(found["random"]),
                number(found["most_common"]),
            )
            for rule, measures in way["rules"].items()
            for measure, found in measures.items()
        )
        title = f"{figures['dataset']} {figures['queries']} to {figures['references']}, {name}"
        header = ("rule: measure", "value (95 %)", "with a group", "random", "most common")
        yield Table(title, header, rows, way["note"])
