"""Localization of findings by heat maps, against the boxes that radiologists drew on ChestX-ray14.

Pointing game (Zhang et al. 2018), without tolerance: a hit is a highest pixel inside a box of the finding. A
film with several boxes of one finding is one case.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundles.predictor import Predictor
from models.data.boxes import Box, read_boxes
from models.data.dataset import FilmDataset, LabelledStudy
from models.evaluation.bootstrap import percentile_interval, resampling_weights
from models.explain.methods import draw_heatmaps
from models.processing.lungs import find_lungs
from models.processing.map_check import coarse
from models.processing.types import FloatArray

Mask = NDArray[np.bool_]

#: Baselines without a model: the centre of the film, and a random pixel of the lungs.
BASELINES = ("centre of the film", "lung mask")
_METRICS = ("pointing", "iou", "inside")


@dataclass(frozen=True, slots=True)
class BoxedFinding:
    """A finding with boxes on one film: one case of the pointing game."""

    study: LabelledStudy
    split: str
    key: str
    boxes: tuple[Box, ...]


def boxed_findings(dataset: FilmDataset, root: Path) -> tuple[BoxedFinding, ...]:
    """All findings with boxes, in the order of splits and films."""
    boxes = read_boxes(root)
    return tuple(
        BoxedFinding(study, split, key, tuple(box for box in boxes[study.films[0].name] if box.key == key))
        for split, studies in dataset.studies.items()
        for study in studies
        for key in dict.fromkeys(box.key for box in boxes.get(study.films[0].name, ()))
    )


def measure_localization(
    predictor: Predictor,
    cases: Sequence[BoxedFinding],
    methods: Sequence[str],
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure heat maps against boxes.

    Returns
    -------
    dict
        ``n_boxes`` and ``n_cases``; ``without_label``: boxes of findings that the bundle does not have;
        ``splits``: by split and ``all``: ``n``, ``patients``, ``methods``. For each method and baseline:
        ``pointing``, share of cases; ``iou``: intersection over union of the boxes and equally many highest
        pixels; ``inside``: share of the energy in the boxes; each as a table of ``mean`` and its 95 %
        interval over patients, ``low`` and ``high``.
    """
    keys = {label.key for label in predictor.labels}
    asked = [case for case in cases if case.key in keys]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in (*methods, *BASELINES)}
    for case in asked:
        study = case.study.load()
        pixels = study.films[0].pixels
        mask = box_mask(case.boxes, (pixels.shape[0], pixels.shape[1]))
        (traced,) = predictor.trace([study])
        for method in methods:
            (one,) = draw_heatmaps(predictor, traced, [case.key], films=[0], method=method)
            rows[method].append(compare_with_mask(one.values, mask))
        for name, row in zip(BASELINES, _baselines(pixels, mask), strict=True):
            rows[name].append(row)
        progress()
    splits = [*dict.fromkeys(case.split for case in asked), "all"]
    left = [case for case in cases if case.key not in keys]
    return {
        "n_boxes": sum(len(case.boxes) for case in asked),
        "n_cases": len(asked),
        "without_label": sum(len(case.boxes) for case in left),
        "splits": {
            split: _summary(
                [case.study.patient for case in asked],
                rows,
                [split in ("all", case.split) for case in asked],
            )
            for split in splits
            if asked
        },
    }


def box_mask(boxes: Iterable[Box], shape: tuple[int, int]) -> Mask:
    """Mask of the pixels whose centre lies in a box; at least the pixel at the centre of each box."""
    rows, columns = shape
    mask = np.zeros(shape, bool)
    y, x = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
    for box in boxes:
        down, across = (y >= box.y) & (y < box.y + box.height), (x >= box.x) & (x < box.x + box.width)
        mask |= down[:, None] & across[None]
        middle = box.y + box.height / 2, box.x + box.width / 2
        mask[min(int(middle[0] * rows), rows - 1), min(int(middle[1] * columns), columns - 1)] = True
    return mask


def compare_with_mask(values: FloatArray, mask: Mask) -> dict[str, float]:
    """Metrics of one map against one mask of the same shape; all 0 for a map of zeros."""
    total = float(values.sum())
    if total <= 0:
        return dict.fromkeys(_METRICS, 0.0)
    top = highest_pixels(values, int(mask.sum()))
    return {
        "pointing": float(mask.ravel()[int(values.argmax())]),
        "iou": intersection_over_union(top, mask),
        "inside": float(values[mask].sum()) / total,
    }


def highest_pixels(values: FloatArray, count: int) -> Mask:
    """Mask of the `count` highest pixels of a map, without zeros; of equal values the first."""
    flat = values.ravel()
    chosen = np.zeros(flat.size, bool)
    chosen[np.argsort(-flat, kind="stable")[:count]] = True
    return (chosen & (flat > 0)).reshape(values.shape)


def intersection_over_union(one: Mask, other: Mask) -> float:
    """Intersection over union; 0 when both are empty."""
    return float((one & other).sum() / max(1, int((one | other).sum())))


def _baselines(pixels: FloatArray, mask: Mask) -> tuple[dict[str, float], dict[str, float]]:
    rows, columns = mask.shape
    y, x = np.mgrid[:rows, :columns]
    near = 1 - np.hypot((y + 0.5) / rows - 0.5, (x + 0.5) / columns - 0.5)
    centre = compare_with_mask(near.astype(np.float32), mask)
    centre["inside"] = float(mask.mean())  # that of a constant map
    lungs = find_lungs(pixels).lungs
    share = coarse(mask.astype(np.float32))
    # Probability that a random pixel of the lungs lies in the box, equal to the energy of their mask there.
    inside = float(share[lungs].sum() / max(1, int(lungs.sum())))
    iou = float(share[lungs].sum() / max(1e-9, float(lungs.sum()) + float(share[~lungs].sum())))
    return centre, {"pointing": inside, "iou": iou, "inside": inside}


def _summary(
    patients: Sequence[str], rows: Mapping[str, Sequence[Mapping[str, float]]], chosen: Sequence[bool]
) -> dict[str, Any]:
    kept = [row for row, keep in enumerate(chosen) if keep]
    names = [patients[row] for row in kept]
    return {
        "n": len(kept),
        "patients": len(set(names)),
        "methods": {
            method: {
                metric: mean_with_interval([found[row][metric] for row in kept], names) for metric in _METRICS
            }
            for method, found in rows.items()
        },
    }


def mean_with_interval(values: Sequence[float], patients: Sequence[str]) -> dict[str, float]:
    """Mean and its 95 % interval, by the bootstrap over patients."""
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    weights = resampling_weights(np.array([numbers[patient] for patient in patients]))
    column = np.array(values)[:, None]
    drawn = (weights * column).sum(axis=0) / np.maximum(weights.sum(axis=0), 1)
    low, high = percentile_interval(drawn.astype(np.float64))
    return {"mean": float(np.mean(values)), "low": low, "high": high}
