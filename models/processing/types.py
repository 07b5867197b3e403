"""Input and output types of the models, in the models' own vocabulary.

Nothing here knows DICOM: a :class:`Film` is an array with a name that its caller chose, and a
:class:`Prediction` holds numbers by vocabulary key. ``worker/report.py`` is the only place that
translates a prediction into DICOM terms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Film:
    """One radiograph.

    Attributes
    ----------
    identifier
        The caller's name for the film, unique in its study (the SOP Instance UID in the node).
    pixels
        Shape (rows, columns), float32 in [0, 1], lungs dark (the MONOCHROME2 sense, PS3.3 C.7.6.3.1.2).

    Raises
    ------
    ValueError
        If the array has another shape, type or range, or holds a value that is not finite.
    """

    identifier: str
    pixels: FloatArray

    def __post_init__(self) -> None:
        pixels = self.pixels
        if pixels.ndim != 2 or pixels.dtype != np.float32 or 0 in pixels.shape:
            raise ValueError(
                f"film {self.identifier}: pixels are {pixels.dtype} {pixels.shape}, not float32 "
                "(rows, columns)"
            )
        low, high = float(pixels.min()), float(pixels.max())
        # NaN fails both comparisons, so this also rejects values that are not finite.
        if not (low >= 0.0 and high <= 1.0):
            raise ValueError(f"film {self.identifier}: pixels range from {low} to {high}, not within [0, 1]")


@dataclass(frozen=True, slots=True)
class Study:
    """The films that are read together, and the text that may be read with them.

    Attributes
    ----------
    films
        At least one.
    text
        Indication or history, never the conclusion that is to be predicted; None when there is none.
    """

    films: tuple[Film, ...]
    text: str | None = None

    def __post_init__(self) -> None:
        if not self.films:
            raise ValueError("a study without films cannot be read")


@dataclass(frozen=True, slots=True)
class Identity:
    """Identity of a bundle: enough to find exactly the same weights again.

    Attributes
    ----------
    name, version
        Name and version of the bundle.
    weights_sha256
        SHA-256 of ``weights.safetensors``, in lower-case hexadecimal.
    preprocessing
        Short hash of the ``[preprocessing]`` table.
    calibration
        Short hash of ``calibration.json``; empty for a bundle without calibration.
    """

    name: str
    version: str
    weights_sha256: str
    preprocessing: str
    calibration: str


@dataclass(frozen=True, slots=True)
class FindingScore:
    """Score of one label for one study.

    Attributes
    ----------
    key
        Key of the label in the vocabulary.
    score
        Uncalibrated sigmoid output in [0, 1], the mean over the study's films.
    probability
        Calibrated probability in [0, 1]; None when the label has no calibration, for a score is not
        a probability until it is calibrated.
    threshold
        On the same scale as `probability` when there is one, else on that of `score`.
    present
        True when that value reaches the threshold.
    film_scores
        The uncalibrated score of each film, in the order of the study's films.
    interval
        Confidence interval of `probability` at 95 %, low and high
        (:meth:`models.labels.calibration.LabelCalibration.interval`); None where the calibration gives none.
    """

    key: str
    score: float
    probability: float | None
    threshold: float
    present: bool
    film_scores: tuple[float, ...]
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prediction:
    """Prediction of one bundle for one study.

    Attributes
    ----------
    identity
        The bundle.
    findings
        One per label, in the bundle's order.
    embedding
        Shape (width,), float32, unit length; None for a bundle without an embedding.
    """

    identity: Identity
    findings: tuple[FindingScore, ...]
    embedding: FloatArray | None
