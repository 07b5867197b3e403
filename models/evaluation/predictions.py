"""A split with a bundle's answers beside its labels: what every figure and every plot is made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.data.dataset import LabelledStudy, targets
from models.errors import DatasetError
from models.evaluation.metrics import BoolArray, Values
from models.processing.types import Prediction


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One label over the studies of which the data set says whether it is true.

    Attributes
    ----------
    key
        Of the label.
    rows
        Shape (n,): which studies of the sample these are.
    truth, present
        Shape (n,): what the data set says, and what is reported.
    scores
        Shape (n,), in [0, 1].
    probabilities
        Shape (n,), in [0, 1]; None for a label without a calibration.
    threshold
        Of reporting, on the scale of the probability when there is one, else of the score.
    """

    key: str
    rows: NDArray[np.intp]
    truth: BoolArray
    present: BoolArray
    scores: Values
    probabilities: Values | None
    threshold: float

    @property
    def values(self) -> Values:
        """What the threshold is compared with."""
        return self.scores if self.probabilities is None else self.probabilities

    def within(self, chosen: BoolArray) -> Column:
        """The same label over some of the studies.

        Parameters
        ----------
        chosen
            Shape (studies of the sample,).
        """
        kept = chosen[self.rows]
        return replace(
            self,
            rows=self.rows[kept],
            truth=self.truth[kept],
            present=self.present[kept],
            scores=self.scores[kept],
            probabilities=None if self.probabilities is None else self.probabilities[kept],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """All of it.

    Attributes
    ----------
    studies
        In the order of the rows.
    patients
        Shape (studies,): number of each study's patient, from 0; the unit of the bootstrap.
    columns
        One a label, in the bundle's order, without the labels that the data set never speaks of.
    unspoken
        Keys of those.

    Raises
    ------
    DatasetError
        If there is no study, or the data set speaks of none of the labels.
    """

    studies: tuple[LabelledStudy, ...]
    patients: NDArray[np.intp]
    columns: tuple[Column, ...]
    unspoken: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.studies:
            raise DatasetError("there is no study to measure")
        if not self.columns:
            raise DatasetError(
                f"the data set speaks of none of the bundle's labels ({', '.join(self.unspoken)}): "
                "measure the bundle on another one"
            )

    def column(self, key: str) -> Column | None:
        """Column of a label; None when it is not measured here."""
        return next((column for column in self.columns if column.key == key), None)


def join(
    keys: tuple[str, ...], studies: tuple[LabelledStudy, ...], predictions: Sequence[Prediction]
) -> Sample:
    """Put answers beside labels.

    Parameters
    ----------
    keys
        Of the bundle, in the order of the predictions' findings.
    predictions
        One a study.

    Raises
    ------
    DatasetError
        As :class:`Sample` does.
    """
    numbers = {patient: number for number, patient in enumerate({study.patient: None for study in studies})}
    known = np.array([[study.knows(key) for key in keys] for study in studies], bool).reshape(-1, len(keys))
    truth = targets(studies, keys)
    columns = tuple(
        _column(key, number, np.flatnonzero(known[:, number]), truth[:, number], predictions)
        for number, key in enumerate(keys)
        if known[:, number].any()
    )
    measured = {column.key for column in columns}
    return Sample(
        studies=studies,
        patients=np.array([numbers[study.patient] for study in studies], dtype=np.intp),
        columns=columns,
        unspoken=tuple(key for key in keys if key not in measured),
    )


def _column(
    key: str, number: int, rows: NDArray[np.intp], truth: BoolArray, predictions: Sequence[Prediction]
) -> Column:
    findings = [predictions[row].findings[number] for row in rows]
    probabilities = [finding.probability for finding in findings if finding.probability is not None]
    return Column(
        key=key,
        rows=rows,
        truth=truth[rows],
        present=np.array([finding.present for finding in findings], dtype=bool),
        scores=np.array([finding.score for finding in findings], dtype=np.float64),
        # A bundle calibrates a label or does not; no study of it is treated differently.
        probabilities=np.array(probabilities) if len(probabilities) == len(findings) else None,
        threshold=findings[0].threshold,
    )
