"""Similarity of reports: the text side of the alignment of films with reports."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor


def likeness(reports: Tensor, headings: Tensor) -> Tensor:
    """Similarity of any two reports, shape (n, n), at most 1.

    Half of it is the cosine of their sentences about the mean report, half the share of headings that both
    have among those that either has (Jaccard).

    Parameters
    ----------
    reports
        Shape (n, width).
    headings
        Shape (n, headings), 0 or 1.
    """
    centred = F.normalize(reports - reports.mean(dim=0), dim=1)
    both = headings @ headings.T
    count = headings.sum(dim=1)
    either = (count[:, None] + count[None] - both).clamp(min=1)
    return (centred @ centred.T + both / either) / 2
