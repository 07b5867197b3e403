"""Tiny bundle of each model family with random weights, and a tokenizer of a few words."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.architectures.interface import Network
from models.bundles.bundle import Bundle, write_bundle
from models.bundles.description import Manifest
from models.processing.transforms import Preprocessing
from models.text.text_format import TextFormat
from tests.support.tiny_bundle import CALIBRATION, KEYS

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = (
    "a", "chest", "radiograph", "with", "without", "cough", "fever", "fall", "chronic", "heart", "lung",
    "effusion", "nodule", "normal", "pain", "in", "the", "no", "finding", "##s", ",", ".",
)  # fmt: skip
VOCABULARY = (*SPECIAL, *WORDS)

#: Fields of a BERT of three thousand weights.
TEXT = {
    "vocab_size": len(VOCABULARY),
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}

#: A Swin and a ViT of a few thousand weights, for films of 64 pixels.
SWIN = {
    "backbone": "swin_tiny_patch4_window7_224",
    "options": {"img_size": 64, "embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
}
VIT = {
    "backbone": "vit_base_patch16_224",
    "options": {"img_size": 64, "embed_dim": 16, "depth": 3, "num_heads": 2},
}

#: Family -> inputs.text, explanation, embedding, arguments.
FAMILIES: dict[str, tuple[str, str, int, dict[str, Any]]] = {
    "densenet": ("none", "gradcam", 8, {"options": {"growth_rate": 4, "block_config": [1, 1, 1, 1]}}),
    "biomedclip": ("none", "gradcam", 16, {**VIT, "embedding": 16, "hidden": [16, 8]}),
    "crossattention": ("optional", "gradcam", 16, {**SWIN, "text": TEXT, "joint": 16, "heads": 2}),
    "concatenation": ("optional", "gradcam", 96, {"backbone": "test_resnet", "text": TEXT, "hidden": 8}),
}
READERS = ("crossattention", "concatenation")


def make_tokenizer(vocabulary: tuple[str, ...] = VOCABULARY, *, lowercase: bool = True) -> str:
    """Content of the ``tokenizer.json`` of a BERT model."""
    made = Tokenizer(
        models.WordPiece({word: number for number, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return made.to_str()


def make_manifest(family: str, **changes: Any) -> Manifest:
    """Manifest of the tiny bundle of a family."""
    text, explanation, embedding, arguments = FAMILIES[family]
    manifest = Manifest(
        name=f"tiny-{family}",
        version="0.0.1",
        summary="Random weights",
        architecture=family,
        arguments=arguments,
        text=text,
        preprocessing=Preprocessing(grid=96, size=64, channels=3),
        embedding=embedding,
        explanation=explanation,
        tokens=None if text == "none" else TextFormat(max_length=12, pad_id=0),
    )
    return replace(manifest, **changes)


def make_family(manifest: Manifest) -> Network:
    """Network with fixed random weights; its scores differ between films and between texts."""
    torch.manual_seed(11)
    network = manifest.network(len(KEYS)).eval()
    for parameter in network.parameters():
        # Wide enough to tell inputs apart: BERT's own start gives nearly the same state to every word.
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    torch.nn.init.normal_(network.head.weight, std=1.0)
    return network


def write_family(folder: Path, family: str, **changes: Any) -> Bundle:
    """Write the tiny bundle of a family."""
    manifest = make_manifest(family, **changes)
    tokenizer = None if manifest.tokens is None else make_tokenizer()
    return write_bundle(
        folder / manifest.folder, manifest, KEYS, make_family(manifest), CALIBRATION, tokenizer=tokenizer
    )
