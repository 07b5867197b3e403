"""Text statistics of the reports of a split: lengths and frequent words, by label; no sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.evaluation.metrics_summary import measurable_labels
from models.evaluation.predictions import LabelledPredictions

#: Number of words listed for each group of reports.
LISTED = 20

#: Number of reports from which a word is listed: a rare word may identify a patient.
FEWEST_REPORTS = 2

# At least three letters; XXXX stands for text removed for privacy and is no word.
_WORD = re.compile(r"(?!x+\b)[a-z][a-z'-]*[a-z]{2}\b")

_STOP_WORDS = frozenset(
    """
    about above after again all also and any are because been before being below between both but can could
    did does doing down during each few for from further had has have having here how into its itself may
    might more most not nor now off once only other otherwise our out over own per same she should since
    some such than that the their them then there these they this those through too under until very was
    were what when where which while who whom why will with within without would you your
    """.split()  # noqa: SIM905 - a text reads better
)


def content_words(report: str) -> list[str]:
    """Words of a report in lower case, without stop words and removed text."""
    return [word for word in _WORD.findall(report.casefold()) if word not in _STOP_WORDS]


def summarize_report_text(sample: LabelledPredictions) -> dict[str, Any] | None:
    """Count the words of the reports; None where the data set has no reports.

    Returns
    -------
    dict
        ``all``, and ``labels`` by key for the labels with enough positives: ``n_reports``; ``words_mean`` and
        ``words_median``, of all words of a report; ``terms``: the :data:`LISTED` most frequent words with
        their counts, most frequent first.
    """
    reports = [study.report for study in sample.studies]
    if not any(reports):
        return None
    positive = {
        column.key: [reports[row] for row in column.rows[column.truth]]
        for column in sample.columns
        if column.key in measurable_labels(sample.columns)
    }
    return {
        "all": _count(reports),
        "labels": {key: _count(group) for key, group in positive.items() if any(group)},
    }


def _count(reports: Sequence[str]) -> dict[str, Any]:
    there = [report for report in reports if report]
    lengths = [len(report.split()) for report in there]
    told = [content_words(report) for report in there]
    total = Counter(word for report in told for word in report)
    spread = Counter(word for report in told for word in set(report))
    frequent = sorted(
        (word for word in total if spread[word] >= FEWEST_REPORTS), key=lambda word: (-total[word], word)
    )
    return {
        "n_reports": len(there),
        "words_mean": float(np.mean(lengths)),
        "words_median": float(np.median(lengths)),
        "terms": {word: total[word] for word in frequent[:LISTED]},
    }
