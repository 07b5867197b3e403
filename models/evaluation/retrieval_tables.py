"""Tables of retrieval metrics, from their JSON alone, for the terminal and for documents."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from models.evaluation.tables import Table, format_number

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


#: Rule and measure -> name in the model card.
_SUMMARY = {
    ("share_one_group", "p_at_5"): "share one group: P@5",
    ("share_one_group", "mrr"): "share one group: MRR",
    ("same_set", "p_at_5"): "same set: P@5",
    ("jaccard", "ndcg_at_5"): "graded: nDCG@5",
}


def summary_table(figures: Mapping[str, Any]) -> Table:
    """Table of the main measures of every comparison."""
    ways = {name.replace("_", " "): way["rules"] for name, way in figures["ways"].items()}
    some = next(iter(ways.values()))
    rows = tuple(
        (
            title,
            *(_ranged(rules[rule][of]) for rules in ways.values()),
            f"{format_number(some[rule][of]['random'])}, {format_number(some[rule][of]['most_common'])}",
        )
        for (rule, of), title in _SUMMARY.items()
    )
    note = """In brackets 95 % intervals over patients. Last column: a random order, and one that puts the
        most common cases first. image and report: the query holds the report that made its labels; it says
        nothing of films that nobody has read."""
    return Table("", ("rule: measure", *ways, "random, most common"), rows, " ".join(note.split()))


def comparison_tables(figures: Mapping[str, Any]) -> Iterator[Table]:
    """Table of all measures, for each comparison."""
    for name, way in figures["ways"].items():
        rows = tuple(
            (
                f"{_RULES[rule]}: {_MEASURES[measure]}",
                _ranged(found),
                format_number(found["with_a_group"]),
                format_number(found["random"]),
                format_number(found["most_common"]),
            )
            for rule, measures in way["rules"].items()
            for measure, found in measures.items()
        )
        title = f"{figures['dataset']} {figures['queries']} to {figures['references']}, {name}"
        header = ("rule: measure", "value (95 %)", "with a group", "random", "most common")
        yield Table(title, header, rows, way["note"])


def _ranged(found: Mapping[str, Any]) -> str:
    return (
        f"{format_number(found['value'])} ({format_number(found['low'])} to {format_number(found['high'])})"
    )
