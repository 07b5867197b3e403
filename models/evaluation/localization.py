"""Whether heat maps lie where the finding is: the boxes that radiologists drew on ChestX-ray14.

Pointing game (Zhang et al. 2018), without tolerance: does the highest pixel lie in a box of the finding. A
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
from models.evaluation.bootstrap import draw, interval
from models.explain import heatmaps
from models.processing.lungs import find_lungs
from models.processing.map_check import coarse
from models.processing.types import FloatArray

Mask = NDArray[np.bool_]

#: What needs no model: the middle of the film, and a pixel of the lungs as likely as any other.
BASELINES = ("centre of the film", "lung mask")
_METRICS = ("pointing", "iou", "inside")


@dataclass(frozen=True, slots=True)
class Case:
    """One finding with boxes on one film."""

    study: LabelledStudy
    split: str
    key: str
    boxes: tuple[Box, ...]


def cases_of(dataset: FilmDataset, root: Path) -> tuple[Case, ...]:
    """Read all findings that have boxes, in the order of splits and films."""
    boxes = read_boxes(root)
    return tuple(
        Case(study, split, key, tuple(box for box in boxes[study.films[0].name] if box.key == key))
        for split, studies in dataset.studies.items()
        for study in studies
        for key in dict.fromkeys(box.key for box in boxes.get(study.films[0].name, ()))
    )


def measure_places(
    predictor: Predictor,
    cases: Sequence[Case],
    methods: Sequence[str],
    progress: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Measure maps against boxes.

    Returns
    -------
    dict
        ``n_boxes`` and ``n_cases``; ``without_label``: boxes of findings that the bundle has not; ``splits``:
        by split and ``all``: ``n``, ``patients``, ``methods``. Of each method and baseline: ``pointing``,
        share of cases; ``iou``: of the boxes and as many highest pixels; ``inside``: share of the energy in
        the boxes; each as a table of ``mean`` and its 95 % interval over patients, ``low`` and ``high``.
    """
    keys = {label.key for label in predictor.labels}
    asked = [case for case in cases if case.key in keys]
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in (*methods, *BASELINES)}
    for case in asked:
        study = case.study.load()
        pixels = study.films[0].pixels
        mask = box_mask(case.boxes, (pixels.shape[0], pixels.shape[1]))
        (reading,) = predictor.read([study])
        for method in methods:
            (one,) = heatmaps(predictor, reading, [case.key], films=[0], method=method)
            rows[method].append(against(one.values, mask))
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
    """Pixels whose middle lies in a box; the one in its middle where it is smaller than a pixel."""
    rows, columns = shape
    mask = np.zeros(shape, bool)
    y, x = (np.arange(rows) + 0.5) / rows, (np.arange(columns) + 0.5) / columns
    for box in boxes:
        down, across = (y >= box.y) & (y < box.y + box.height), (x >= box.x) & (x < box.x + box.width)
        mask |= down[:, None] & across[None]
        middle = box.y + box.height / 2, box.x + box.width / 2
        mask[min(int(middle[0] * rows), rows - 1), min(int(middle[1] * columns), columns - 1)] = True
    return mask


def against(values: FloatArray, mask: Mask) -> dict[str, float]:
    """One map against one mask of the same shape; a map of zeros points nowhere."""
    total = float(values.sum())
    if total <= 0:
        return dict.fromkeys(_METRICS, 0.0)
    top = highest(values, int(mask.sum()))
    return {
        "pointing": float(mask.ravel()[int(values.argmax())]),
        "iou": overlap(top, mask),
        "inside": float(values[mask].sum()) / total,
    }


def highest(values: FloatArray, count: int) -> Mask:
    """So many of a map's highest pixels, but none that is 0; of equal ones the first."""
    flat = values.ravel()
    chosen = np.zeros(flat.size, bool)
    chosen[np.argsort(-flat, kind="stable")[:count]] = True
    return (chosen & (flat > 0)).reshape(values.shape)


def overlap(one: Mask, other: Mask) -> float:
    """Intersection over union; 0 when both are empty."""
    return float((one & other).sum() / max(1, int((one | other).sum())))


def _baselines(pixels: FloatArray, mask: Mask) -> tuple[dict[str, float], dict[str, float]]:
    rows, columns = mask.shape
    y, x = np.mgrid[:rows, :columns]
    near = 1 - np.hypot((y + 0.5) / rows - 0.5, (x + 0.5) / columns - 0.5)
    centre = against(near.astype(np.float32), mask)
    centre["inside"] = float(mask.mean())  # that of a map that is even over the film
    lungs = find_lungs(pixels).lungs
    share = coarse(mask.astype(np.float32))
    # A pixel of the lungs, each as likely: how often it lies in the box, and so the energy of their mask.
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
            method: {metric: mean([found[row][metric] for row in kept], names) for metric in _METRICS}
            for method, found in rows.items()
        },
    }


def mean(values: Sequence[float], patients: Sequence[str]) -> dict[str, float]:
    """Mean and its 95 % interval, whole patients being drawn."""
    numbers = {patient: number for number, patient in enumerate(dict.fromkeys(patients))}
    weights = draw(np.array([numbers[patient] for patient in patients]))
    column = np.array(values)[:, None]
    drawn = (weights * column).sum(axis=0) / np.maximum(weights.sum(axis=0), 1)
    low, high = interval(drawn.astype(np.float64))
    return {"mean": float(np.mean(values)), "low": low, "high": high}
