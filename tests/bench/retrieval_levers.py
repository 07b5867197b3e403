"""Levers of the search from films to films, each measured on Open-i ``val``.

    .venv/bin/python -m tests.bench.retrieval_levers --data FOLDER_OF_OPEN_I --features FOLDER [--write]

Reads the films of ``train`` and ``val`` once (:mod:`tests.bench.film_features`) and prints the table of
docs/levers.md; with ``--write`` it enters the document, and its numbers the JSON file beside it. ``test`` is
not read. What is learnt is learnt on ``train`` alone, from three seeds where it draws.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer

from models.bundles.bundle import Bundle, find_bundle, read_bundle
from models.data.dataset import LabelledStudy, targets
from models.data.openi import read_openi
from models.evaluation import ranking
from models.evaluation.bootstrap import percentile_interval, resampling_weights
from models.labels.vocabulary import load_vocabulary
from models.retrieval.embedding import LABEL_SHARE, SHARPNESS
from tests.bench.contrastive_projection import contrastive_projection
from tests.bench.film_features import FilmFeatures, film_features, unit
from tests.bench.marked_document import with_passage, write_measured
from tests.support.peers import ROOT

DOCUMENT = ROOT / "docs" / "levers.md"
FIGURES = ROOT / "docs" / "retrieval-levers.json"
COMMAND = "python -m tests.bench.retrieval_levers"

SPLITS = ("train", "val")
BUNDLE, FINDINGS, UNTRAINED = "openi-groups", "openi-findings", "chest-pretraining"
SEEDS = (0, 1, 2)
MEASURES = {"share": "share one group: P@5", "strict": "same set: P@5", "graded": "graded: mean@5"}

Vectors: TypeAlias = NDArray[np.float64]
BySplit: TypeAlias = dict[str, Vectors]


@dataclass(frozen=True, slots=True)
class Place:
    """Queries of ``val``, and the same studies and those of ``train`` as references."""

    queries: Vectors
    references: BySplit


@dataclass(frozen=True, slots=True)
class Material:
    """What the levers are made of, by split: probabilities, embeddings, features, groups and reports."""

    likely: BySplit
    findings: BySplit
    embedded: BySplit
    pooled: BySplit
    elsewhere: BySplit
    truth: BySplit
    reports: Mapping[str, Sequence[str]]


def probabilities(bundle: Bundle, features: FilmFeatures) -> Vectors:
    """Calibrated probabilities as a prediction has them; scores where there is no calibration."""
    scores = features.scores(bundle).astype(np.float64)
    for column, label in enumerate(bundle.labels):
        curve = bundle.calibration.labels[label.key]
        if curve.method != "none":
            scores[:, column] = [curve.probability(float(score)) for score in scores[:, column]]
    return scores


def read_material(studies: Mapping[str, Sequence[LabelledStudy]], kept: Path) -> Material:
    """Read the films, or what is kept of them."""
    groups, findings = (read_bundle(find_bundle(name)) for name in (BUNDLE, FINDINGS))
    keys = load_vocabulary().keys("groups")
    found = {split: film_features(BUNDLE, studies[split], kept / f"{BUNDLE}-{split}.npz") for split in SPLITS}
    other = {
        split: film_features(UNTRAINED, studies[split], kept / f"{UNTRAINED}-{split}.npz") for split in SPLITS
    }
    return Material(
        likely={split: probabilities(groups, found[split]) for split in SPLITS},
        findings={split: probabilities(findings, found[split]) for split in SPLITS},
        embedded={split: found[split].embeddings(groups).astype(np.float64) for split in SPLITS},
        pooled={split: found[split].by_study(found[split].pooled).astype(np.float64) for split in SPLITS},
        elsewhere={split: other[split].by_study(other[split].pooled).astype(np.float64) for split in SPLITS},
        truth={split: targets(tuple(studies[split]), keys).astype(np.float64) for split in SPLITS},
        reports={split: [study.report for study in studies[split]] for split in SPLITS},
    )


def alike(vectors: BySplit) -> Place:
    """Place in which queries and references are embedded in the same way."""
    return Place(vectors["val"], vectors)


def joined(*parts: tuple[float, Place]) -> Place:
    """Place whose similarity is a weighted sum of those of others."""

    def put(vectors: Sequence[Vectors]) -> Vectors:
        weighted = [np.sqrt(share) * each for (share, _), each in zip(parts, vectors, strict=True)]
        return np.concatenate(weighted, axis=1)

    return Place(
        put([place.queries for _, place in parts]),
        {split: put([place.references[split] for _, place in parts]) for split in SPLITS},
    )


def labels(likely: BySplit, power: float, weights: Vectors | None = None) -> Place:
    """Place of the labels: square roots of probabilities, those of the query to a power."""
    asked = np.sqrt(likely["val"]) ** power * (1 if weights is None else weights)
    return Place(_unit(asked), {split: _unit(np.sqrt(likely[split])) for split in SPLITS})


def served(material: Material, power: float, share: float = LABEL_SHARE) -> Place:
    """Place of a study as the package makes it, with queries to a power."""
    return joined((share, labels(material.likely, power)), (1 - share, alike(material.embedded)))


def expected_shares(material: Material) -> Place:
    """Place whose inner product is the expected number of common groups; references differ in length."""
    return Place(_unit(material.likely["val"]), material.likely)


def known(material: Material, power: float) -> Place:
    """Place of a study among references whose groups are known."""
    asked = served(material, power).queries
    held = {split: _unit(material.truth[split]) for split in SPLITS}
    return Place(
        asked, joined((LABEL_SHARE, alike(held)), (1 - LABEL_SHARE, alike(material.embedded))).references
    )


def principal(features: BySplit, width: int, whitening: float) -> Place:
    """Place of principal components; whitening divides them by their deviation to that power."""
    mean = features["train"].mean(axis=0)
    _, lengths, turned = np.linalg.svd(features["train"] - mean, full_matrices=False)
    scale = (lengths[:width] / np.sqrt(len(features["train"]))) ** whitening
    return alike({split: _unit((features[split] - mean) @ (turned[:width].T / scale)) for split in SPLITS})


def report_regression(material: Material, features: BySplit, penalty: float) -> Place:
    """Place that ridge regression gives: from features to latent topics (TF-IDF, LSA) of the reports."""
    words = TfidfVectorizer(min_df=3, ngram_range=(1, 2), sublinear_tf=True, stop_words="english")
    topics = TruncatedSVD(64, random_state=0).fit_transform(words.fit_transform(material.reports["train"]))
    wanted = _unit(topics)
    mean, scale = features["train"].mean(axis=0), features["train"].std(axis=0) + 1e-6
    standard = {split: (features[split] - mean) / scale for split in SPLITS}
    inner = standard["train"].T @ standard["train"] + penalty * np.eye(len(mean))
    weight = np.linalg.solve(inner, standard["train"].T @ (wanted - wanted.mean(axis=0)))
    return alike({split: _unit(standard[split] @ weight) for split in SPLITS})


def contrastive(material: Material, features: BySplit, seed: int, hidden: int = 0) -> Place:
    """Place that a projection learnt by supervised contrast on ``train`` gives."""
    return alike(contrastive_projection(features, material.truth["train"], seed=seed, hidden=hidden))


def expanded(place: Place, count: int) -> Place:
    """Place whose queries are moved half way to the mean of their nearest references of ``train``."""
    held = place.references["train"]
    nearest = np.argsort(-(place.queries @ held.T), axis=1, kind="stable")[:, :count]
    return Place(_unit(place.queries + _unit(held[nearest].mean(axis=1))), place.references)


def _unit(vectors: Vectors) -> Vectors:
    return np.asarray(unit(vectors), np.float64)


Lever: TypeAlias = Callable[[Material, int], Place]

BASELINE = "as before: square roots on both sides"
CHOSEN = f"**queries with the squares of the probabilities (power {SHARPNESS})**"
LEVERS: Mapping[str, tuple[Lever, bool]] = {
    BASELINE: (lambda m, _: served(m, 1), False),
    "cosine of pooled features": (lambda m, _: alike({s: _unit(m.pooled[s]) for s in SPLITS}), False),
    "cosine in the joint space": (lambda m, _: alike(m.embedded), False),
    "pooled features, 128 principal components": (lambda m, _: principal(m.pooled, 128, 0), False),
    "the same, whitened": (lambda m, _: principal(m.pooled, 128, 1), False),
    "ridge regression from pooled features to report topics": (
        lambda m, _: report_regression(m, m.pooled, 3000),
        False,
    ),
    "linear projection, supervised contrast by Jaccard": (lambda m, s: contrastive(m, m.pooled, s), True),
    "two layers, supervised contrast by Jaccard": (lambda m, s: contrastive(m, m.pooled, s, 256), True),
    "linear projection of features that have not seen Open-i": (
        lambda m, s: contrastive(m, m.elsewhere, s),
        True,
    ),
    "labels weighted by their rarity (IDF)": (
        lambda m, _: joined(
            (LABEL_SHARE, labels(m.likely, 1, _rarity(m))), (1 - LABEL_SHARE, alike(m.embedded))
        ),
        False,
    ),
    "queries moved towards their five nearest": (lambda m, _: expanded(served(m, 1), 5), False),
    "expected number of common groups": (lambda m, _: expected_shares(m), False),
    "queries with the probabilities (power 2)": (lambda m, _: served(m, 2), False),
    CHOSEN: (lambda m, _: served(m, SHARPNESS), False),
    "power 8": (lambda m, _: served(m, 8), False),
    f"power {SHARPNESS}, labels 0.7 of the similarity": (lambda m, _: served(m, SHARPNESS, 0.7), False),
    f"power {SHARPNESS}, moved towards the five nearest": (
        lambda m, _: expanded(served(m, SHARPNESS), 5),
        False,
    ),
    f"power {SHARPNESS}, weighted by rarity": (
        lambda m, _: joined(
            (LABEL_SHARE, labels(m.likely, SHARPNESS, _rarity(m))), (1 - LABEL_SHARE, alike(m.embedded))
        ),
        False,
    ),
    f"power {SHARPNESS}, and the linear projection for 0.3 of the similarity": (
        lambda m, s: joined((0.7, labels(m.likely, SHARPNESS)), (0.3, contrastive(m, m.pooled, s))),
        True,
    ),
    f"power {SHARPNESS}, and the 35 findings for half of the labels": (
        lambda m, _: joined(
            (LABEL_SHARE / 2, labels(m.likely, SHARPNESS)),
            (LABEL_SHARE / 2, labels(m.findings, SHARPNESS)),
            (1 - LABEL_SHARE, alike(m.embedded)),
        ),
        False,
    ),
    "groups of the references known, as before": (lambda m, _: known(m, 1), False),
    "groups of the references known, power 2": (lambda m, _: known(m, 2), False),
    f"groups of the references known, power {SHARPNESS}": (lambda m, _: known(m, SHARPNESS), False),
}
"""Levers by name, and whether they draw."""


def _rarity(material: Material) -> Vectors:
    return np.log(1 / np.maximum(material.truth["train"].mean(axis=0), 1e-3))


def per_query(material: Material, place: Place, split: str) -> dict[str, Vectors]:
    """Measures of each query of ``val`` over the references of a split, without itself."""
    likeness = place.queries @ place.references[split].T
    asked, held = material.truth["val"], material.truth[split]
    both = asked @ held.T
    either = asked.sum(axis=1)[:, None] + held.sum(axis=1) - both
    own = np.eye(len(asked), dtype=bool) if split == "val" else np.zeros(likeness.shape, bool)
    order = np.argsort(np.where(own, np.inf, -likeness), axis=1, kind="stable")
    gains = {
        "share": (both > 0) * 1.0,
        "strict": ((both == either) & (both > 0)) * 1.0,
        "graded": both / np.maximum(either, 1),
    }
    return {
        name: ranking.precision(np.take_along_axis(np.where(own, 0, gain), order, axis=1), 5)
        for name, gain in gains.items()
    }


def measure(material: Material, patients: Sequence[str]) -> dict[str, Any]:
    """Figures of every lever and of its difference from the baseline, with intervals over patients."""
    weights = resampling_weights(np.unique(list(patients), return_inverse=True)[1])
    base: dict[str, dict[str, Vectors]] = {}
    rows: dict[str, Any] = {}
    for name, (lever, draws) in LEVERS.items():
        places = [lever(material, seed) for seed in (SEEDS if draws else SEEDS[:1])]
        rows[name] = {"seeds": len(places), "references": {}}
        for split in SPLITS:
            drawn = [per_query(material, place, split) for place in places]
            mean = {measure: np.mean([each[measure] for each in drawn], axis=0) for measure in MEASURES}
            base.setdefault(split, mean)
            rows[name]["references"][split] = {
                measure: {
                    **_ranged(mean[measure], weights),
                    "gain": _ranged(mean[measure] - base[split][measure], weights),
                    "by_seed": [float(each[measure].mean()) for each in drawn],
                }
                for measure in MEASURES
            }
    counts = {split: len(material.truth[split]) for split in SPLITS}
    return {"bundle": find_bundle(BUNDLE).name, "queries": "val", "studies": counts, "levers": rows}


def _ranged(values: Vectors, weights: NDArray[np.float32]) -> dict[str, float]:
    low, high = percentile_interval(values @ weights / weights.sum(axis=0))
    return {"value": float(values.mean()), "low": low, "high": high}


def table(found: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the document between its marks."""
    counts = found["studies"]
    yield (
        f"{found['bundle']}; queries are the {counts['val']} studies of `val`, without their labels. "
        f"References are the {counts['train']} studies of `train`, which the network has learnt from, or the "
        "other studies of `val`, which it has not. Nothing but films is known of either side, except in the "
        "last rows. In brackets 95 % intervals over patients; *gain* is the paired difference of the graded "
        "mean from the first row."
    )
    yield ""
    yield (
        "| similarity | `train`: share one group, P@5 | same set, P@5 | graded, mean@5 | gain "
        "| `val`: share one group, P@5 | same set, P@5 | graded, mean@5 | gain |"
    )
    yield "|---|---|---|---|---|---|---|---|---|"
    for name, row in found["levers"].items():
        seeds = f" ({row['seeds']} seeds)" if row["seeds"] > 1 else ""
        cells = []
        for split in SPLITS:
            each = row["references"][split]
            cells += [
                _shown(each["share"]),
                f"{each['strict']['value']:.3f}",
                f"{each['graded']['value']:.3f}",
            ]
            cells += ["" if name == BASELINE else _shown(each["graded"]["gain"], sign="+")]
        yield f"| {name}{seeds} | {' | '.join(cells)} |"


def _shown(found: Mapping[str, float], sign: str = "") -> str:
    return f"{found['value']:{sign}.3f} ({found['low']:{sign}.3f} to {found['high']:{sign}.3f})"


def document(before: str, found: Mapping[str, Any]) -> str:
    """Text of the document with this table between its marks."""
    return with_passage(before, COMMAND, table(found))


def main() -> None:
    """Measure, and print the table or write it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument(
        "--features", type=Path, required=True, help="folder that keeps what was read of films"
    )
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    studies = read_openi(given.data, load_vocabulary()).studies
    found = measure(read_material(studies, given.features), [study.patient for study in studies["val"]])
    print("\n".join(table(found)))
    if given.write:
        write_measured(found, FIGURES, DOCUMENT, document)


if __name__ == "__main__":
    main()
