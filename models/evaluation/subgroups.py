"""Subgroup metrics: by view, sex, age and manufacturer, where the data set knows them.

A subgroup has its own labels with enough positives, so its macro AUC stands beside that of all studies over
the same labels; only these two may be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.data.dataset import LabelledStudy
from models.evaluation import metrics
from models.evaluation.bootstrap import resample_curve
from models.evaluation.metrics import BoolArray, ThresholdCurve, Weights
from models.evaluation.metrics_summary import (
    abnormality_metrics,
    macro_mean,
    measurable_labels,
    nan_to_none,
    with_interval,
)
from models.evaluation.predictions import LabelColumn, LabelledPredictions

UNKNOWN = "unknown"

#: Lower ends of the age bands, in years.
AGES = (0, 20, 40, 60, 80)


def view_group(study: LabelledStudy) -> str:
    """Subgroup of a study by the views that it holds."""
    seen = set(study.views)
    if not seen or not seen <= {"frontal", "lateral"}:
        return UNKNOWN
    return f"{seen.pop()} only" if len(seen) == 1 else "frontal and lateral"


def age_band(study: LabelledStudy) -> str:
    """Subgroup of a study by the patient's age in whole years."""
    age = study.facts.get("age", "")
    if not (age.isascii() and age.isdecimal()):
        return UNKNOWN
    band = max(number for number, low in enumerate(AGES) if low <= int(age))
    return (
        f"{AGES[band]} years and over"
        if band == len(AGES) - 1
        else f"{AGES[band]} to {AGES[band + 1] - 1} years"
    )


def _fact(name: str) -> Callable[[LabelledStudy], str]:
    return lambda study: " ".join(study.facts.get(name, "").split()) or UNKNOWN


#: Division -> function that gives the subgroup of a study. ``projection`` is the ray direction, AP or PA.
DIVISIONS: dict[str, Callable[[LabelledStudy], str]] = {
    "view": view_group,
    "projection": _fact("view"),
    "sex": _fact("sex"),
    "age": age_band,
    "manufacturer": _fact("manufacturer"),
    "photometric": _fact("photometric"),
}


def subgroup_metrics(sample: LabelledPredictions, weights: Weights) -> dict[str, dict[str, dict[str, Any]]]:
    """Compute the metrics of every subgroup.

    Parameters
    ----------
    weights
        Weights of the bootstrap for the whole split, shape (studies, resamplings).

    Returns
    -------
    dict
        Division -> subgroup -> ``n_studies``, ``n_patients``, ``macro`` over the labels with enough positives
        there, with ``auc_everyone`` of all studies over the same labels, and ``abnormal``, as
        :func:`models.evaluation.metrics_summary.abnormality_metrics` gives it, or None with too few of a
        kind. A division that the data set does not know is left out.
    """
    found = {}
    for name, of in DIVISIONS.items():
        groups = np.array([of(study) for study in sample.studies])
        if (groups != UNKNOWN).any():
            found[name] = {
                str(group): _subgroup(sample, weights, groups == group) for group in _ordered(groups.tolist())
            }
    return found


def _ordered(groups: Sequence[str]) -> list[str]:
    return sorted(set(groups), key=lambda group: (group == UNKNOWN, group))


def _subgroup(sample: LabelledPredictions, weights: Weights, chosen: BoolArray) -> dict[str, Any]:
    inside = {column.key: column.within(chosen) for column in sample.columns}
    keys = measurable_labels(inside.values())
    everyone = [column for column in sample.columns if column.key in keys]
    drawn = [
        resample_curve(inside[key].truth, inside[key].scores, weights[inside[key].rows], ThresholdCurve.auc)[
            0
        ]
        for key in keys
    ]
    return {
        "n_studies": int(chosen.sum()),
        "n_patients": len(np.unique(sample.patients[chosen])),
        "macro": {
            "n_labels": len(keys),
            **with_interval("auc", _mean_auc([inside[key] for key in keys]), macro_mean(drawn)),
            "auc_random": 0.5,
            "auc_everyone": nan_to_none(_mean_auc(everyone)),
        },
        "abnormal": _told(abnormality_metrics(sample, weights, chosen)),
    }


def _told(found: dict[str, Any] | None) -> dict[str, Any] | None:
    # As with the labels: with fewer studies of a kind the metric is mostly chance.
    few = found is None or min(found["n_abnormal"], found["n_normal"]) < metrics.FEWEST_POSITIVES
    return None if few else found


def _mean_auc(columns: Sequence[LabelColumn]) -> float:
    areas = [metrics.auc(column.truth, column.scores) for column in columns]
    return float(np.mean(areas)) if areas else math.nan
