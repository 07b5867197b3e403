"""Projection learnt by supervised contrast (Khosla et al. 2020); positives are weighted by Jaccard."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from numpy.typing import NDArray
from torch import Tensor, nn

WIDTH = 64
STEPS = 400
BATCH = 512
RATE, DECAY = 1e-3, 1e-2
DROPOUT = 0.5
TEMPERATURE = 0.1


def contrastive_projection(
    features: Mapping[str, NDArray[np.float64]], truth: NDArray[np.float64], *, seed: int, hidden: int = 0
) -> dict[str, NDArray[np.float64]]:
    """Project features, at unit length, by what is learnt on ``train``.

    Parameters
    ----------
    features
        By split, each of shape (studies, channels).
    truth
        Label sets of ``train``, shape (studies, labels).
    hidden
        Width of a hidden layer; 0 for a linear projection.
    """
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    mean, scale = features["train"].mean(axis=0), features["train"].std(axis=0) + 1e-6
    standard = {
        split: torch.tensor((each - mean) / scale, dtype=torch.float32) for split, each in features.items()
    }
    wanted = torch.tensor(truth, dtype=torch.float32)
    layers: list[nn.Module] = [nn.Dropout(DROPOUT)]
    if hidden:
        layers += [nn.Linear(len(mean), hidden), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(hidden or len(mean), WIDTH))
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    for _ in range(STEPS):
        rows = torch.randperm(len(wanted))[:BATCH]
        loss = _contrast(F.normalize(network(standard["train"][rows]), dim=1), wanted[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.eval()
    with torch.no_grad():
        return {split: F.normalize(network(each), dim=1).double().numpy() for split, each in standard.items()}


def _contrast(places: Tensor, wanted: Tensor) -> Tensor:
    both = wanted @ wanted.T
    either = wanted.sum(dim=1)[:, None] + wanted.sum(dim=1) - both
    alike = (both / either.clamp(min=1)).fill_diagonal_(0)
    likeness = (places @ places.T / TEMPERATURE).fill_diagonal_(-1e9)
    spoken = likeness - likeness.logsumexp(dim=1, keepdim=True)
    total = alike.sum(dim=1)
    return (-(alike * spoken).sum(dim=1)[total > 0] / total[total > 0]).mean()
