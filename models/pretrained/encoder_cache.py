"""Cache of the pulled encoders: where they lie, which are there, and which the recipes ask for."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path

from models.errors import EncoderError

#: Files that a tower needs, for messages.
_FILES = {
    "clip": "open_clip_config.json, open_clip_model.safetensors or open_clip_pytorch_model.bin, "
    "and tokenizer.json or vocab.txt",
    "image": "config.json and model.safetensors or pytorch_model.bin",
    "text": "config.json, model.safetensors or pytorch_model.bin, and tokenizer.json or vocab.txt",
}

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def encoder_cache() -> Path:
    """Cache folder of the pulled encoders, with one folder for each."""
    return Path.home() / ".cache" / "dicom-node" / "encoders"


def encoder_folder(name: str, cache: Path) -> Path:
    """Folder of an encoder in the cache.

    Parameters
    ----------
    name
        Name on the hub, such as ``emilyalsentzer/Bio_ClinicalBERT``.

    Raises
    ------
    EncoderError
        If this is no such name.
    """
    if not _NAME.fullmatch(name):
        raise EncoderError(f"{name!r} is no name on the Hugging Face hub: it is like OWNER/NAME")
    return cache / name.replace("/", "--")


@functools.cache
def recommended_encoders() -> Mapping[str, str]:
    """Encoders of the hub that the shipped recipes start from: name -> ``recipe: tower``."""
    found = {}
    for recipe in sorted((Path(str(resources.files("models"))) / "recipes").glob("*.toml")):
        architecture = tomllib.loads(recipe.read_text(encoding="utf-8"))["architecture"]
        for tower, source in architecture.get("towers", {}).items():
            if source.startswith("hf:"):
                found[source.removeprefix("hf:")] = f"{recipe.stem}: {tower}"
    return found


def describe_required_files(name: str) -> str:
    """Sentence that lists the files of an encoder; for an unknown one, those of every kind."""
    tower = recommended_encoders().get(name, "").partition(": ")[2]
    return _FILES.get(tower) or "; or ".join(f"for {tower} {files}" for tower, files in _FILES.items())


def cached_names(cache: Path) -> list[str]:
    """Names of the encoders in the cache."""
    folders = (folder.name for folder in cache.glob("*--*") if folder.is_dir())
    return sorted(folder.replace("--", "/", 1) for folder in folders if not folder.startswith("."))
