"""Published protocols and films of other collections: what the bundles reach beside what was published.

    .venv/bin/python -m tests.bench.published_figures --data FOLDER_OF_OPEN_I [--write]

Reads the films of Open-i ``test``, of ChestX-ray14 in ``../nih`` and of the other collections in
``../extra``, and prints the tables of docs/published-figures.md; with ``--write`` they enter it, and their
numbers the JSON file beside it. Nothing is chosen on a film that is measured.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from models.bundles.bundle import find_bundle
from models.bundles.manifest import METRICS
from models.bundles.predictor import Predictor
from models.bundles.study_predictions import predict_studies
from models.data.collections import read_collections
from models.data.dataset import LabelledStudy
from models.data.nih import read_nih
from models.data.openi import read_openi
from models.evaluation.bootstrap import resampling_weights
from models.evaluation.metrics import auc, calibration_error, threshold_curve
from models.gate.model import Gate
from models.labels.vocabulary import load_vocabulary
from models.processing.types import Film, Prediction
from tests.bench.marked_document import with_passage
from tests.support.peers import ROOT

DOCUMENT = ROOT / "docs" / "published-figures.md"
FIGURES = ROOT / "docs" / "published-figures.json"
COMMAND = "python -m tests.bench.published_figures"

PROTOCOL: dict[str, tuple[tuple[str, ...], tuple[tuple[str, str], ...]]] = {
    "Atelectasis": (("atelectasis", "atelectases"), (("nih-findings", "atelectasis"),)),
    "Calcified granuloma": (("calcified granuloma",), (("openi-findings", "calcified_granuloma"),)),
    "Cardiomegaly": (
        ("cardiomegaly",),
        (("openi-findings", "cardiomegaly"), ("nih-findings", "cardiomegaly")),
    ),
    "Edema": (("edema",), (("openi-findings", "edema"), ("nih-findings", "edema"))),
    "Effusion": (("effusion",), (("openi-findings", "effusion"), ("nih-findings", "pleural_effusion"))),
    "Emphysema": (("emphysema",), (("openi-findings", "emphysema"), ("nih-findings", "emphysema"))),
    "Fibrosis": (("fibrosis",), (("openi-findings", "fibrosis"), ("nih-findings", "fibrosis"))),
    "Fracture": (("fracture",), (("openi-findings", "fractures"), ("openi-groups", "injury_group"))),
    "Granuloma": (
        ("granuloma",),
        (("openi-groups", "granuloma_group"), ("openi-findings", "calcified_granuloma")),
    ),
    "Hernia": (("hernia",), (("openi-findings", "hernia"), ("nih-findings", "hernia"))),
    "Infiltration": (
        ("infiltration", "infiltrate"),
        (("nih-findings", "infiltration"), ("openi-findings", "airspace_disease")),
    ),
    "Lesion": (("lesion",), (("openi-findings", "lesion"), ("nih-findings", "mass"))),
    "Mass": (("mass",), (("nih-findings", "mass"), ("openi-findings", "mass"))),
    "Nodule": (("nodule",), (("openi-findings", "nodule"), ("nih-findings", "nodule"))),
    "Opacity": (("opacity",), (("openi-findings", "lesion"), ("openi-findings", "airspace_disease"))),
    "Pleural thickening": (
        ("pleural_thickening", "pleural thickening"),
        (("openi-findings", "pleural_thickening"), ("nih-findings", "pleural_thickening")),
    ),
    "Pneumonia": (("pneumonia",), (("nih-findings", "pneumonia"), ("openi-groups", "infection_group"))),
    "Pneumothorax": (
        ("pneumothorax",),
        (("nih-findings", "pneumothorax"), ("openi-findings", "pneumothorax")),
    ),
}
"""Label of the protocol -> words, any of which an automatic term holds; outputs, of which val chooses one."""

BUNDLES = ("openi-findings", "openi-groups", "openi-normality", "nih-findings")
VIEWS = ("frontal", "lateral")
FEWEST = 5
"""Least number of positives of a label that enters the second mean."""
ECE_RESAMPLINGS = 200
FILMS_OF_A_SOURCE = 400
"""Least number of films of a source that the gate judges, where there are as many: evenly spaced ones."""

Table: TypeAlias = dict[str, Any]


class Readings:
    """Predictions of all bundles for labelled studies, each computed once."""

    def __init__(self) -> None:
        self.predictors = {name: Predictor.load(name, runtime="auto") for name in BUNDLES}
        self._kept: dict[tuple[str, str], list[Prediction]] = {}

    def of(self, bundle: str, what: str, studies: Sequence[LabelledStudy]) -> list[Prediction]:
        """Predictions of one bundle; `what` names the studies."""
        if (bundle, what) not in self._kept:
            self._kept[bundle, what] = predict_studies(self.predictors[bundle], tuple(studies))
        return self._kept[bundle, what]

    def scores(
        self, bundle: str, key: str, what: str, studies: Sequence[LabelledStudy]
    ) -> NDArray[np.float64]:
        """Scores of one output."""
        place = [label.key for label in self.predictors[bundle].labels].index(key)
        return np.array([each.findings[place].score for each in self.of(bundle, what, studies)])


def with_interval(
    truth: NDArray[np.bool_], scores: NDArray[np.float64], patients: Sequence[str]
) -> dict[str, Any]:
    """AUC with its 95 % interval, bootstrap over patients."""
    number = np.unique(list(patients), return_inverse=True)[1]
    resampled = threshold_curve(truth, scores, resampling_weights(number)).auc()
    low, high = np.nanpercentile(resampled, (2.5, 97.5))
    found = {"auc": auc(truth, scores), "low": float(low), "high": float(high)}
    return found | {"positive": int(truth.sum()), "films": len(truth)}


def films_of(studies: Sequence[LabelledStudy], view: str) -> list[LabelledStudy]:
    """Studies with their films of one view alone; those without one are left out."""
    found = []
    for study in studies:
        films = tuple(film for film, seen in zip(study.films, study.views, strict=True) if seen == view)
        if films:
            found.append(replace(study, films=films, views=(view,) * len(films)))
    return found


def eighteen_labels(readings: Readings, root: Path, data: Mapping[str, Sequence[LabelledStudy]]) -> Table:
    """AUC of the 18 labels on the frontal films of test; each output was chosen on val."""
    with (root / "index.csv").open(newline="", encoding="utf-8") as file:
        terms = {row["uid"]: row["mesh_automatic"].lower().split("|") for row in csv.DictReader(file)}

    def truth(studies: Sequence[LabelledStudy], words: Sequence[str]) -> NDArray[np.bool_]:
        return np.array(
            [any(word in term for term in terms[study.identifier] for word in words) for study in studies]
        )

    val, test = (films_of(data[split], "frontal") for split in ("val", "test"))
    rows = {}
    for label, (words, outputs) in PROTOCOL.items():
        known = truth(val, words)
        chosen = outputs[0]
        if known.any():
            chosen = max(outputs, key=lambda each: auc(known, readings.scores(*each, "val frontal", val)))
        scores = readings.scores(*chosen, "test frontal", test)
        rows[label] = {"output": "/".join(chosen)} | with_interval(
            truth(test, words), scores, [study.patient for study in test]
        )
    return {"studies": len(test), "labels": rows}


def calibration(readings: Readings, data: Mapping[str, Mapping[str, Sequence[LabelledStudy]]]) -> list[Table]:
    """Expected calibration error over all calibrated labels, by bundle and by view."""
    rows = []
    for bundle in BUNDLES:
        source = "nih" if bundle == "nih-findings" else "openi"
        test = data[source]["test"]
        parts = {"all films": test} | {f"{view} films alone": films_of(test, view) for view in VIEWS}
        if source == "nih":
            parts = {"all films": test}
        for what, studies in parts.items():
            name = f"{source} test {what.split()[0]}" if what != "all films" else f"{source} test"
            predictions = readings.of(bundle, name, studies)
            columns = [n for n, each in enumerate(predictions[0].findings) if each.probability is not None]
            keys = [predictions[0].findings[n].key for n in columns]
            said = np.array([[each.findings[n].probability for n in columns] for each in predictions])
            true = np.array([[key in study.keys for key in keys] for study in studies])
            drawn = np.random.default_rng(0).integers(0, len(said), (ECE_RESAMPLINGS, len(said)))
            spread = np.array([_ece(true[chosen], said[chosen]) for chosen in drawn])
            # Drawing again adds noise to each bin, which can only raise the error: the spread alone counts.
            low, high = _ece(true, said) + np.percentile(spread, (2.5, 97.5)) - spread.mean()
            rows.append(
                {"bundle": bundle, "data": source, "films": what, "studies": len(studies)}
                | {"labels": len(columns), "ece": _ece(true, said), "low": float(low), "high": float(high)}
            )
    return rows


def _ece(true: NDArray[np.bool_], said: NDArray[np.float64]) -> float:
    """Mean over the labels of the expected calibration error."""
    return float(np.mean([calibration_error(true[:, n], said[:, n]) for n in range(said.shape[1])]))


def external(readings: Readings, extra: Mapping[str, Sequence[LabelledStudy]]) -> list[Table]:
    """AUC on collections that no training and no choice has seen."""
    checks = (
        ("jsrt", "nodule", "openi-findings", "nodule"),
        ("jsrt", "nodule", "nih-findings", "nodule"),
        ("shenzhen", "abnormal", "openi-normality", "abnormal"),
    )
    rows = []
    for split, truth_key, bundle, key in checks:
        studies = extra[split]
        truth = np.array([truth_key in study.keys for study in studies])
        scores = readings.scores(bundle, key, split, studies)
        found = with_interval(truth, scores, [study.patient for study in studies])
        rows.append({"collection": split, "output": f"{bundle}/{key}"} | found)
    return rows


def kept_by_gate(sources: Mapping[str, Sequence[LabelledStudy]]) -> list[Table]:
    """Films that the gate keeps, by source."""
    gate = Gate.load("gate", runtime="auto")
    rows = []
    for source, studies in sources.items():
        films = [(study, path) for study in studies for path in study.films]
        step = max(1, len(films) // FILMS_OF_A_SOURCE)
        films = films[::step]
        kept = 0
        for start in range(0, len(films), 32):
            some = [Film(str(path), study.read(path)) for study, path in films[start : start + 32]]
            kept += sum(result.reason is None for result in gate.judge(some))
        rows.append({"source": source, "films": len(films), "kept": kept})
    return rows


def published() -> dict[str, Any]:
    """Macro figures of the bundles on test, from the metrics that they hold."""
    found = {}
    for bundle in BUNDLES:
        metrics = json.loads((find_bundle(bundle) / METRICS).read_text("utf-8"))
        test = metrics["test"]
        found[bundle] = {
            part: {name: value for name, value in test[part].items() if not isinstance(value, list | dict)}
            for part in ("macro", "macro_all", "accuracy", "abnormal")
            if test.get(part)
        }
        for references, figures in metrics.get("retrieval", {}).items():
            share = figures["ways"]["image_and_report"]["rules"]["share_one_group"]
            found[bundle][f"retrieval {references}"] = {name: share[name] for name in ("p_at_5", "ndcg_at_5")}
    return found


def measure(root: Path) -> Table:
    """Measure all."""
    vocabulary = load_vocabulary()
    openi, nih = read_openi(root, vocabulary), read_nih(root.parent / "nih", vocabulary)
    extra = read_collections(root.parent / "extra", vocabulary)
    readings = Readings()
    sources: dict[str, list[LabelledStudy]] = defaultdict(list)
    for split in extra.studies.values():
        for study in split:
            sources[str(study.facts.get("source", "unknown"))].append(study)
    by_source = {"openi test": openi.studies["test"], "nih test": nih.studies["test"], **sources}
    return {
        "bundles": {name: each.bundle.manifest.folder for name, each in readings.predictors.items()},
        "published": published(),
        "eighteen": eighteen_labels(readings, root, openi.studies),
        "external": external(readings, extra.studies),
        "calibration": calibration(readings, {"openi": openi.studies, "nih": nih.studies}),
        "gate": kept_by_gate(by_source),
    }


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _ranged(found: Mapping[str, Any], name: str = "auc") -> str:
    low, high = (found[f"{name}_{end}"] if f"{name}_low" in found else found[end] for end in ("low", "high"))
    return f"{found[name]:.3f} ({low:.3f} to {high:.3f})"


def tables(found: Mapping[str, Any]) -> Iterator[str]:
    """Lines of the document between its marks."""
    yield f"Bundles: {', '.join(found['bundles'].values())}."
    for part in (_prototypes, _eighteen, _external, _calibration, _gate):
        yield ""
        yield from part(found)


def _prototypes(found: Mapping[str, Any]) -> Iterator[str]:
    said = found["published"]
    findings, groups = said["openi-findings"], said["openi-groups"]
    normality, nih = said["openi-normality"]["macro"], said["nih-findings"]["macro"]
    every, broad = findings["macro_all"], groups["macro_all"]
    yield "## Four prototypes"
    yield ""
    yield _row("figure", "published", "here, Open-i or NIH test", "without a model")
    yield _row("---", "---", "---", "---")
    yield _row("35 findings: macro AUC", "0.732", _ranged(every), "0.500")
    yield _row("35 findings: macro AP", "0.141", _ranged(every, "ap"), f"{every['ap_random']:.3f}")
    yield _row("35 findings: macro F1", "0.055", _ranged(every, "f1"), f"{every['f1_always']:.3f}")
    right = findings["accuracy"]
    yield _row(
        "35 findings: right answers", "0.951", f"{right['model']:.3f}", f"{right['predicting_nothing']:.3f}"
    )
    yield _row("22 groups: macro AUC", "0.737", _ranged(broad), "0.500")
    yield _row(
        "22 groups: macro AP", "0.765 (average not stated)", _ranged(broad, "ap"), f"{broad['ap_random']:.3f}"
    )
    yield _row("14 NIH findings: macro AUC", "0.841, on another split", _ranged(nih), "0.500")
    yield _row(
        "abnormal: AUC, from films and report there, films alone here", "0.80", _ranged(normality), "0.500"
    )
    for references, was in (("test", ("0.746", "0.938")), ("train", ("0.917", "0.950"))):
        rule = groups[f"retrieval {references}"]
        for (name, title), value in zip((("p_at_5", "P@5"), ("ndcg_at_5", "nDCG@5")), was, strict=True):
            each = rule[name]
            here = f"{each['with_a_group']:.3f}; of all queries {_ranged(each, 'value')}"
            yield _row(
                f"films and report find cases of `{references}`: {title}",
                value,
                here,
                f"{each['random']:.3f}",
            )


def _eighteen(found: Mapping[str, Any]) -> Iterator[str]:
    labels = found["eighteen"]["labels"]
    some = [each["auc"] for each in labels.values() if each["positive"]]
    many = [each["auc"] for each in labels.values() if each["positive"] >= FEWEST]
    yield "## Eighteen labels of Open-i"
    yield ""
    yield _row("", "films", "mean AUC")
    yield _row("---", "---:", "---:")
    yield _row("CARZero, zero-shot (Lai et al. 2024)", "all of Open-i", "0.838")
    yield _row("VECL, zero-shot", "all of Open-i", "0.839")
    yield _row(
        f"here, labels with a positive ({len(some)})",
        f"frontal films of {found['eighteen']['studies']} test patients",
        f"{np.mean(some):.3f}",
    )
    yield _row(
        f"here, labels with {FEWEST} positives or more ({len(many)})", "the same", f"{np.mean(many):.3f}"
    )
    yield ""
    yield _row("label", "positive", "AUC (95 % interval)", "output, chosen on val")
    yield _row("---", "---:", "---:", "---")
    for label, each in labels.items():
        shown = _ranged(each) if each["positive"] else "-"
        yield _row(label, each["positive"], shown, f"`{each['output']}`")


def _external(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Collections that no training has seen"
    yield ""
    yield _row("collection", "output", "films", "positive", "AUC (95 % interval)")
    yield _row("---", "---", "---:", "---:", "---:")
    for each in found["external"]:
        yield _row(each["collection"], f"`{each['output']}`", each["films"], each["positive"], _ranged(each))


def _calibration(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Calibration"
    yield ""
    yield _row("bundle", "test set", "films", "studies", "calibrated labels", "ECE (95 % interval)")
    yield _row("---", "---", "---", "---:", "---:", "---:")
    for each in found["calibration"]:
        yield _row(
            *(each["bundle"], each["data"], each["films"], each["studies"], each["labels"]),
            _ranged(each, "ece"),
        )


def _gate(found: Mapping[str, Any]) -> Iterator[str]:
    yield "## Films that the gate keeps"
    yield ""
    yield _row("source", "films judged", "kept")
    yield _row("---", "---:", "---:")
    for each in found["gate"]:
        yield _row(
            each["source"], each["films"], f"{each['kept']} ({100 * each['kept'] / each['films']:.1f} %)"
        )


def document(before: str, found: Mapping[str, Any]) -> str:
    """Text of the document with the tables of these figures between its marks."""
    return with_passage(before, COMMAND, tables(found))


def main() -> None:
    """Measure, and print the tables or write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    found = measure(given.data)
    print("\n".join(tables(found)))
    if given.write:
        FIGURES.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        DOCUMENT.write_text(document(DOCUMENT.read_text("utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
