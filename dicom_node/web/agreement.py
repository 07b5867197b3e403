"""Agreement between raters beyond chance: Cohen's kappa of two, Fleiss' kappa of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


def cohen_kappa(first: Sequence[bool], second: Sequence[bool]) -> float | None:
    """Return Cohen's kappa (1960) of two raters' answers to the same cases.

    None without a case, or when both have given one and the same answer to all: chance then explains all.
    """
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.size == 0:
        return None
    observed = float((a == b).mean())
    by_chance = float(a.mean() * b.mean() + (1 - a.mean()) * (1 - b.mean()))
    return None if by_chance == 1 else (observed - by_chance) / (1 - by_chance)


@dataclass(frozen=True, slots=True)
class KappaEstimate:
    """Cohen's kappa with the limits of its 95 % interval."""

    kappa: float
    low: float
    high: float


def estimate_kappa(first: Sequence[bool], second: Sequence[bool]) -> KappaEstimate | None:
    """Return Cohen's kappa of two raters with its interval.

    None as in :func:`cohen_kappa`, and where one of them gave the same answer to all: kappa is then 0
    whatever the other says.

    The interval is that of the standard error for large samples (Fleiss, Cohen, Everitt: Large sample
    standard errors of kappa and weighted kappa, Psychol Bull 1969;72:323-7).
    """
    if (kappa := cohen_kappa(first, second)) is None:
        return None
    a, b = np.asarray(first, bool), np.asarray(second, bool)
    if a.all() or b.all() or not (a.any() and b.any()):
        return None
    shares = np.array([[(x & y).mean() for y in (b, ~b)] for x in (a, ~a)])
    rows, columns = shares.sum(axis=1), shares.sum(axis=0)
    by_chance = float(rows @ columns)
    agreed = np.diag(shares)
    on = float((agreed * (1 - (rows + columns) * (1 - kappa)) ** 2).sum())
    off = (1 - kappa) ** 2 * sum(
        float(shares[i, j] * (columns[i] + rows[j]) ** 2) for i, j in ((0, 1), (1, 0))
    )
    variance = (on + off - (kappa - by_chance * (1 - kappa)) ** 2) / ((1 - by_chance) ** 2 * a.size)
    margin = 1.959964 * max(variance, 0.0) ** 0.5
    return KappaEstimate(kappa, max(-1.0, kappa - margin), min(1.0, kappa + margin))


def fleiss_kappa(answers: Sequence[Sequence[bool]]) -> float | None:
    """Return Fleiss' kappa (1971) of the answers of several raters, shape (raters, cases).

    None for fewer than two raters, without a case, or when all answers are the same.
    """
    votes = np.asarray(answers, bool)
    if votes.ndim != 2 or votes.shape[0] < 2 or votes.shape[1] == 0:
        return None
    raters = votes.shape[0]
    present = votes.sum(axis=0)
    counts = np.stack([present, raters - present], axis=1)
    agreement = ((counts**2).sum(axis=1) - raters) / (raters * (raters - 1))
    shares = counts.sum(axis=0) / counts.sum()
    by_chance = float((shares**2).sum())
    return None if by_chance == 1 else (float(agreement.mean()) - by_chance) / (1 - by_chance)
