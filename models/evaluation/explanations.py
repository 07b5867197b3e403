"""Evaluation of the heat maps of a bundle: one table for JSON, and the same as Markdown."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from models.bundles.bundle import MAPS, Bundle, amend_bundle
from models.bundles.predictor import Predictor, TracedPrediction
from models.data.dataset import FilmDataset, LabelledStudy
from models.evaluation import faithfulness
from models.evaluation.localization import boxed_findings, mean_with_interval, measure_localization
from models.explain.methods import available_methods, draw_heatmaps
from models.explain.targets import best_film, reported_findings
from models.processing.lungs import find_lungs
from models.processing.map_check import MapCheck, coarse, fit_map_check, region_of, share_inside

Progress = Callable[[int, int], None]

#: Largest number of maps of a study for fitting the check, as many as a node sends by default.
_MAPS_OF_A_STUDY = 8
RANDOM = "random order"
EVEN = "even map"


def measure_explanations(
    predictor: Predictor,
    dataset: FilmDataset,
    root: Path,
    *,
    split: str,
    methods: Sequence[str] = (),
    maps: int = 30,
    progress: Progress = lambda _done, _all: None,
) -> dict[str, Any]:
    """Evaluate the heat maps of a bundle.

    Parameters
    ----------
    root
        Folder of the data set, with the boxes of all splits.
    split
        Split whose reported findings give the maps that need no boxes.
    methods
        Names from :data:`models.explain.methods.METHODS`; all that suit the bundle when empty.
    maps
        Number of studies with a reported finding, spread over the split; the map is that of the most certain
        finding, on the film that scores highest for it.
    progress
        Called with the number of steps done and the number in all.

    Returns
    -------
    dict
        ``bundle``, ``weights_sha256``, ``dataset``, ``split``, ``methods``, ``n_maps``, ``n_lateral``;
        ``boxes`` (:func:`models.evaluation.localization.measure_localization`), None without boxes;
        ``agreement``: by pair of methods (:func:`models.evaluation.faithfulness.compare_maps`);
        ``faithfulness``: by method and :data:`RANDOM`, ``deletion`` and ``insertion``; ``lungs``: on frontal
        films by method and :data:`EVEN`, the share of energy in the ``lungs`` and on the ``chest``;
        ``randomised``: by stage the correlation with the bundle's own map; ``check``: how many of these maps
        are ``withheld`` and why. Each metric is a table of ``mean`` and its 95 % interval over patients,
        ``low`` and ``high``.
    """
    chosen = tuple(methods) or available_methods(predictor)
    cases = boxed_findings(dataset, root)
    asked = sum(case.key in {label.key for label in predictor.labels} for case in cases)
    subjects = tuple(_subjects(predictor, dataset.split(split), maps))
    steps = asked + len(subjects)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(done, steps)

    boxes = measure_localization(predictor, cases, chosen, step) if cases else None
    spoilt = {stage: faithfulness.randomise_weights(predictor, stage) for stage in faithfulness.STAGES}
    rows: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    patients: list[str] = []
    frontal: list[str] = []
    reasons: list[str] = []
    for study, traced, key, film, view in subjects:
        _measure(predictor, spoilt, traced, (key, film, view), chosen, rows, reasons)
        patients.append(study.patient)
        if view == "frontal":
            frontal.append(study.patient)
        step()
    return {
        "bundle": f"{predictor.identity.name} {predictor.identity.version}",
        "weights_sha256": predictor.identity.weights_sha256,
        "dataset": dataset.name,
        "split": split,
        "methods": list(chosen),
        "n_maps": len(patients),
        "n_lateral": len(patients) - len(frontal),
        "boxes": boxes,
        **{
            part: {
                name: {
                    metric: _mean(values, frontal if part == "lungs" else patients)
                    for metric, values in metrics.items()
                }
                for name, metrics in rows[part].items()
            }
            for part in ("agreement", "faithfulness", "lungs", "randomised")
        },
        "check": {
            **{name: getattr(predictor.bundle.map_check, name) for name in MapCheck.__slots__},
            "n": len(reasons),
            "withheld": sum(map(bool, reasons)),
        },
    }


def _measure(
    predictor: Predictor,
    spoilt: Mapping[str, Predictor],
    traced: TracedPrediction,
    subject: tuple[str, int, str],
    methods: Sequence[str],
    rows: Mapping[str, Mapping[str, Mapping[str, list[float]]]],
    reasons: list[str],
) -> None:
    """Measure one finding on one film; append to `rows` and `reasons`."""
    key, film, view = subject
    pixels = traced.study.films[film].pixels
    drawn = {
        method: draw_heatmaps(predictor, traced, [key], films=[film], method=method)[0].values
        for method in methods
    }
    for pair, agreement in faithfulness.compare_maps(drawn).items():
        _add(rows["agreement"][pair], agreement)
    column = [label.key for label in predictor.labels].index(key)
    orders = {**drawn, RANDOM: faithfulness.random_order(len(reasons))}
    for name, order in orders.items():
        _add(
            rows["faithfulness"][name],
            faithfulness.deletion_insertion(predictor, traced, column, film, order),
        )
    if view == "frontal":
        anatomy = find_lungs(pixels)
        for name, values in {**drawn, EVEN: np.ones_like(pixels)}.items():
            cells = coarse(values)
            total = max(float(cells.sum()), 1e-12)
            inside = {"lungs": anatomy.lungs, "chest": anatomy.chest}
            _add(
                rows["lungs"][name],
                {place: float(cells[mask].sum()) / total for place, mask in inside.items()},
            )
    for stage, other in spoilt.items():
        found = faithfulness.similarity_after_randomising(predictor, other, traced, key, film, methods[0])
        _add(rows["randomised"][stage], {"pearson": found})
    reasons.append(predictor.bundle.map_check.objection(drawn[methods[0]], region_of(pixels, view), view))


def _add(row: Mapping[str, list[float]], figures: Mapping[str, float]) -> None:
    for name, value in figures.items():
        row[name].append(value)


def _mean(values: Sequence[float], patients: Sequence[str]) -> dict[str, float | None]:
    """Mean over the maps that have the metric: a constant map has no correlation."""
    known = [row for row, value in enumerate(values) if not np.isnan(value)]
    if not known:
        return {"mean": None, "low": None, "high": None, "n": 0}
    found = mean_with_interval([values[row] for row in known], [patients[row] for row in known])
    return {**found, "n": len(known)}


def _subjects(
    predictor: Predictor, studies: tuple[LabelledStudy, ...], maps: int
) -> Iterator[tuple[LabelledStudy, TracedPrediction, str, int, str]]:
    """Most certain finding of studies spread over a split, its best film, and the film's view."""
    left = maps
    # First every n-th study, then those between: half of the studies may have no finding.
    stride = max(1, len(studies) // max(1, 2 * maps))
    for start in range(stride):
        for study in studies[start::stride]:
            if not left:
                return
            (traced,) = predictor.trace([study.load()])
            for key in reported_findings(traced.prediction, 1):
                film = best_film(traced.prediction, key)
                view = study.views[film] if study.views else ""
                yield study, traced, key, film, view
                left -= 1


def fit_bundle_map_check(
    predictor: Predictor,
    dataset: FilmDataset,
    *,
    split: str = "val",
    progress: Progress = lambda _done, _all: None,
) -> Bundle:
    """Fit the check that withholds maps, on the maps that a node would send, and write it into the bundle."""
    studies = dataset.split(split)

    def shares() -> Iterator[tuple[str, float]]:
        for number, study in enumerate(studies):
            (traced,) = predictor.trace([study.load()])
            regions = {}
            for key in reported_findings(traced.prediction, _MAPS_OF_A_STUDY):
                film = best_film(traced.prediction, key)
                view = study.views[film] if study.views else ""
                if film not in regions:
                    regions[film] = region_of(traced.study.films[film].pixels, view)
                (one,) = draw_heatmaps(predictor, traced, [key], films=[film])
                if one.values.any():
                    yield view, share_inside(one.values, regions[film])
            progress(number + 1, len(studies))

    found = fit_map_check(shares(), dataset=dataset.name, split=split)
    return amend_bundle(predictor.bundle, {MAPS: found.dump()})


def explanations_markdown(figures: Mapping[str, Any]) -> str:
    """Metrics as Markdown tables."""
    head = f"`{figures['bundle']}` on {figures['dataset']}"
    parts = []
    boxes = figures["boxes"]
    if boxes is not None:
        for split, found in boxes["splits"].items():
            rows = [
                (name, *(_share(row[metric]) for metric in ("pointing", "iou", "inside")))
                for name, row in found["methods"].items()
            ]
            title = f"{head}, boxes of `{split}`: {found['n']} findings, {found['patients']} patients"
            parts.append(_table(title, ("map", "pointing game", "IoU", "energy in the box"), rows))
    where = f"{head} `{figures['split']}`, {figures['n_maps']} maps"
    for part, title, metrics in _PARTS:
        rows = [(name, *(_share(row[metric]) for metric in metrics)) for name, row in figures[part].items()]
        if rows:
            parts.append(_table(f"{where}: {title}", ("", *metrics.values()), rows))
    check = figures["check"]
    parts.append(
        f"{where}: {check['withheld']} of {check['n']} withheld; least share on the chest of a frontal film "
        f"{check['frontal']:.3f} (from {check['n_frontal']} maps of {check['dataset'] or 'nothing'} "
        f"{check['split']}), on the body of a lateral one {check['lateral']:.3f} ({check['n_lateral']} maps)."
    )
    return "\n\n".join(parts) + "\n"


_PARTS: tuple[tuple[str, str, Mapping[str, str]], ...] = (
    ("agreement", "agreement", {"pearson": "Pearson", "iou_5": "IoU of the top 5 %", "iou_20": "top 20 %"}),
    (
        "faithfulness",
        "areas",
        {"deletion": "deletion (low is good)", "insertion": "insertion (high is good)"},
    ),
    ("lungs", "energy on frontal films", {"lungs": "in the lungs", "chest": "on the chest"}),
    ("randomised", "after randomising", {"pearson": "Pearson with the bundle's own map"}),
)


def _share(found: Mapping[str, float | None]) -> str:
    if found["mean"] is None:
        return "-"
    return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (header, ["---"] * len(header), *rows)
    return f"{title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)
