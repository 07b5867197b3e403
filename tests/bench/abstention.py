"""Two ways to leave a finding undecided, fitted on Open-i ``val`` and measured on ``test``, label by label.

    .venv/bin/python -m tests.bench.abstention --data FOLDER_OF_OPEN_I --features FOLDER [--write]

*Interval*: undecided where the 90 % interval of the calibrated probability holds the threshold. *Conformal*:
the label-conditional (Mondrian) split conformal set at 90 %; undecided where it holds both answers, or none.
On ``val`` the conformal sets are those of ten folds, so that no study judges itself. Prints the table of
docs/models.md; with ``--write`` it enters it, and its numbers the JSON file beside it.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundles.bundle import Bundle, find_bundle, read_bundle
from models.data.dataset import LabelledStudy, targets
from models.data.openi import read_openi
from models.evaluation.bootstrap import percentile_interval, resampling_weights
from models.labels.calibration import SIDE_95, LabelCalibration
from models.labels.vocabulary import load_vocabulary
from tests.bench.film_features import film_features
from tests.bench.marked_document import with_passage, write_measured
from tests.support.peers import ROOT

DOCUMENT = ROOT / "docs" / "models.md"
FIGURES = ROOT / "docs" / "abstention.json"
COMMAND = "python -m tests.bench.abstention"

NETWORK = "openi-groups"
BUNDLES = ("openi-findings", "openi-normality")
LEVEL = 0.9
SIDE_90 = 1.644854
FEWEST = 10
"""Least number of positives on ``val`` of a label that is measured: nine are needed for any set at 90 %."""
MOST_UNDECIDED = 0.15
FOLDS = 10
FORMS = {"interval": "interval holds the threshold", "conformal": "conformal set"}

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


def straddles(curve: LabelCalibration, scores: Values) -> Flags:
    """True where the 90 % interval of the calibrated probability holds the threshold."""
    found = []
    for score in scores:
        ends = curve.interval(float(score))
        if ends is None:
            raise ValueError("a label without a covariance has no interval")
        low, high = (math.log(end / (1 - end)) for end in ends)
        middle, half = (low + high) / 2, (high - low) / 2 * SIDE_90 / SIDE_95
        threshold = math.log(curve.threshold / (1 - curve.threshold))
        found.append(middle - half <= threshold < middle + half)
    return np.array(found)


def conformities(truth: Flags, scores: Values, asked: Values) -> Values:
    """Conformal p-values of each asked score, shape (2, n): of "absent" among the negatives, of "present".

    Parameters
    ----------
    truth, scores
        Studies that the sets are fitted to.
    asked
        Scores of other studies.
    """
    return np.stack([_rank(-scores[~truth], -asked), _rank(scores[truth], asked)])


def _rank(known: Values, asked: Values) -> Values:
    """Share of the known that conform no better, the asked one among them."""
    below = np.searchsorted(np.sort(known), asked, side="right")
    return np.asarray((below + 1) / (len(known) + 1))


def folded_conformities(truth: Flags, scores: Values) -> Values:
    """P-values of each study by the other nine folds."""
    fold = np.arange(len(scores)) % FOLDS
    found = np.zeros((2, len(scores)))
    for number in range(FOLDS):
        here = fold == number
        found[:, here] = conformities(truth[~here], scores[~here], scores[here])
    return found


def abstaining(truth: Flags, said: Flags, undecided: Flags, weights: Values) -> dict[str, Any]:
    """Share undecided, balanced error of all and of what is decided, and the gain with its interval."""

    def balanced(among: Flags, counted: Values) -> Values:
        parts = []
        for side in (truth, ~truth):
            total = (side & among) @ counted
            parts.append(((said != truth) & side & among) @ counted / np.where(total > 0, total, np.nan))
        return np.asarray((parts[0] + parts[1]) / 2)

    everything, once = np.ones(len(truth), bool), np.ones((len(truth), 1))
    low, high = percentile_interval(balanced(everything, weights) - balanced(~undecided, weights))
    before, after = float(balanced(everything, once)[0]), float(balanced(~undecided, once)[0])
    return {
        "undecided": float(undecided.mean()),
        "undecided_positive": float(undecided[truth].mean()),
        "error": before,
        "error_decided": after,
        "gain": {"value": before - after, "low": low, "high": high},
    }


def measure_label(
    curve: LabelCalibration,
    truth: Mapping[str, Flags],
    scores: Mapping[str, Values],
    weights: Mapping[str, Values],
) -> dict[str, Any]:
    """Both forms on ``val`` and on ``test``."""
    likely = {
        "val": folded_conformities(truth["val"], scores["val"]),
        "test": conformities(truth["val"], scores["val"], scores["test"]),
    }
    row: dict[str, Any] = {}
    for split, (absent, present) in likely.items():
        here = truth[split]
        reported = np.array([curve.present(float(score)) for score in scores[split]])
        held = np.stack([absent, present]) > 1 - LEVEL
        sets = abstaining(here, present > absent, held[0] == held[1], weights[split])
        row[split] = {
            "positive": int(here.sum()),
            "interval": abstaining(here, reported, straddles(curve, scores[split]), weights[split]),
            "conformal": sets
            | {
                "coverage_present": float(held[1][here].mean()),
                "coverage_absent": float(held[0][~here].mean()),
                "empty": float((~held.any(axis=0)).mean()),
            },
        }
    return row


def measure(studies: Mapping[str, Sequence[LabelledStudy]], kept: Path) -> dict[str, Any]:
    """Measure every calibrated label that has enough positives."""
    splits = ("val", "test")
    films = {
        split: film_features(NETWORK, studies[split], kept / f"{NETWORK}-{split}.npz") for split in splits
    }
    weights = {}
    for split in splits:
        patients = np.unique([study.patient for study in studies[split]], return_inverse=True)[1]
        weights[split] = resampling_weights(patients).astype(np.float64)
    rows: dict[str, Any] = {}
    for name in BUNDLES:
        bundle: Bundle = read_bundle(find_bundle(name))
        scores = {split: films[split].scores(bundle).astype(np.float64) for split in splits}
        for column, label in enumerate(bundle.labels):
            truth = {split: targets(tuple(studies[split]), (label.key,))[:, 0] for split in splits}
            curve = bundle.calibration.labels[label.key]
            if curve.covariance is not None and truth["val"].sum() >= FEWEST:
                of_label = {split: scores[split][:, column] for split in splits}
                rows[label.key] = measure_label(curve, truth, of_label, weights)
    return {
        "bundles": [find_bundle(name).name for name in BUNDLES],
        "level": LEVEL,
        "studies": {split: len(studies[split]) for split in splits},
        "labels": rows,
    }


def worth(row: Mapping[str, Any], form: str, split: str) -> bool:
    """True where few studies are undecided and the rest has surely fewer errors."""
    found = row[split][form]
    return found["undecided"] < MOST_UNDECIDED and found["gain"]["low"] > 0


def table(found: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the document between its marks."""
    names = load_vocabulary().labels
    counts = found["studies"]
    yield (
        f"{' and '.join(found['bundles'])}, labels with {FEWEST} positives or more on `val`; fitted on the "
        f"{counts['val']} studies of `val`, measured on the {counts['test']} of `test`, at "
        f"{found['level']:.0%}. *Error* is balanced, the mean of the share of positives that are missed and "
        "of negatives that are reported: of all studies, then of those that stay decided. Of all studies "
        "the first form reports by the threshold, as the node does, the second what conforms better. "
        "Studies left out at random would change nothing, and knowing nothing has 0.5. *Gain* is the "
        "difference with its 95 % interval over patients."
    )
    yield ""
    header = (
        *("label", "positive", "interval: undecided", "error, then", "gain"),
        *("conformal: undecided", "covers present, absent", "error, then", "gain"),
    )
    yield f"| {' | '.join(header)} |"
    yield "|---|---:|---:|---|---|---:|---|---|---|"
    for key, row in found["labels"].items():
        interval, sets = row["test"]["interval"], row["test"]["conformal"]
        covers = f"{sets['coverage_present']:.3f}, {sets['coverage_absent']:.3f}"
        cells = (*_cells(interval), f"{sets['undecided']:.1%}", covers, *_cells(sets)[1:])
        yield f"| {names[key].name} | {row['test']['positive']} | {' | '.join(cells)} |"
    yield ""
    labels = list(found["labels"].values())
    for form, title in FORMS.items():
        shares = [row["test"][form]["undecided"] for row in labels]
        few = sum(share < MOST_UNDECIDED for share in shares)
        good = {
            split: [names[key].name for key, row in found["labels"].items() if worth(row, form, split)]
            for split in counts
        }
        yield (
            f"- {title}: {few} of {len(labels)} labels leave less than {MOST_UNDECIDED:.0%} of `test` "
            f"undecided (median {np.median(shares):.1%}); with a gain that its interval keeps from 0, "
            f"{_listed(good['val'])} on `val` and {_listed(good['test'])} on `test`."
        )


def _listed(some: Sequence[str]) -> str:
    return f"{len(some)} of them ({', '.join(some)})" if some else "none of them"


def _cells(row: Mapping[str, Any]) -> tuple[str, str, str]:
    errors = f"{row['error']:.3f}, {row['error_decided']:.3f}"
    return f"{row['undecided']:.1%}", errors, _gained(row)


def _gained(row: Mapping[str, Any]) -> str:
    gain = row["gain"]
    return f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"


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
    found = measure(read_openi(given.data, load_vocabulary()).studies, given.features)
    print("\n".join(table(found)))
    if given.write:
        write_measured(found, FIGURES, DOCUMENT, document)


if __name__ == "__main__":
    main()
