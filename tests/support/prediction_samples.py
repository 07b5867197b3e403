"""Samples with given truths and scores, for the tests of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from models.data.dataset import LabelledStudy
from models.evaluation.predictions import Column, Sample


def labelled_study(number: int, keys: Sequence[str] = (), **facts) -> LabelledStudy:
    """A study without films; every one of another patient."""
    return LabelledStudy(
        identifier=str(number),
        patient=str(number),
        films=(Path(f"{number}.png"),),
        keys=frozenset(keys),
        headings=None,
        **facts,
    )


def sample(
    truth: Mapping[str, Sequence[bool]],
    scores: Mapping[str, Sequence[float]],
    *,
    calibrated: Sequence[str] = (),
    threshold: float = 0.5,
    studies: Sequence[LabelledStudy] | None = None,
    patients: Sequence[int] | None = None,
    rows: Mapping[str, Sequence[int]] | None = None,
) -> Sample:
    """A sample of the labels that are given; a calibrated one has its score for a probability."""
    count = max(len(column) for column in truth.values())
    columns = []
    for key, column in truth.items():
        values = np.array(scores[key], dtype=float)
        columns.append(
            Column(
                key=key,
                rows=np.array((rows or {}).get(key, range(count)), dtype=np.intp),
                truth=np.array(column, dtype=bool),
                present=values >= threshold,
                scores=values,
                probabilities=values if key in calibrated else None,
                threshold=threshold,
            )
        )
    return Sample(
        studies=tuple(studies or (labelled_study(number) for number in range(count))),
        patients=np.array(range(count) if patients is None else patients, dtype=np.intp),
        columns=tuple(columns),
        unspoken=(),
    )
