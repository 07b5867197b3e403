"""CLIP networks that open_clip builds from a bundle's or recipe's arguments, without any download.

``open_clip.create_model("local-dir:FOLDER")`` alone cannot build BiomedCLIP offline: its
``open_clip_config.json`` names the text tower by an address on the Hugging Face hub, and none of its files
holds that tower's configuration. A bundle, too, keeps arguments and no such folder. So the configurations of
the two towers are written to a temporary folder, in the layouts of timm and of transformers, and open_clip's
own class builds both towers, the projections and the temperature from there.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import nn

from models.architectures.image import check_backbone
from models.architectures.text import bert_config

#: Settings of BiomedCLIP's image tower in open_clip's ``vision_cfg``: a backbone of timm with the pooling of
#: its own, and one linear layer without bias.
VISION: Mapping[str, str | bool] = {"timm_pool": "", "timm_proj": "linear", "timm_proj_bias": False}
#: Settings of BiomedCLIP's text tower in open_clip's ``text_cfg``: the state of the first token, and two
#: linear layers.
TEXT: Mapping[str, str] = {"hf_pooler_type": "cls_last_hidden_state_pooler", "hf_proj_type": "mlp"}

#: The smallest text tower. open_clip has no CLIP without one, so it is built and removed.
_NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}


def create_clip(
    *,
    backbone: str,
    channels: int,
    options: Mapping[str, Any] | None,
    embedding: int,
    prompts: Mapping[str, Any] | None,
) -> nn.Module:
    """Build open_clip's ``CustomTextCLIP`` with random weights.

    Parameters
    ----------
    backbone
        Name of the timm model of the image tower.
    channels
        Number of channels of the input images.
    options
        Further arguments of the timm model.
    embedding
        Width of the joint space.
    prompts
        Fields of the text tower (:data:`models.architectures.text.FIELDS`); None leaves the tower and the
        temperature out: ``text`` and ``logit_scale`` are then None.

    Raises
    ------
    ValueError
        If timm has no such backbone, or a tower cannot be built.
    """
    # Imported here because open_clip brings transformers, seconds that every other architecture saves.
    from open_clip.model import CustomTextCLIP  # noqa: PLC0415

    check_backbone(backbone)
    with tempfile.TemporaryDirectory(prefix="open-clip-") as folder:
        text_config: Mapping[str, Any] = _NO_TEXT
        if prompts is not None:
            bert_config(prompts).save_pretrained(Path(folder) / "text")
            text_config = {"hf_model_name": f"{folder}/text", "hf_model_pretrained": False, **TEXT}
        try:
            clip: nn.Module = CustomTextCLIP(
                embed_dim=embedding,
                vision_cfg={
                    "timm_model_name": _write_backbone(Path(folder) / "image", backbone, channels, options),
                    **VISION,
                },
                text_cfg=dict(text_config),
            )
        except (AssertionError, AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
            raise ValueError(
                f"open_clip cannot build {backbone!r} with {embedding} dimensions: {error}"
            ) from error
    trunk: Any = clip.visual.trunk  # type: ignore[union-attr]
    # timm would keep the temporary folder as the source of the weights.
    trunk.pretrained_cfg = trunk.default_cfg = timm.get_pretrained_cfg(backbone).to_dict()
    if prompts is None:
        clip.text = clip.logit_scale = None  # type: ignore[assignment]
    return clip


def config_differences(published: Mapping[str, Any], *, text: bool) -> list[str]:
    """Settings of a published ``open_clip_config.json`` that are not those of :func:`create_clip`.

    Only settings are compared that the shapes of the weights do not show.

    Parameters
    ----------
    published
        Its ``model_cfg``.
    text
        Compare the text tower, too.

    Returns
    -------
    list
        One sentence for each difference.

    Raises
    ------
    KeyError
        If `published` has no ``vision_cfg`` or no ``text_cfg``.
    """
    from open_clip.model import CLIPTextCfg, CLIPVisionCfg  # noqa: PLC0415 - as above

    expected = [("vision_cfg", VISION, CLIPVisionCfg), *([("text_cfg", TEXT, CLIPTextCfg)] if text else [])]
    return [
        f"{section}.{name} is {setting!r} here and {found!r} there"
        for section, settings, defaults in expected
        for name, setting in settings.items()
        if (found := published[section].get(name, getattr(defaults, name))) != setting
    ]


def _write_backbone(folder: Path, name: str, channels: int, options: Mapping[str, Any] | None) -> str:
    """Write the configuration of a backbone as timm publishes one; return its name for timm.

    open_clip passes timm nothing but the name, so channels and options have to stand in the configuration.
    """
    folder.mkdir()
    config = {
        "architecture": name,
        "pretrained_cfg": timm.get_pretrained_cfg(name).to_dict(),
        "model_args": {"in_chans": channels, **(options or {})},
    }
    (folder / "config.json").write_text(json.dumps(config, default=list), encoding="utf-8")
    return f"local-dir:{folder}"
