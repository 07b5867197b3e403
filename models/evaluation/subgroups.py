"""The same figures for parts of the patients: by view, sex, age, manufacturer, where the data set knows them.

A subgroup has labels of its own with enough positives, so its macro AUC stands beside that of all studies
over the same labels; only these two may be compared.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from models.data.dataset import LabelledStudy
from models.evaluation import metrics
from models.evaluation.bootstrap import follow
from models.evaluation.metrics import BoolArray, Curve, Weights
from models.evaluation.metrics_summary import abnormality, enough, known, macro, measured
from models.evaluation.predictions import Column, Sample

UNKNOWN = "unknown"

#: Lower ends of the age bands, in years.
AGES = (0, 20, 40, 60, 80)


def views(study: LabelledStudy) -> str:
    """Which views the study holds."""
    seen = set(study.views)
    if not seen or not seen <= {"frontal", "lateral"}:
        return UNKNOWN
    return f"{seen.pop()} only" if len(seen) == 1 else "frontal and lateral"


def age_band(study: LabelledStudy) -> str:
    """Band of the patient's age, which is known in whole years or not at all."""
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


#: What studies are divided by -> the subgroup of a study. ``projection`` is the way of the rays, AP or PA.
DIVISIONS: dict[str, Callable[[LabelledStudy], str]] = {
    "view": views,
    "projection": _fact("view"),
    "sex": _fact("sex"),
    "age": age_band,
    "manufacturer": _fact("manufacturer"),
    "photometric": _fact("photometric"),
}


def subgroups(sample: Sample, weights: Weights) -> dict[str, dict[str, dict[str, Any]]]:
    """Measure every subgroup.

    Parameters
    ----------
    weights
        Of the bootstrap, shape (studies, resamplings): the drawings of the whole split.

    Returns
    -------
    dict
        Division -> subgroup -> ``n_studies``, ``n_patients``, ``macro`` over the labels with enough positives
        there, with ``auc_everyone`` of all studies over the same labels, and ``abnormal``, as
        :func:`models.evaluation.metrics_summary.abnormality` gives it, or None with too few of a kind. A
        division of which the data set knows nothing is left out.
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


def _subgroup(sample: Sample, weights: Weights, chosen: BoolArray) -> dict[str, Any]:
    inside = {column.key: column.within(chosen) for column in sample.columns}
    keys = enough(inside.values())
    everyone = [column for column in sample.columns if column.key in keys]
    drawn = [
        follow(inside[key].truth, inside[key].scores, weights[inside[key].rows], Curve.auc)[0] for key in keys
    ]
    return {
        "n_studies": int(chosen.sum()),
        "n_patients": len(np.unique(sample.patients[chosen])),
        "macro": {
            "n_labels": len(keys),
            **measured("auc", _mean_auc([inside[key] for key in keys]), macro(drawn)),
            "auc_random": 0.5,
            "auc_everyone": known(_mean_auc(everyone)),
        },
        "abnormal": _told(abnormality(sample, weights, chosen)),
    }


def _told(found: dict[str, Any] | None) -> dict[str, Any] | None:
    # As with the labels: on fewer studies of a kind the figure is mostly chance.
    few = found is None or min(found["n_abnormal"], found["n_normal"]) < metrics.FEWEST_POSITIVES
    return None if few else found


def _mean_auc(columns: Sequence[Column]) -> float:
    areas = [metrics.auc(column.truth, column.scores) for column in columns]
    return float(np.mean(areas)) if areas else math.nan
