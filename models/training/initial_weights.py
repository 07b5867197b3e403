"""Initial network of a recipe: built, with the weights that training starts from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from models.architectures.interface import Network
from models.architectures.registry import build_network
from models.bundles.bundle import find_bundle, read_bundle
from models.errors import RecipeError
from models.pretrained import weight_sources
from models.text.text_format import TextFormat
from models.text.tokenizer import Tokenizer, padding_id
from models.training.recipe import Recipe

#: Rare labels start near their prevalence, so that the first steps are not spent on learning "mostly no".
_PRIOR = -3.0


@dataclass(frozen=True, slots=True)
class InitialNetwork:
    """Network before its first training step.

    Attributes
    ----------
    network
        Network with its initial weights, channels last in memory.
    tokenizer
        Tokenizer of its text tower; None for a network that reads no text.
    """

    network: Network
    tokenizer: Tokenizer | None = None


def initial_network(recipe: Recipe, width: int) -> InitialNetwork:
    """Build the network of a recipe, `width` outputs wide.

    Raises
    ------
    RecipeError
        If the weights to start from are not there or do not fit.
    """
    table = recipe.architecture
    network = build_network(
        table.name, outputs=width, channels=recipe.preprocessing.channels, arguments=table.arguments
    )
    if table.start == "imagenet":
        network.load_imagenet()
    elif table.start.startswith("bundle:"):
        _load_trunk(network, table.start.removeprefix("bundle:"))
    nn.init.constant_(network.head.bias, _PRIOR)
    weight_sources.load_towers(network, table.towers, preprocessing=recipe.preprocessing.build())
    return InitialNetwork(network.to(memory_format=torch.channels_last), _tokenizer(recipe, network))


def _tokenizer(recipe: Recipe, network: Network) -> Tokenizer | None:
    """Tokenizer of the encoder that the text tower starts from; None for a network without one."""
    if recipe.text != "none" and not network.reads_text:
        raise RecipeError(f"text = {recipe.text!r}: architecture {recipe.architecture.name} reads no text")
    if network.text_limits is None:
        return None
    towers = recipe.architecture.towers
    source = towers.get("text") or towers.get("clip") or "random"
    definition = None if source == "random" else weight_sources.find_encoder(source).tokenizer()
    if definition is None:
        raise RecipeError(
            "a network with a text tower needs one in [architecture.towers] that comes with a tokenizer"
        )
    try:
        return Tokenizer(definition, TextFormat(recipe.max_length, padding_id(definition)))
    except ValueError as error:
        raise RecipeError(f"tokenizer of {source}: {error}") from error


def _load_trunk(network: Network, name: str) -> None:
    """Take every weight of a bundle but the head's."""
    state = read_bundle(find_bundle(name)).network().state_dict()
    trunk = {key: value for key, value in state.items() if not key.startswith("head.")}
    try:
        missing, unexpected = network.load_state_dict(trunk, strict=False)
    except RuntimeError as error:
        raise RecipeError(f"start: bundle {name} has another architecture") from error
    odd = [key for key in (*missing, *unexpected) if not key.startswith("head.")]
    if odd:
        raise RecipeError(f"start: bundle {name} has another architecture, they differ in {odd[0]}")
