"""Known recipes of preprocessing: how other frameworks bring a grey film to their networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from models.errors import UsageError
from models.foreign.graph import Normalisation


@dataclass(frozen=True, slots=True)
class Recipe:
    """Recipe: range that [0, 1] becomes, then mean and standard deviation of each channel, and fit."""

    low: float
    high: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    fit: str = "squash"


RECIPES = {
    "imagenet": Recipe(0, 1, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "torchxrayvision": Recipe(-1024, 1024, (0.0,), (1.0,), "crop"),
    "clip": Recipe(0, 1, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "plain": Recipe(0, 1, (0.0,), (1.0,)),
}


def normalisation(
    name: str,
    channels: int,
    *,
    bounds: Sequence[float] = (),
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
) -> Normalisation:
    """Normalisation of grey films in [0, 1] for a number of channels.

    Parameters
    ----------
    name
        One of :data:`RECIPES`.
    bounds
        Values that 0 and 1 become; empty for those of the recipe.
    mean, std
        One number, or one for each channel, on that range; empty for those of the recipe.

    Raises
    ------
    UsageError
        If there is no such recipe, or a number is wrong. One channel takes the mean of three.
    """
    if name not in RECIPES:
        raise UsageError(f"--preprocessing {name}: there is no such recipe; there are {', '.join(RECIPES)}")
    recipe = RECIPES[name]
    ends = tuple(bounds) or (recipe.low, recipe.high)
    if len(ends) != 2 or not ends[0] < ends[1]:
        raise UsageError("--range: give the values that black and white become, such as -1024,1024")
    span = ends[1] - ends[0]
    means = _each(tuple(mean) or recipe.mean, channels, "--mean")
    stds = _each(tuple(std) or recipe.std, channels, "--std")
    if not all(value > 0 for value in stds):
        raise UsageError("--std: a standard deviation must be positive")
    return Normalisation(
        tuple((value - ends[0]) / span for value in means), tuple(value / span for value in stds)
    )


def _each(values: tuple[float, ...], channels: int, option: str) -> tuple[float, ...]:
    if channels == 1 and len(values) > 1:
        return (sum(values) / len(values),)
    if len(values) not in (1, channels):
        raise UsageError(f"{option}: give one number, or one for each of the {channels} channels")
    return values if len(values) == channels else values * channels
