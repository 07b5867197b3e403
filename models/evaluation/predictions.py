"""Labelled predictions: the studies of a split with their labels and a bundle's predictions.

Every metric and every plot is made from them.
"""

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
class LabelColumn:
    """One label over the studies for which the data set knows it.

    Attributes
    ----------
    key
        Key of the label.
    rows
        Shape (n,): row numbers of these studies in the sample.
    truth, present
        Shape (n,): label in the data set, and label reported by the bundle.
    scores
        Shape (n,), in [0, 1].
    probabilities
        Shape (n,), in [0, 1]; None for a label without a calibration.
    threshold
        Threshold of reporting, on the scale of the probability when there is one, else of the score.
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
        """Values that the threshold is compared with: probabilities, or scores without a calibration."""
        return self.scores if self.probabilities is None else self.probabilities

    def within(self, chosen: BoolArray) -> LabelColumn:
        """Same label over a subset of the studies.

        Parameters
        ----------
        chosen
            Subset, shape (studies of the sample,).
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
class LabelledPredictions:
    """Studies of a split with labels and predictions.

    Attributes
    ----------
    studies
        Studies in the order of the rows.
    patients
        Shape (studies,): number of each study's patient, from 0; the unit of the bootstrap.
    columns
        Columns of the labels, in the bundle's order, without labels that the data set does not have.
    unknown_labels
        Keys of the labels that the data set does not have.

    Raises
    ------
    DatasetError
        If there is no study, or the data set has none of the labels.
    """

    studies: tuple[LabelledStudy, ...]
    patients: NDArray[np.intp]
    columns: tuple[LabelColumn, ...]
    unknown_labels: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.studies:
            raise DatasetError("there is no study to evaluate")
        if not self.columns:
            raise DatasetError(
                f"the data set has none of the bundle's labels ({', '.join(self.unknown_labels)}): "
                "evaluate the bundle on another one"
            )

    def column(self, key: str) -> LabelColumn | None:
        """Column of a label; None when it is not measured here."""
        return next((column for column in self.columns if column.key == key), None)


def join_predictions(
    keys: tuple[str, ...], studies: tuple[LabelledStudy, ...], predictions: Sequence[Prediction]
) -> LabelledPredictions:
    """Join predictions with labels.

    Parameters
    ----------
    keys
        Keys of the bundle, in the order of the predictions' findings.
    predictions
        One prediction for each study.

    Raises
    ------
    DatasetError
        If there is no study, or the data set has none of the labels.
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
    return LabelledPredictions(
        studies=studies,
        patients=np.array([numbers[study.patient] for study in studies], dtype=np.intp),
        columns=columns,
        unknown_labels=tuple(key for key in keys if key not in measured),
    )


def _column(
    key: str, number: int, rows: NDArray[np.intp], truth: BoolArray, predictions: Sequence[Prediction]
) -> LabelColumn:
    findings = [predictions[row].findings[number] for row in rows]
    probabilities = [finding.probability for finding in findings if finding.probability is not None]
    return LabelColumn(
        key=key,
        rows=rows,
        truth=truth[rows],
        present=np.array([finding.present for finding in findings], dtype=bool),
        scores=np.array([finding.score for finding in findings], dtype=np.float64),
        # A bundle calibrates a label for all studies or for none.
        probabilities=np.array(probabilities) if len(probabilities) == len(findings) else None,
        threshold=findings[0].threshold,
    )
