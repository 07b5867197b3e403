"""Agreement of the MeSH headings of Open-i with what its reports state, label by label.

    .venv/bin/python -m tests.bench.label_agreement --data FOLDER_OF_OPEN_I [--write]

Draws reports of ``train`` and ``val`` by a fixed seed and reads them by rules
(:mod:`tests.bench.report_rules`); ``test`` is left alone. Prints the tables of docs/data.md; with ``--write``
they enter it, and their numbers the JSON file beside it. ``--list N`` prints the first N disagreements of the
same order instead, to be judged by eye; the judgements are in ``label_verdicts.csv``: study, label, verdict.
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import LabelledStudy
from models.data.openi import read_openi
from models.evaluation.bootstrap import SEED, percentile_interval, resampling_weights
from models.labels.vocabulary import load_vocabulary
from tests.bench.marked_document import with_passage, write_measured
from tests.bench.report_rules import TERMS, read_statements
from tests.support.peers import ROOT

DOCUMENT = ROOT / "docs" / "data.md"
FIGURES = ROOT / "docs" / "label-agreement.json"
VERDICTS = Path(__file__).with_name("label_verdicts.csv")
COMMAND = "python -m tests.bench.label_agreement"

REPORTS = 200
FEWEST = 5
"""Least number of reports with a label, by either, from which it has a row."""

KINDS = {
    "doubted": "MeSH has it, the report doubts it",
    "denied": "MeSH has it, the report denies it",
    "indication": "MeSH has it, only the indication names it",
    "unnamed": "MeSH has it, no word of the rules names it",
    "stated": "the report states it, MeSH lacks it",
    "stated, normal": "the report states it, MeSH says normal",
}
VERDICT_NAMES = {"rules": "the rules", "mesh": "MeSH", "unclear": "neither: the words leave it open"}

Counts = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Label of a study of which the headings and the rules say different things."""

    study: LabelledStudy
    key: str
    kind: str


def draw(splits: Mapping[str, Sequence[LabelledStudy]]) -> list[LabelledStudy]:
    """Studies of ``train`` and ``val`` with a report, in the order of the fixed seed."""
    told = sorted(
        (study for split in ("train", "val") for study in splits[split] if study.report),
        key=lambda study: int(study.identifier),
    )
    return [told[place] for place in np.random.default_rng(SEED).permutation(len(told))]


def disagreements(studies: Sequence[LabelledStudy]) -> Iterator[Disagreement]:
    """Disagreements of studies, in their order."""
    for study in studies:
        said, before = read_statements(study.report), read_statements(study.indication)
        for key in TERMS:
            coded, stated = key in study.keys, said.get(key) == "stated"
            if coded and not stated:
                kind = said.get(key) or ("indication" if key in before else "unnamed")
                yield Disagreement(study, key, kind)
            elif stated and not coded:
                yield Disagreement(study, key, "stated, normal" if "normal" in study.keys else "stated")


def kappa(table: Counts) -> Counts:
    """Cohen's kappa of two-by-two tables, shape (2, 2, n): MeSH by rules; NaN where it has none."""
    total = table.sum(axis=(0, 1))
    seen = (table[0, 0] + table[1, 1]) / total
    chance = (table.sum(axis=0) * table.sum(axis=1)).sum(axis=0) / total**2
    return np.asarray(np.where(chance < 1, (seen - chance) / np.where(chance < 1, 1 - chance, 1), np.nan))


def agreement(mesh: NDArray[np.bool_], rules: NDArray[np.bool_]) -> dict[str, Any]:
    """Agreement of two readings of the same studies: counts, agreements, and kappa with its interval."""
    weights = resampling_weights(np.arange(len(mesh))).astype(np.float64)
    cells = [[(mesh == row) & (rules == column) for column in (False, True)] for row in (False, True)]
    once = np.array([[cell.sum() for cell in row] for row in cells], np.float64)
    drawn = np.array([[cell @ weights for cell in row] for row in cells])
    low, high = percentile_interval(kappa(drawn))
    neither, both, apart = once[0, 0], once[1, 1], once[0, 1] + once[1, 0]
    return {
        "mesh": int(mesh.sum()),
        "rules": int(rules.sum()),
        "both": int(both),
        "positive_agreement": float(2 * both / (2 * both + apart)),
        "negative_agreement": float(2 * neither / (2 * neither + apart)),
        "kappa": float(kappa(once[:, :, None])[0]),
        "low": low,
        "high": high,
    }


def read_verdicts() -> dict[tuple[str, str], str]:
    """Verdicts by study and label."""
    with VERDICTS.open(newline="", encoding="utf-8") as file:
        return {(row["study"], row["label"]): row["verdict"] for row in csv.DictReader(file)}


def measure(splits: Mapping[str, Sequence[LabelledStudy]]) -> dict[str, Any]:
    """Measure the drawn reports, and count the verdicts."""
    order = draw(splits)
    drawn = order[:REPORTS]
    said = [read_statements(study.report) for study in drawn]
    rows, pooled = {}, []
    for key in TERMS:
        mesh = np.array([key in study.keys for study in drawn])
        rules = np.array([each.get(key) == "stated" for each in said])
        pooled.append((mesh, rules))
        if (mesh | rules).sum() >= FEWEST:
            rows[key] = agreement(mesh, rules)
    found = list(disagreements(drawn))
    kinds = Counter(each.kind for each in found)
    verdicts = read_verdicts()
    judged = [each for each in disagreements(order) if (each.study.identifier, each.key) in verdicts]
    last = max((order.index(each.study) + 1 for each in judged), default=0)
    return {
        "splits": "train, val",
        "seed": SEED,
        "reports": len(drawn),
        "of": len(order),
        "labels_read": len(TERMS),
        "answers": len(drawn) * len(TERMS),
        "labels": rows,
        "disagreements": len(found),
        "kinds": {kind: kinds[kind] for kind in KINDS},
        "doubted_without_mesh": sum(
            each.get(key) == "doubted" and key not in study.keys
            for study, each in zip(drawn, said, strict=True)
            for key in TERMS
        ),
        "verdicts": {
            "reports": last,
            "judged": len(judged),
            "by_kind": {
                kind: {
                    name: sum(_is(each, kind, name, verdicts) for each in judged) for name in VERDICT_NAMES
                }
                for kind in KINDS
            },
        },
    }


def _is(each: Disagreement, kind: str, verdict: str, verdicts: Mapping[tuple[str, str], str]) -> bool:
    return each.kind == kind and verdicts[each.study.identifier, each.key] == verdict


def tables(found: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the document between its marks."""
    names = load_vocabulary().labels
    yield (
        f"{found['reports']} of {found['of']:,} reports of `train` and `val`, drawn by seed {found['seed']}; "
        f"{found['labels_read']} labels, {found['answers']:,} answers, of which {found['disagreements']} "
        "differ. Positive agreement is twice the reports that both give the label over the sum of those that "
        f"either does. Labels that fewer than {FEWEST} reports have are left out. Two readings that know "
        "nothing of each other have a kappa of 0."
    )
    yield ""
    header = (
        "by MeSH",
        "by rules",
        "both",
        "positive agreement",
        "negative agreement",
        "kappa (95 % interval)",
    )
    yield f"| label | {' | '.join(header)} |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for key, row in sorted(found["labels"].items(), key=lambda each: each[1]["kappa"]):
        yield (
            f"| {names[key].name} | {row['mesh']} | {row['rules']} | {row['both']} "
            f"| {row['positive_agreement']:.3f} | {row['negative_agreement']:.3f} "
            f"| {row['kappa']:.3f} ({row['low']:.3f} to {row['high']:.3f}) |"
        )
    yield ""
    said = found["verdicts"]
    yield (
        f"The kinds of disagreement, and who was right by eye in the {said['judged']} disagreements of the "
        f"first {said['reports']} reports in the same order ({found['doubted_without_mesh']} findings of the "
        "drawn reports are doubted and not coded, which counts as agreement):"
    )
    yield ""
    yield (
        f"| kind | in the {found['reports']} reports | judged | " + " | ".join(VERDICT_NAMES.values()) + " |"
    )
    yield "|---|---:|---:|---:|---:|---:|"
    for kind, title in KINDS.items():
        row = said["by_kind"][kind]
        cells = " | ".join(str(row[name]) for name in VERDICT_NAMES)
        yield f"| {title} | {found['kinds'][kind]} | {sum(row.values())} | {cells} |"


def document(before: str, found: Mapping[str, Any]) -> str:
    """Text of the document with these tables between its marks."""
    return with_passage(before, COMMAND, tables(found))


def main() -> None:
    """Measure, and print the tables or write them; or list disagreements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--list", type=int, default=0, metavar="N")
    given = parser.parse_args()
    splits = read_openi(given.data, load_vocabulary()).studies
    if given.list:
        for _, each in zip(range(given.list), disagreements(draw(splits)), strict=False):
            print(each.study.identifier, each.key, each.kind, sorted(each.study.headings or ()), sep="\t")
            print(f"\t{each.study.indication}\n\t{each.study.report}")
        return
    found = measure(splits)
    print("\n".join(tables(found)))
    if given.write:
        write_measured(found, FIGURES, DOCUMENT, document)


if __name__ == "__main__":
    main()
