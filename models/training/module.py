"""The Lightning module: one network, one loss, one schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import lightning
import timm.optim
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.distributions import Beta

from models.architectures.convnet import ConvNet
from models.architectures.interface import Batch, Network, Output
from models.evaluation.metrics import macro_auc
from models.text.tokenizer import Tokens
from models.training.losses import LabelLoss
from models.training.recipe import Recipe

#: Share of the batches that mixup is applied to, where it is asked for.
MIXED = 0.5


@dataclass(frozen=True, slots=True)
class TrainingTargets:
    """Training targets: labels, reports and texts of the training studies.

    Attributes
    ----------
    truth
        Shape (studies, outputs): 0, 1, or NaN where unknown.
    columns
        Ranges of outputs; the loss is averaged within each, and they count alike.
    reports
        Shape (reports, width): embeddings of reports; None without alignment.
    target
        Shape (reports, reports): share of each report in a film's target; rows sum to 1.
    report_of
        Shape (studies,): row of a study's report, or -1.
    tokens
        Texts of the studies, for a network that reads them.
    """

    truth: Tensor
    columns: tuple[slice, ...]
    reports: Tensor | None = None
    target: Tensor | None = None
    report_of: Tensor | None = None
    tokens: Tokens | None = None


class FindingsModule(lightning.LightningModule):
    """Multi-label training, with films aligned to reports where the recipe asks for it.

    Parameters
    ----------
    network
        Network whose head is as wide as the truth.
    recipe
        Schedule and preprocessing.
    targets
        Labels, reports and texts of the training studies.
    truth_val
        Shape (studies, outputs): 0, 1, or NaN where a label is not covered.
    tokens_val
        Texts of the validation studies.
    findings
        Number of columns, from the first, that the bundle predicts.
    augment
        Augmentation of a batch of standardised films.
    """

    def __init__(
        self,
        network: Network,
        recipe: Recipe,
        *,
        targets: TrainingTargets,
        truth_val: Tensor,
        tokens_val: Tokens | None = None,
        findings: int,
        augment: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.network = network
        self.recipe = recipe
        self.findings = findings
        self.augment = augment
        self.preprocessing = recipe.preprocessing.build()
        # Not buffers: the labels of the studies are no part of a checkpoint.
        self.targets = targets
        self.truth_val = truth_val
        self.tokens_val = tokens_val
        self.label_loss = LabelLoss(recipe.loss, targets.truth, targets.columns)
        self.seen: list[tuple[Tensor, Tensor]] = []
        # Inverse temperature (log) of the softmax over reports, learnt as in CLIP (Radford et al. 2021).
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def answer(self, films: Tensor, size: int, tokens: Tokens | None = None) -> Output:
        """Output of the network for standardised films at an input size, with their studies' texts."""
        images = self.preprocessing.resized(size).tensor(films)
        return cast("Output", self.network(Batch(images, tokens)))

    def training_step(self, batch: tuple[Tensor, Tensor], _index: int) -> Tensor:
        """Loss of one batch of films, each labelled as its study."""
        films, study = batch
        size = self.recipe.size_at(self.current_epoch)
        # Resized before the augmentation, which then has fewer pixels to move.
        small = F.interpolate(films[:, None], (size, size), mode="bilinear", antialias=True)[:, 0]
        varied = self.augment(small)
        mixup = self.recipe.augmentation.mixup
        if mixup and torch.rand(()) < MIXED:
            loss = self._mixed_loss(varied, study, size, float(Beta(mixup, mixup).sample()))
        else:
            output = self.answer(varied, size, self.text_of(study))
            loss = self.loss_of(output, study, self.recipe.study_weight)
        self.log("loss", loss, prog_bar=True)
        return loss

    def _mixed_loss(self, films: Tensor, study: Tensor, size: int, share: float) -> Tensor:
        """Loss of films blended in pairs of two studies (mixup, Zhang et al. 2018)."""
        other = torch.randperm(len(films), device=films.device)
        output = self.answer(share * films + (1 - share) * films[other], size)
        return share * self.loss_of(output, study) + (1 - share) * self.loss_of(output, study[other])

    def loss_of(self, output: Output, study: Tensor, study_weight: float = 0.0) -> Tensor:
        """Loss of an answer to films of some studies.

        Parameters
        ----------
        study
            Shape (films,): number of each film's study.
        study_weight
            Share that is measured on the mean over a study's films.
        """
        truth = self.targets.truth.to(study.device)
        scores = output.logits.float().sigmoid()
        loss = (1 - study_weight) * self.label_loss(scores, truth[study])
        if study_weight:
            studies, position = study.unique(return_inverse=True)
            mean = mean_by(scores, position, len(studies))
            loss = loss + study_weight * self.label_loss(mean, truth[studies])
        if self.recipe.alignment is not None:
            aligned = self.alignment_loss(output.image_embedding, study)
            loss = loss + self.recipe.alignment.weight * aligned
        return loss

    def text_of(self, study: Tensor) -> Tokens | None:
        """Texts of some studies, some of them withheld; None where the network reads none."""
        if self.targets.tokens is None:
            return None
        tokens = self.targets.tokens.rows(study.tolist())
        told = torch.rand(len(study), 1) >= self.recipe.text_dropout
        return Tokens(tokens.input_ids, tokens.attention_mask * told).to(study.device)

    def alignment_loss(self, embedding: Tensor, study: Tensor) -> Tensor:
        """Cross-entropy of each film's similarity to all reports, against its target."""
        targets = self.targets
        assert targets.reports is not None  # made with the recipe's [alignment]
        assert targets.target is not None
        assert targets.report_of is not None
        row = targets.report_of.to(study.device)[study]
        places = cast("ConvNet", self.network).embed_text(targets.reports.to(study.device))
        logits = embedding[row >= 0] @ places.T * self.log_scale.clamp(max=math.log(100)).exp()
        return F.cross_entropy(logits, targets.target.to(study.device)[row[row >= 0]])

    def validation_step(self, batch: tuple[Tensor, Tensor], _index: int) -> None:
        """Collect scores at the size at which the bundle will serve."""
        films, study = batch
        tokens = None if self.tokens_val is None else self.tokens_val.rows(study.tolist()).to(films.device)
        logits = self.answer(films, self.preprocessing.size, tokens).logits[:, : self.findings]
        self.seen.append((logits.float().sigmoid().cpu(), study.cpu()))

    def on_validation_epoch_end(self) -> None:
        """Log loss and macro AUC of the studies, a study's score being the mean over its films."""
        scores, study = (torch.cat(parts) for parts in zip(*self.seen, strict=True))
        self.seen.clear()
        truth = self.truth_val[:, : self.findings]
        mean = mean_by(scores, study, len(truth))
        known = ~truth.isnan()
        self.log("val_loss", F.binary_cross_entropy(mean[known], truth[known]), prog_bar=True)
        # Before the first epoch a few films are scored to see that it works; no label has positives then.
        if not self.trainer.sanity_checking:
            self.log("val_auc", macro_auc(truth.numpy(), mean.numpy()), prog_bar=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Optimizer and schedule of the recipe; biases and norms do not decay, frozen weights stay out."""
        table = self.recipe.optimizer
        groups = timm.optim.param_groups_weight_decay(self, table.weight_decay)
        kind = torch.optim.AdamW if table.name == "adamw" else torch.optim.Adam
        optimizer = kind(groups, lr=table.learning_rate)
        steps = int(self.trainer.estimated_stepping_batches)
        schedules = torch.optim.lr_scheduler
        if table.schedule == "plateau":
            falling = schedules.ReduceLROnPlateau(optimizer, factor=0.1, patience=2)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": falling, "monitor": "val_loss"}}
        schedule: torch.optim.lr_scheduler.LRScheduler
        if table.schedule == "one_cycle":
            schedule = schedules.OneCycleLR(
                optimizer, max_lr=table.learning_rate, total_steps=steps, pct_start=table.warmup
            )
        elif table.schedule == "cosine":
            schedule = schedules.CosineAnnealingLR(optimizer, T_max=steps)
        else:
            schedule = schedules.ConstantLR(optimizer, factor=1.0)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def mean_by(values: Tensor, group: Tensor, groups: int) -> Tensor:
    """Mean of the rows of each group, shape (groups, width)."""
    total = torch.zeros(groups, values.shape[1], device=values.device).index_add_(0, group, values)
    return total / torch.bincount(group, minlength=groups).clamp(min=1)[:, None]
