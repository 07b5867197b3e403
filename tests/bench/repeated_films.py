"""Rate of false changes: findings called new or gone between two frontal films of one study.

    .venv/bin/python tests/bench/repeated_films.py BUNDLE --data FOLDER_OF_OPEN_I

Each study of ``val`` and ``test`` with two frontal films is read as if one were the prior of the other,
and beside it as if another patient's film were. Prints a Markdown table: of the answers that are present
on one of the two or on both, how many the rule of ``worker/comparison.py`` calls a change, by odds ratio;
with 1, every answer that crosses its threshold.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dicom_node.results.report import Change
from models.bundles.predictor import Predictor
from models.bundles.study_predictions import predict_studies
from models.data.readers import read_dataset
from models.labels.vocabulary import load_vocabulary
from models.processing.types import FindingScore, Prediction
from worker import prior_comparison

RATIOS = (1.0, 2.0, 3.0, 5.0, 10.0)
Answers = tuple[FindingScore, FindingScore]


def main() -> None:
    """Read both films of each study apart, compare and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle")
    parser.add_argument("--data", type=Path, required=True)
    given = parser.parse_args()
    predictor = Predictor.load(given.bundle)
    dataset = read_dataset("openi", given.data, load_vocabulary())
    pairs = []
    for study in (*dataset.split("val"), *dataset.split("test")):
        views = zip(study.films, study.views, strict=True)
        frontal = [film for film, view in views if view == "frontal"]
        if len(frontal) > 1:
            pairs.append([replace(study, films=(film,), views=("frontal",)) for film in frontal[:2]])
    one, other = (predict_studies(predictor, tuple(films)) for films in zip(*pairs, strict=True))
    same, different = _answers(one, other), _answers(one, [*other[1:], other[0]])
    print(f"{len(pairs)} studies; answers: {len(same)} of one patient, {len(different)} of two\n")
    print("| odds ratio | changed, one patient | changed, two patients |\n|---|---|---|")
    for ratio in RATIOS:
        prior_comparison.ODDS_RATIO = ratio
        print(f"| {ratio:g} | {_changed(same)} | {_changed(different)} |")


def _answers(one: Sequence[Prediction], other: Sequence[Prediction]) -> list[Answers]:
    return [
        pair
        for first, second in zip(one, other, strict=True)
        for pair in zip(first.findings, second.findings, strict=True)
        if prior_comparison.compare_finding(*pair) is not None
    ]


def _changed(answers: Sequence[Answers]) -> str:
    compared = [prior_comparison.compare_finding(*pair) for pair in answers]
    changed = sum(each is not None and each.change is not Change.UNCHANGED for each in compared)
    return f"{changed} ({changed / len(answers):.0%})"


if __name__ == "__main__":
    main()
