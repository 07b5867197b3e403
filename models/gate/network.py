"""Network of the gate: first stages of an ImageNet network, linear answers, and the places of chest films.

Of each stage the mean and the spread of its channels are kept, and of the last one also where in the picture
they lie. On these numbers stand four linear answers, and the distance to the chest films of each view that
the gate was fitted to (Mahalanobis; Lee et al. 2018): what no answer was trained to refuse still lies far
from them.
"""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from torch import Tensor, nn

from models.architectures.convnet import ConvNet
from models.gate.session import ANSWERS, VIEWS

#: A standardised feature beyond this says no more by being larger still.
_LARGEST = 8.0
#: The last stage is averaged over so many parts across and down.
_PARTS = 2


class GateNetwork(nn.Module):
    """Frozen first stages of a backbone, linear answers and the places of the views.

    Parameters
    ----------
    backbone
        Name of a timm configuration with stages; it is built with random weights and nothing is downloaded.
    channels
        Number of channels of the input images.

    Attributes
    ----------
    centre, spread
        Shape (width,): of each feature over the films that it was fitted to.
    answers
        Linear layer over the standardised features, one output for each of :data:`ANSWERS`.
    places
        Shape (views, width): mean of each view's films.
    whitening
        Shape (views, width, width): brings the differences from there to unit spread in every direction.

    Raises
    ------
    ValueError
        If timm knows no such backbone.
    """

    #: Stages whose channels are looked at: down to a quarter, an eighth and a sixteenth of the input.
    STAGES = [1, 2, 3]  # noqa: RUF012 - timm takes a list

    def __init__(self, *, backbone: str, channels: int) -> None:
        super().__init__()
        self.name, self.channels = backbone, channels
        if not timm.is_model(backbone):
            # Also keeps out "hf-hub:" and "local-dir:" names, with which timm would fetch a configuration.
            raise ValueError(f"timm has no backbone {backbone!r}")
        try:
            self.backbone = timm.create_model(backbone, pretrained=False, num_classes=0, in_chans=channels)
            self.backbone.prune_intermediate_layers(self.STAGES, prune_norm=True, prune_head=True)
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError) as error:
            raise ValueError(f"timm cannot build the stages of {backbone!r}: {error}") from error
        widths: list[int] = [self.backbone.feature_info[stage]["num_chs"] for stage in self.STAGES]
        self.width = 2 * sum(widths) + _PARTS**2 * widths[-1]
        self.answers = nn.Linear(self.width, len(ANSWERS))
        for name, shape in (
            ("centre", (self.width,)),
            ("spread", (self.width,)),
            ("places", (len(VIEWS), self.width)),
            ("whitening", (len(VIEWS), self.width, self.width)),
        ):
            self.register_buffer(name, torch.ones(shape) if name == "spread" else torch.zeros(shape))

    centre: Tensor
    spread: Tensor
    places: Tensor
    whitening: Tensor

    def features(self, images: Tensor) -> Tensor:
        """Features of images of shape (n, channels, size, size); shape (n, width)."""
        stages: list[Tensor] = self.backbone.forward_intermediates(
            images, indices=self.STAGES, intermediates_only=True, stop_early=True
        )
        parts = F.adaptive_avg_pool2d(stages[-1], _PARTS).flatten(1)
        spreads = [torch.cat([stage.mean((2, 3)), stage.std((2, 3))], 1) for stage in stages]
        return torch.cat([*spreads, parts], 1)

    def standardised(self, features: Tensor) -> Tensor:
        """Features in units of their spread over the films that the gate was fitted to, none too large."""
        return ((features - self.centre) / self.spread).clamp(-_LARGEST, _LARGEST)

    def judge(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores, shape (n, answers), in [0, 1], and the distance to the nearest place, shape (n,)."""
        standardised = self.standardised(features)
        away = torch.einsum("nvi,vij->nvj", standardised[:, None] - self.places, self.whitening)
        return self.answers(standardised).sigmoid(), away.square().mean(2).min(1).values

    def load_imagenet(self) -> None:
        """Start from published ImageNet weights, as :class:`models.architectures.convnet.ConvNet` does.

        Raises
        ------
        RecipeError
            If there are none for this backbone.
        """
        whole = ConvNet(outputs=1, backbone=self.name, channels=self.channels)
        whole.load_imagenet()
        published = whole.backbone.state_dict()
        self.backbone.load_state_dict({name: published[name] for name in self.backbone.state_dict()})
