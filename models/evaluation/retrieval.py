"""Evaluation of the retrieval of similar cases, by the disease groups of query and reference.

A case is relevant by one of three rules over the disease groups, ``groups`` of the vocabulary:

- ``share_one_group``: both have a group in common, ``normal`` included; the rule of published results.
- ``same_set``: both have exactly the same groups.
- ``jaccard``: graded, the Jaccard index of the two sets of groups.

A query without any group has no relevant case and scores 0; the score without these queries is given, too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.bundles.predictor import Predictor
from models.bundles.study_predictions import predict_studies
from models.data.dataset import FilmDataset, LabelledStudy, targets
from models.evaluation import ranking
from models.evaluation.bootstrap import SEED, percentile_interval, resampling_weights
from models.evaluation.metrics import BoolArray, Weights
from models.evaluation.metrics_summary import nan_to_none
from models.labels.vocabulary import load_vocabulary
from models.processing.types import FloatArray, Prediction
from models.retrieval.build import Progress, build_index, embed_and_label_reports
from models.retrieval.embedding import (
    embed_studies,
    film_queries,
    image_embeddings,
    label_probabilities,
    study_embeddings,
)
from models.retrieval.index import FILMS, CaseIndex, Side
from models.retrieval.search import Searcher, neighbour_agreement

QueryContent = Literal["films", "report", "films and report"]

GROUP_LIST = "groups"
NEIGHBOURS = 5


@dataclass(frozen=True, slots=True)
class Comparison:
    """Comparison of one part of a query with one part of a reference, and a note on its metrics."""

    query: QueryContent
    reference: Side
    note: str

    @property
    def sharpened(self) -> bool:
        """True where the labels of both sides are only expected."""
        return (self.query, self.reference) == ("films", FILMS)


COMPARISONS: Mapping[str, Comparison] = {
    "image_only": Comparison(
        "films", "known", "The query is its films; of a reference, films and labels are known."
    ),
    "image_to_image": Comparison(
        "films", "films", "Films on both sides; nothing else is known of a reference."
    ),
    "image_to_report": Comparison("films", "reports", "Films find reports; labels are read off those."),
    "text_to_image": Comparison(
        "report", "films", "Reports find films; the query is the very report that made the query's labels."
    ),
    "image_and_report": Comparison(
        "films and report",
        "known",
        """The published protocol: the query contains the very report that made its labels. It says nothing of
        films that nobody has read.""",
    ),
}

Measure = Callable[[ranking.Gains], ranking.PerQuery]

_BINARY: Mapping[str, Measure] = {
    "p_at_5": lambda gains: ranking.precision(gains, 5),
    "p_at_10": lambda gains: ranking.precision(gains, 10),
    "map": ranking.average_precision,
    "mrr": ranking.reciprocal_rank,
    "ndcg_at_5": lambda gains: ranking.discounted_gain(gains, 5),
}
_GRADED: Mapping[str, Measure] = {
    "mean_at_5": lambda gains: ranking.precision(gains, 5),
    "mean_at_10": lambda gains: ranking.precision(gains, 10),
    "ndcg_at_5": lambda gains: ranking.discounted_gain(gains, 5),
}
RULES: Mapping[str, Mapping[str, Measure]] = {
    "share_one_group": _BINARY,
    "same_set": _BINARY,
    "jaccard": _GRADED,
}

#: Number of timed queries, and queries in a batch.
_TIMED = 200
_BATCH = 64


@dataclass(frozen=True, slots=True)
class DatasetSplit:
    """Split of a data set.

    Attributes
    ----------
    dataset
        Data set.
    split
        Name of the split.
    """

    dataset: FilmDataset
    split: str

    @property
    def studies(self) -> tuple[LabelledStudy, ...]:
        """Studies of the split."""
        return self.dataset.split(self.split)


def evaluate_retrieval(
    predictor: Predictor,
    queries: DatasetSplit,
    references: DatasetSplit | None = None,
    *,
    progress: Progress = lambda _what, _done, _all: None,
) -> dict[str, Any]:
    """Evaluate how well a bundle finds similar cases.

    Parameters
    ----------
    references
        Studies to find; the queries themselves when absent, each without those of its own patient.
    progress
        Called as :func:`models.retrieval.build.build_index` does.

    Returns
    -------
    dict
        ``ways`` by name of :data:`COMPARISONS`, those that the bundle supports: ``rules`` by name, and for
        each measure ``value`` with its 95 % interval over the queries' patients, ``with_a_group`` for queries
        that have one, and the baselines ``random`` and ``most_common``: a random order, and one with the
        cases of the most frequent set of groups first. ``second_opinion`` and ``milliseconds`` beside.

    Raises
    ------
    DatasetError
        If a split does not exist, or a film cannot be read.
    """
    predictions = predict_studies(
        predictor, queries.studies, lambda done, total: progress("queries", done, total)
    )
    asked = _query_embeddings(predictor, queries.studies, predictions)
    found = references or queries
    held = _index(predictor, found, progress, predictions if references is None else None)
    truth = _Truth(queries, found)
    ways = {
        name: {
            "query": way.query,
            "reference": way.reference,
            "note": " ".join(way.note.split()),
            "rules": truth.figures(
                film_queries(asked[way.query], len(predictor.labels)) if way.sharpened else asked[way.query],
                held.vectors(way.reference),
            ),
        }
        for name, way in COMPARISONS.items()
        if way.query in asked and way.reference in held.tensors()
    }
    return {
        "bundle": f"{predictor.identity.name} {predictor.identity.version}",
        "weights_sha256": predictor.identity.weights_sha256,
        "dataset": queries.dataset.name,
        "queries": queries.split,
        "references": found.split,
        "n_queries": len(truth.queries),
        "n_queries_with_a_group": int(truth.grouped.sum()),
        "n_references": len(truth.references),
        "ways": ways,
        "second_opinion": _second_opinion(predictions, queries, held, truth),
        "milliseconds": _milliseconds(asked["films"], held),
    }


def _index(
    predictor: Predictor,
    part: DatasetSplit,
    progress: Progress,
    predictions: Sequence[Prediction] | None = None,
) -> CaseIndex:
    return build_index(
        predictor,
        part.dataset.name,
        part.studies,
        name=f"{part.dataset.name} {part.split}",
        predictions=predictions,
        progress=progress,
    )


def _query_embeddings(
    predictor: Predictor, studies: Sequence[LabelledStudy], predictions: Sequence[Prediction]
) -> dict[QueryContent, FloatArray]:
    """Study embeddings of the queries by their content; films alone where there are no reports."""
    seen = image_embeddings(predictions)
    found: dict[QueryContent, FloatArray] = {
        "films": study_embeddings(seen, label_probabilities(predictions))
    }
    if any(study.report for study in studies):
        embedded, said = embed_and_label_reports(predictor, [study.report for study in studies])
        found |= {
            "report": study_embeddings(embedded, said),
            "films and report": study_embeddings(seen, said),
        }
    return found


class _Truth:
    """Relevance of each reference to each query."""

    def __init__(self, queries: DatasetSplit, references: DatasetSplit) -> None:
        keys = load_vocabulary().keys(GROUP_LIST)
        self.queries, self.references = queries.studies, references.studies
        asked, held = targets(self.queries, keys), targets(self.references, keys)
        both = asked.astype(np.float64) @ held.T.astype(np.float64)
        either = asked.sum(axis=1)[:, None] + held.sum(axis=1) - both
        self.grouped: BoolArray = np.asarray(asked.any(axis=1))
        self.gains: dict[str, ranking.Gains] = {
            "share_one_group": (both > 0).astype(np.float64),
            "same_set": ((both == either) & (both > 0)).astype(np.float64),
            "jaccard": both / np.maximum(either, 1),
        }
        patients = np.array([study.patient for study in self.references])
        own = np.array([study.patient for study in self.queries])[:, None] == patients
        # Studies of the query's own patient do not count as similar cases.
        same = queries.dataset.name == references.dataset.name
        self.own: BoolArray = np.asarray(own & same)
        numbers = {name: number for number, name in enumerate(dict.fromkeys(s.patient for s in self.queries))}
        self._weights: Weights = resampling_weights(
            np.array([numbers[study.patient] for study in self.queries])
        )
        _, place, counts = np.unique(held, axis=0, return_inverse=True, return_counts=True)
        self._commonest: BoolArray = place.ravel() == counts.argmax()
        self._baselines: dict[str, dict[str, dict[str, float]]] | None = None

    def figures(self, asked: FloatArray, held: FloatArray) -> dict[str, Any]:
        """Every measure of every rule, for the order by inner product."""
        likeness = asked.astype(np.float64) @ held.astype(np.float64).T
        baselines = self.baselines()
        return {
            rule: {
                name: self._figure(values) | baselines[rule][name]
                for name, values in self._per_query(likeness, rule).items()
            }
            for rule in RULES
        }

    def baselines(self) -> dict[str, dict[str, dict[str, float]]]:
        """Mean of each measure for orders without a model, by rule and measure."""
        if self._baselines is None:
            shape = self.own.shape
            chance = np.random.default_rng(SEED).random(shape)
            common = np.broadcast_to(self._commonest.astype(np.float64), shape)
            orders = {"random": chance, "most_common": common}
            means = {
                name: {
                    rule: {measure: float(values.mean()) for measure, values in per_query.items()}
                    for rule in RULES
                    for per_query in [self._per_query(order, rule)]
                }
                for name, order in orders.items()
            }
            self._baselines = {
                rule: {
                    measure: {name: means[name][rule][measure] for name in orders} for measure in RULES[rule]
                }
                for rule in RULES
            }
        return self._baselines

    def _per_query(self, likeness: NDArray[np.float64], rule: str) -> dict[str, ranking.PerQuery]:
        order = np.argsort(np.where(self.own, np.inf, -likeness), axis=1, kind="stable")
        gains = np.take_along_axis(np.where(self.own, 0.0, self.gains[rule]), order, axis=1)
        return {name: measure(gains) for name, measure in RULES[rule].items()}

    def _figure(self, values: ranking.PerQuery) -> dict[str, Any]:
        drawn = values @ self._weights / self._weights.sum(axis=0)
        low, high = percentile_interval(drawn)
        return {
            "value": float(values.mean()),
            "low": nan_to_none(low),
            "high": nan_to_none(high),
            "with_a_group": nan_to_none(float(values[self.grouped].mean())) if self.grouped.any() else None,
        }


def _second_opinion(
    predictions: Sequence[Prediction], queries: DatasetSplit, held: CaseIndex, truth: _Truth
) -> dict[str, Any]:
    """Accuracy of the model where the found cases disagree with it, and elsewhere.

    The accuracy of a study is the Jaccard index of its reported and its true labels.
    """
    searcher = Searcher(held)
    spare = int(truth.own.sum(axis=1).max(initial=0))
    flagged, right = [], []
    names = [f"{queries.dataset.name}:{study.identifier}" for study in truth.references]
    for row, (prediction, found) in enumerate(
        zip(predictions, searcher.nearest(embed_studies(predictions), NEIGHBOURS + spare), strict=True)
    ):
        own = {names[place] for place in np.flatnonzero(truth.own[row])}
        neighbours = [entry for entry in found if entry.case.identifier not in own][:NEIGHBOURS]
        if not neighbours:
            continue
        keys = {finding.key for finding in prediction.findings}
        said = {finding.key for finding in prediction.findings if finding.present}
        true = truth.queries[row].keys & keys
        flagged.append(neighbour_agreement(prediction, neighbours).disagrees)
        right.append(len(said & true) / len(said | true) if said | true else 1.0)
    marked, share = np.array(flagged, dtype=bool), np.array(right)
    return {
        "k": NEIGHBOURS,
        "n": len(marked),
        "n_flagged": int(marked.sum()),
        "right_where_flagged": float(share[marked].mean()) if marked.any() else None,
        "right_elsewhere": float(share[~marked].mean()) if (~marked).any() else None,
    }


def _milliseconds(queries: FloatArray, held: CaseIndex) -> dict[str, float]:
    """Median time of a query for five cases with the exact engine, alone and in a batch, in ms."""
    searcher = Searcher(held)
    one = [queries[number % len(queries)][None] for number in range(_TIMED)]
    many = [np.roll(queries, number, axis=0)[:_BATCH] for number in range(_TIMED // 10)]
    alone, together = _timed(searcher, one), _timed(searcher, many)
    return {"one": alone, f"each_of_{_BATCH}": together / min(_BATCH, len(queries))}


def _timed(searcher: Searcher, batches: Sequence[FloatArray]) -> float:
    taken = []
    for batch in batches:
        began = time.perf_counter()
        searcher.nearest(batch, NEIGHBOURS)
        taken.append(time.perf_counter() - began)
    return 1000 * float(np.median(taken))
