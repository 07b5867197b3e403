"""The Lightning module: one network, one loss, one schedule."""

from __future__ import annotations

from collections.abc import Callable

import lightning
import numpy as np
import timm.optim
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from models.architectures import Batch, Network
from models.evaluation.metrics import macro_auc
from models.training.recipe import Recipe


class FindingsModule(lightning.LightningModule):
    """Multi-label training with binary cross-entropy over findings and auxiliary headings.

    Parameters
    ----------
    network
        Its head is as wide as `truth_train`.
    recipe
        Schedule and preprocessing.
    truth_train, truth_val
        Shape (studies, findings + auxiliary headings), 0 or 1.
    findings
        How many of the columns are findings.
    augment
        Varies a batch of standardised films.

    Attributes
    ----------
    history
        Validation macro AUC over the findings, by epoch.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        *,
        truth_train: Tensor,
        truth_val: Tensor,
        findings: int,
        augment: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.findings = findings
        self.augment = augment
        self.preprocessing = recipe.preprocessing.build()
        # Not buffers: what a study is labelled with is no part of a checkpoint.
        self.truth_train = truth_train
        self.truth_val = truth_val
        self.seen: list[tuple[Tensor, Tensor]] = []

    def scores(self, films: Tensor, size: int) -> Tensor:
        """Logits of standardised films at an input size."""
        logits: Tensor = self.network(Batch(self.preprocessing.resized(size).tensor(films))).logits
        return logits

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        """Loss of one batch of films, each labelled as its study."""
        films, study = batch
        logits = self.scores(self.augment(films), self.recipe.size_at(self.current_epoch))
        loss = F.binary_cross_entropy_with_logits(logits, self.truth_train[study])
        self.log("loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        """Collect scores at the size at which the bundle will serve."""
        films, study = batch
        logits = self.scores(films, self.preprocessing.size)[:, : self.findings]
        self.seen.append((logits.sigmoid(), study))

    def on_validation_epoch_end(self) -> None:
        """Log loss and macro AUC of the studies, a study's score being the mean over its films."""
        scores, study = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        self.seen.clear()
        truth = self.truth_val[:, : self.findings]
        total = torch.zeros_like(truth).index_add_(0, study, scores)
        mean = total / torch.bincount(study, minlength=len(truth)).clamp(min=1)[:, None]
        self.log("val_loss", F.binary_cross_entropy(mean, truth), prog_bar=True)
        # Before the first epoch a few films are scored to see that it works; no label has positives then.
        if not self.trainer.sanity_checking:
            self.log("val_auc", macro_auc(truth.numpy().astype(np.bool_), mean.numpy()), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW without decay of biases and norms, on one cycle over all steps."""
        table = self.recipe.optimizer
        groups = timm.optim.param_groups_weight_decay(self.network, table.weight_decay)
        optimizer = torch.optim.AdamW(groups, lr=table.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=table.learning_rate, total_steps=steps, pct_start=table.warmup
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
