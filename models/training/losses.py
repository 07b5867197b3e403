"""Training losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor

from models.training.recipe import LossTable

_EDGE = 1e-6
_HEAVIEST = 20.0


class LabelLoss:
    """Cross-entropy over what is known, averaged within ranges of outputs, then over the ranges.

    It takes scores and not logits, because a study's score is a mean of its films' scores.

    Parameters
    ----------
    table
        Form of the loss.
    truth
        Shape (studies, outputs): 0, 1 or NaN; class weights are counted here.
    columns
        Ranges of outputs that count alike, however many outputs they hold.
    """

    def __init__(self, table: LossTable, truth: Tensor, columns: tuple[slice, ...]) -> None:
        self.table = table
        self.columns = columns
        positives = truth.nansum(dim=0)
        negatives = (~truth.isnan()).sum(dim=0) - positives
        self.positive_weight = (
            (negatives / positives.clamp(min=1)).clamp(1, _HEAVIEST)
            if table.class_weights
            else torch.ones(truth.shape[1])
        )

    def __call__(self, scores: Tensor, truth: Tensor) -> Tensor:
        """Loss of some studies or films.

        Parameters
        ----------
        scores
            Shape (n, outputs), in [0, 1].
        truth
            Shape (n, outputs): 0, 1 or NaN.
        """
        known = ~truth.isnan()
        each = self._each(scores.clamp(_EDGE, 1 - _EDGE), truth.nan_to_num())
        means = [
            (each[:, part] * known[:, part]).sum() / known[:, part].sum().clamp(min=1)
            for part in self.columns
        ]
        return torch.stack(means).mean()

    def _each(self, scores: Tensor, truth: Tensor) -> Tensor:
        table = self.table
        entropy = F.binary_cross_entropy(scores, truth, reduction="none")
        if table.class_weights:
            entropy = entropy * torch.where(truth > 0, self.positive_weight.to(truth.device), 1.0)
        if table.kind == "bce":
            return entropy
        right = torch.where(truth > 0, scores, 1 - scores)
        balance = torch.where(truth > 0, table.alpha, 1 - table.alpha)
        focal = balance * (1 - right) ** table.gamma * entropy
        return focal if table.kind == "focal" else entropy + focal
