"""Encoders in the files of model hubs, with random weights; the libraries themselves write them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import timm
import torch
import torchvision
from safetensors.torch import save_file
from timm.models import save_for_hf
from torch import Tensor, nn

from tests.support.model_families import TEXT, VOCABULARY, make_tokenizer

#: A DenseNet of four thousand weights, for timm and for torchvision.
DENSE = {"growth_rate": 4, "block_config": [1, 1, 1, 1]}
#: Normalisation of open_clip's networks, channel by channel.
CLIP_MEAN, CLIP_STD = (0.48, 0.46, 0.41), (0.27, 0.26, 0.28)
EMBEDDING = 24


def randomise(module: nn.Module, seed: int = 3) -> nn.Module:
    """Set every weight and every running statistic to a random value."""
    torch.manual_seed(seed)
    for value in module.state_dict().values():
        if value.is_floating_point():
            # Vectors are norms and biases, among them variances, which are never negative.
            value.copy_(
                torch.rand_like(value) * 0.5 + 0.1 if value.dim() == 1 else torch.randn_like(value) * 0.2
            )
    return module.eval()


def write_bert(folder: Path, *, old: bool = False, **fields: object) -> nn.Module:
    """Write a text encoder of transformers with its masked-language head.

    Parameters
    ----------
    old
        Older format: a pickle of tensors with their former names, and a vocabulary.
    """
    from transformers import BertConfig, BertForMaskedLM

    model = randomise(BertForMaskedLM(BertConfig(**{**TEXT, **fields})))
    folder.mkdir(parents=True, exist_ok=True)
    if not old:
        model.save_pretrained(folder)
        (folder / "tokenizer.json").write_text(make_tokenizer(), encoding="utf-8")
    else:
        model.config.to_json_file(folder / "config.json")
        state = {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ): value
            for name, value in model.state_dict().items()
        }
        state["bert.embeddings.position_ids"] = torch.arange(TEXT["max_position_embeddings"])[None]
        torch.save(state, folder / "pytorch_model.bin")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return model.bert


def write_timm(folder: Path, name: str, options: Mapping[str, object]) -> nn.Module:
    """Write an image encoder of timm with its classifier, as timm writes it for the hub."""
    model = randomise(timm.create_model(name, num_classes=7, **options))
    save_for_hf(model, str(folder), model_args=dict(options), safe_serialization=True)
    return model


def write_open_clip(folder: Path) -> nn.Module:
    """Write a CLIP of open_clip with a ViT of timm and a BERT of transformers, as BiomedCLIP has them."""
    import open_clip

    write_bert(folder / "text")
    config = {
        "model_cfg": {
            "embed_dim": EMBEDDING,
            "vision_cfg": {
                "timm_model_name": "test_vit",
                "timm_model_pretrained": False,
                "timm_pool": "",
                "timm_proj": "linear",
                "image_size": 160,
            },
            "text_cfg": {
                "hf_model_name": str(folder / "text"),
                "hf_tokenizer_name": str(folder / "text"),
                "hf_proj_type": "mlp",
                "hf_pooler_type": "cls_last_hidden_state_pooler",
                "context_length": 12,
            },
        },
        "preprocess_cfg": {"mean": list(CLIP_MEAN), "std": list(CLIP_STD)},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config), encoding="utf-8")
    model = randomise(open_clip.create_model(f"local-dir:{folder}", load_weights=False))
    with torch.no_grad():
        model.logit_scale.fill_(2.5)
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "tokenizer.json").write_text(make_tokenizer(), encoding="utf-8")
    return model


def dense(channels: int) -> nn.Module:
    """DenseNet of torchvision; with one channel it is that of TorchXRayVision."""
    model = torchvision.models.DenseNet(4, (1, 1, 1, 1), num_init_features=8, num_classes=18)
    if channels != 3:
        model.features.conv0 = nn.Conv2d(channels, 8, 7, stride=2, padding=3, bias=False)
    return randomise(model)


def former_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """State with the names in torchvision's files, which torchvision renames when it reads them."""
    import re

    return {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): state[name] for name in state}
