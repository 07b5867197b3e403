"""Self-supervised pre-training of a backbone on films without labels, by SimSiam (Chen & He 2021)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.training.film_batches import Augmentation

EPOCHS, SIZE, BATCH, RATE = 2, 112, 64, 3e-4
WIDTH, NECK = 512, 128


class SimSiam(nn.Module):
    """Backbone, projector and predictor; two views of a film are to predict each other.

    Parameters
    ----------
    backbone
        Module that returns feature maps, shape (n, features, rows, columns).
    features
        Number of feature maps.
    """

    def __init__(self, backbone: nn.Module, features: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.project = nn.Sequential(
            nn.Linear(features, WIDTH, bias=False), nn.BatchNorm1d(WIDTH), nn.ReLU(inplace=True),
            nn.Linear(WIDTH, WIDTH, bias=False), nn.BatchNorm1d(WIDTH, affine=False),
        )  # fmt: skip
        self.predict = nn.Sequential(
            nn.Linear(WIDTH, NECK, bias=False), nn.BatchNorm1d(NECK), nn.ReLU(inplace=True),
            nn.Linear(NECK, WIDTH),
        )  # fmt: skip

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Mean negative cosine between each view's prediction and the other's projection, from -1 to 1."""
        one, other = (self.project(self.backbone(each).mean(dim=(2, 3))) for each in (first, second))
        halves = [
            F.cosine_similarity(self.predict(mine), theirs.detach(), dim=1).mean()
            for mine, theirs in ((one, other), (other, one))
        ]
        return -(halves[0] + halves[1]) / 2


def cropped(films: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """Random part of each film, 30 to 100 % of its area, at another size.

    Parameters
    ----------
    films
        Shape (n, side, side).
    """
    count = len(films)
    share = (0.3 + 0.7 * torch.rand(count, generator=generator)).sqrt()
    shift = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - share)[:, None]
    place = torch.zeros(count, 2, 3)
    place[:, 0, 0] = place[:, 1, 1] = share
    place[:, :, 2] = shift
    grid = F.affine_grid(place, [count, 1, size, size], align_corners=False)
    return F.grid_sample(films[:, None], grid, align_corners=False)[:, 0]


def pretrained_backbone(network: Any, films: Tensor, augment: Augmentation, path: Path, seed: int) -> None:
    """Give a network the backbone of a self-supervised training; what is in the file is not trained again.

    Parameters
    ----------
    network
        Network with a `backbone` and a `head`, which begins with the weights that it has.
    films
        Shape (n, side, side), in [0, 1].
    augment
        Changes of contrast, brightness and place after cropping.
    path
        File of the backbone's weights.
    """
    if not path.exists():
        torch.manual_seed(seed)
        augment.seed(seed)
        generator = torch.Generator().manual_seed(seed)
        model = SimSiam(network.backbone, network.head.in_features).train()
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.02)
        steps = EPOCHS * (len(films) // BATCH)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=RATE, total_steps=steps)
        for _ in range(EPOCHS):
            order = torch.randperm(len(films), generator=generator)
            for place in order[: len(films) // BATCH * BATCH].split(BATCH):
                views = (augment(cropped(films[place].float(), SIZE, generator)) for _ in range(2))
                first, second = ((view[:, None].expand(-1, 3, -1, -1) - 0.5) / 0.5 for view in views)
                optimizer.zero_grad()
                loss = model(first, second)
                loss.backward()
                optimizer.step()
                schedule.step()
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in network.backbone.state_dict().items()}, path)
    network.backbone.load_state_dict(load_file(path))
