"""Parts of the training that a lever replaces: losses, targets, and how a network answers."""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn

from models.architectures.convnet import ConvNet
from models.architectures.interface import Batch, Output
from models.data.dataset import LabelledStudy
from models.text.tokenizer import Tokenizer
from models.training import label_plan
from models.training.initial_weights import InitialNetwork, initial_network
from models.training.label_plan import LabelPlan
from models.training.losses import LabelLoss
from models.training.module import FindingsModule, TrainingTargets, mean_by
from models.training.recipe import LossTable, Recipe

_DOUBT = re.compile(
    r"\b(versus|vs|or|probabl[ey]|possibl[ey]|may|might|could|likely|borderline|suspect\w*|suggest\w*|question\w*"
    r"|cannot exclude|differential)\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"[.;]\s+")


class Asymmetric(LabelLoss):
    """Loss that lets easy negatives go (ASL, Ridnik et al. 2021): focus 2, margin 0.05."""

    def _each(self, scores: Tensor, truth: Tensor) -> Tensor:
        shifted = (scores - 0.05).clamp(min=0)
        negative = -(1 - shifted).clamp(min=1e-6).log() * shifted**2
        return torch.where(truth > 0, -scores.log(), negative)


class ByEntropy(LabelLoss):
    """Cross-entropy of each label over that of its prevalence, at most four times: rare labels count too."""

    def __init__(self, table: LossTable, truth: Tensor, columns: tuple[slice, ...]) -> None:
        super().__init__(table, truth, columns)
        share = truth.nanmean(dim=0).clamp(0.002, 0.5)
        self.weight = 1 / -(share * share.log() + (1 - share) * (1 - share).log())
        for part in columns:
            self.weight[part] /= self.weight[part].mean()
        self.weight.clamp_(max=4)

    def _each(self, scores: Tensor, truth: Tensor) -> Tensor:
        return F.binary_cross_entropy(scores, truth, reduction="none") * self.weight


def doubted(study: LabelledStudy, label: str) -> bool:
    """Whether a sentence that names a label, by the beginnings of its long words, doubts something."""
    stems = [word[:6].lower() for word in re.split(r"[_\W]+", label) if len(word) > 4]
    sentences = _SENTENCE.split(study.report)
    return bool(stems) and any(
        _DOUBT.search(each) and any(stem in each.lower() for stem in stems) for each in sentences
    )


def softened_targets(
    recipe: Recipe, outputs: LabelPlan, studies: tuple[LabelledStudy, ...], tokenizer: Tokenizer | None = None
) -> TrainingTargets:
    """Training targets in which what the report doubts is 0.6 and not 1."""
    targets = label_plan.training_targets(recipe, outputs, studies, tokenizer)
    names = (*outputs.keys, *outputs.beside, *outputs.auxiliary)
    for row, study in enumerate(studies):
        for column in torch.nonzero(targets.truth[row] == 1)[:, 0].tolist():
            if doubted(study, names[column]):
                targets.truth[row, column] = 0.6
    return targets


def with_highest_place(network: ConvNet, batch: Batch) -> Output:
    """Output of a network whose logits have half of the logit of the highest place added to the mean's."""
    features: Tensor = network.backbone(batch.images)
    pooled = features.mean(dim=(2, 3))
    places = F.conv2d(features, network.head.weight[:, :, None, None]).flatten(2)
    return Output(
        logits=network.head(network.dropout(pooled)) + 0.5 * places.amax(dim=2),
        image_embedding=F.normalize(network.image_projection(pooled), dim=1),
        features=features,
    )


def network_with_attention(recipe: Recipe, width: int) -> InitialNetwork:
    """Network of a recipe that says beside its logits how much a film counts in its study."""
    started = initial_network(recipe, width)
    started.network.attention = nn.Linear(started.network.head.in_features, 1)
    return started


def with_attention(network: ConvNet, batch: Batch) -> Output:
    """Output of a network that keeps the attention of the films in `attended`, shape (films,)."""
    features: Tensor = network.backbone(batch.images)
    pooled = features.mean(dim=(2, 3))
    network.attended = network.attention(pooled)[:, 0]
    return Output(
        logits=network.head(network.dropout(pooled)),
        image_embedding=F.normalize(network.image_projection(pooled), dim=1),
        features=features,
    )


def attended_mean(scores: Tensor, attention: Tensor, study: Tensor, studies: int) -> Tensor:
    """Mean of the scores of each study's films, weighted by the softmax of their attention."""
    weight = attention.clamp(-8, 8).exp()[:, None]
    return mean_by(scores * weight, study, studies) / mean_by(weight, study, studies)


def attentive_loss(self: FindingsModule, output: Output, study: Tensor, study_weight: float = 0.0) -> Tensor:
    """Loss of the recipe, in which attention takes the place of the mean over a study's films."""
    truth = self.targets.truth
    scores = output.logits.float().sigmoid()
    studies, position = study.unique(return_inverse=True)
    whole = attended_mean(scores, self.network.attended, position, len(studies))
    loss = (1 - study_weight) * self.label_loss(scores, truth[study])
    loss = loss + study_weight * self.label_loss(whole, truth[studies])
    return loss + self.recipe.alignment.weight * self.alignment_loss(output.image_embedding, study)
