"""Integrated Gradients (Sundararajan et al. 2017) and occlusion (Zeiler & Fergus 2014), both by captum.

captum is imported when a map is drawn: a worker does not need it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from models.architectures.interface import Batch
from models.bundles.predictor import Predictor, TracedPrediction
from models.errors import UsageError

#: Integration steps from a black film to the film.
_STEPS = 32
#: Images in one forward pass.
_TOGETHER = 16
#: Side of the occlusion window as a share of the image side; it moves by half its side.
_WINDOW = 1 / 7
#: Standard deviation of the smoothing of Integrated Gradients, as a share of the image side: single pixels
#: have no meaning.
_SMOOTHING = 1 / 56


def import_captum() -> ModuleType:
    """Import the attributions of captum.

    Raises
    ------
    UsageError
        If captum is not installed.
    """
    try:
        import captum.attr  # noqa: PLC0415 - of an extra
    except ImportError as error:
        raise UsageError("Integrated Gradients, occlusion and the weights of words need captum") from error
    library: ModuleType = captum.attr
    return library


def logit_function(predictor: Predictor, given: Batch, columns: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Function from variants of one image to the logits of some findings, with the text unchanged.

    Parameters
    ----------
    given
        Input of one row.
    """

    def logits(images: Tensor) -> Tensor:
        tokens = None if given.tokens is None else given.tokens.rows([0] * len(images))
        found: Tensor = predictor.network(Batch(images, tokens)).logits[:, list(columns)]
        return found

    return logits


def integrated_gradients(
    predictor: Predictor, traced: TracedPrediction, columns: Sequence[int], films: Sequence[int]
) -> Tensor:
    """Maps of shape (findings, films, size, size): contribution of each pixel to the logit.

    The baseline is a black film. Contributions are summed over the channels and smoothed; negative ones are
    set to 0.
    """
    library = import_captum()
    size = predictor.preprocessing.size
    maps = torch.zeros(len(columns), len(films), size, size)
    black = -predictor.preprocessing.mean / predictor.preprocessing.std
    for place, film in enumerate(films):
        given = predictor.batch(traced.study, [film])
        for row, column in enumerate(columns):
            method = library.IntegratedGradients(logit_function(predictor, given, [column]))
            with torch.enable_grad():
                found = method.attribute(
                    given.images, black, target=0, n_steps=_STEPS, internal_batch_size=_TOGETHER
                )
            maps[row, place] = found.detach()[0].sum(dim=0)
    sigma = _SMOOTHING * size
    blurred: Tensor = gaussian_blur(maps, 2 * round(3 * sigma) + 1, sigma)
    return blurred.clamp(min=0)


def occlusion(
    predictor: Predictor, traced: TracedPrediction, columns: Sequence[int], films: Sequence[int]
) -> Tensor:
    """Maps of shape (findings, films, size, size): drop of the logit when a pixel is covered.

    The cover is a square of the film's mean grey; a pixel gets the mean over the squares that cover it.
    """
    library = import_captum()
    maps = []
    for film in films:
        given = predictor.batch(traced.study, [film])
        images = given.images.contiguous()
        side = max(1, round(_WINDOW * images.shape[-1]))
        with torch.inference_mode():
            found = library.Occlusion(logit_function(predictor, given, columns)).attribute(
                images,
                (images.shape[1], side, side),
                (images.shape[1], max(1, side // 2), max(1, side // 2)),
                baselines=float(images.mean()),
                perturbations_per_eval=_TOGETHER,
            )
        maps.append(found.view(len(columns), *images.shape[1:]).mean(dim=1))
    return torch.stack(maps, dim=1).clamp(min=0).cpu()
