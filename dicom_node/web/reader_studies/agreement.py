"""Agreement between raters beyond chance: Cohen's kappa of two, Fleiss' kappa of several."""

from __future__ import annotations

from collections.abc import Sequence

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
