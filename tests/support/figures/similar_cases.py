"""Passages about the search for similar cases: docs/retrieval.md."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.figures.passage import Figure, Passage
from tests.support.figures.sources import bundle, decimals, whole, word

_DOCUMENT = "docs/retrieval.md"
_RULES = {"share_one_group": "share one group", "same_set": "same set", "jaccard": "graded"}
_MEASURES = {
    "p_at_5": "P@5",
    "p_at_10": "P@10",
    "map": "mAP",
    "mrr": "MRR",
    "ndcg_at_5": "nDCG@5",
    "mean_at_5": "mean@5",
    "mean_at_10": "mean@10",
}


def passages() -> Iterator[Passage]:
    """Passages whose numbers ``cases evaluate`` wrote into the metrics of the bundle."""
    metrics = bundle("openi-groups")
    found = metrics.values["retrieval"]["test"]
    for way, described in found["ways"].items():
        for rule, measures in described["rules"].items():
            for measure in measures:
                yield Passage(
                    _DOCUMENT,
                    f"| {_RULES[rule]}: {_MEASURES[measure]} {'| {} ({} to {}), {} | {}, {} ' * 2}|",
                    tuple(
                        figure
                        for references in ("test", "train")
                        for figure in _cells(references, way, rule, measure)
                    ),
                    after=f"(`{way}`)\n\n",
                )
    patients = metrics.figure("retrieval", "test", "n_queries", form=whole)
    known = metrics.figure("retrieval", "test", "n_queries_with_a_group", form=whole)
    without = Figure(
        str(found["n_queries"] - found["n_queries_with_a_group"]), f"{known.source}, taken from n_queries"
    )
    yield Passage(_DOCUMENT, "(`test`, {} patients)", (patients,))
    yield Passage(
        _DOCUMENT,
        "how the {} of {} queries score that have a group, for the other {} have no relevant case",
        (known, patients, without),
    )
    yield Passage(
        _DOCUMENT,
        "**shares one** of the {} disease groups with the query",
        (metrics.count("test", "labels"),),
    )
    yield Passage(
        _DOCUMENT,
        "**Same set: below what putting the normal cases first reaches** ({}).",
        (
            metrics.figure(
                "retrieval", "train", "ways", "image_only", "rules", "same_set", "p_at_5", "most_common",
                form=decimals(2),
            ),
        ),
    )  # fmt: skip
    opinion = ("retrieval", "train", "second_opinion")
    yield Passage(
        _DOCUMENT,
        """Of the {} studies {} are flagged (against `train`); what the model reports of those overlaps with
        the report's labels by {} (Jaccard), of the others by {}.""",
        (
            metrics.figure(*opinion, "n", form=whole),
            metrics.figure(*opinion, "n_flagged", form=whole),
            metrics.figure(*opinion, "right_where_flagged", form=decimals(2)),
            metrics.figure(*opinion, "right_elsewhere", form=decimals(2)),
        ),
    )
    milliseconds = ("retrieval", "train", "milliseconds")
    yield Passage(
        _DOCUMENT,
        """a query for {} of {} cases of 278 numbers took {} ms with the exact engine, and each of 64 at once
        {} ms.""",
        (
            metrics.figure(*opinion, "k", form=word),
            metrics.figure("retrieval", "train", "n_references", form=whole),
            metrics.figure(*milliseconds, "one"),
            metrics.figure(*milliseconds, "each_of_64"),
        ),
    )


def _cells(references: str, way: str, rule: str, measure: str) -> tuple[Figure, ...]:
    metrics = bundle("openi-groups")
    place = ("retrieval", references, "ways", way, "rules", rule, measure)
    return (
        *metrics.inner(*place, of="value"),
        metrics.figure(*place, "with_a_group"),
        metrics.figure(*place, "random", form=decimals(2)),
        metrics.figure(*place, "most_common", form=decimals(2)),
    )
