"""Published encoders on disk, in the layouts of the model hubs.

Nothing here uses the network: ``dicom-node models pull`` or a person puts the files into a folder of the
cache, with their hashes. No file can run code: weights are safetensors or, where an encoder is published in
no other way, pickles from which torch loads tensors only.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from tokenizers.implementations.bert_wordpiece import BertWordPieceTokenizer
from torch import Tensor

from models.architectures.text import FIELDS
from models.errors import EncoderError
from models.pretrained.encoder_cache import describe_required_files, encoder_folder

#: File with the hashes of the files beside it, in the format of ``sha256sum``.
CHECKSUMS = "SHA256SUMS"
TOKENIZER = "tokenizer.json"
VOCABULARY = "vocab.txt"

EncoderKind = Literal["open_clip", "bert", "timm", "bare"]

#: Configuration file -> possible weights files, the safer first.
_LAYOUTS = {
    "open_clip_config.json": ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"),
    "config.json": ("model.safetensors", "pytorch_model.bin"),
}
_BARE = (".pth", ".pt")

_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


@dataclass(frozen=True, slots=True)
class Encoder:
    """A published encoder whose files exist; its weights are not loaded yet.

    Attributes
    ----------
    path
        Folder of the encoder.
    kind
        Library of the encoder: ``open_clip``, ``bert`` (of Hugging Face's transformers), ``timm``, or
        ``bare`` for weights of torchvision and TorchXRayVision, which come without a configuration.
    config
        Contents of its configuration file; empty for bare weights.
    files
        Names of its files, the weights first.
    """

    path: Path
    kind: EncoderKind
    config: Mapping[str, Any]
    files: tuple[str, ...]

    def state(self) -> dict[str, Tensor]:
        """Weights by name, float32 on the CPU, as they were published.

        Raises
        ------
        EncoderError
            If the file holds no weights, could run code, or has values that are not finite.
        """
        state = _read_weights(self.path / self.files[0])
        for name, value in state.items():
            if not torch.isfinite(value).all():
                raise EncoderError(f"{self.path / self.files[0]}: {name} holds values that are not finite")
        return state

    def tokenizer(self) -> str | None:
        """Contents of ``tokenizer.json``, made from ``vocab.txt`` where only that exists; None for neither.

        Raises
        ------
        EncoderError
            If the vocabulary is not that of a BERT model.
        """
        if TOKENIZER in self.files:
            return _read_text(self.path / TOKENIZER)
        if VOCABULARY in self.files:
            return _tokenizer_of(self.path / VOCABULARY)
        return None

    def text_fields(self) -> dict[str, int | float | str]:
        """Fields of the text tower, as a recipe's ``[architecture.arguments.text]`` takes them.

        Raises
        ------
        EncoderError
            If this is no text encoder, or its configuration lacks a field.
        """
        if self.kind != "bert":
            raise EncoderError(f"{self.path}: {self.kind} is no text encoder")
        try:
            return {name: self.config[name] for name in FIELDS}
        except KeyError as error:
            raise EncoderError(f"{self.path}: config.json has no {error.args[0]}") from error

    def text_config(self) -> Mapping[str, Any] | None:
        """Configuration of the text tower of a CLIP, where the folder has it; None where only a hub has.

        Raises
        ------
        EncoderError
            If the file is no JSON table.
        """
        named = self.config.get("model_cfg", {}).get("text_cfg", {}).get("hf_model_name") or "."
        # The name may be a folder beside the configuration; an address on a hub is none.
        found = (self.path / folder / "config.json" for folder in (named, "."))
        return next((_read_config(file) for file in found if file.is_file()), None)


def choose_files(names: Collection[str], place: str) -> tuple[str, ...]:
    """Choose the files of an encoder that are used: weights, configuration, tokenizer.

    Parameters
    ----------
    names
        File names, relative to the encoder's folder.
    place
        Name of that folder, for error messages.

    Raises
    ------
    EncoderError
        If the layout is unknown or a file is missing.
    """
    for config, candidates in _LAYOUTS.items():
        if config in names:
            weights = next((name for name in candidates if name in names), None)
            if weights is None:
                raise EncoderError(f"{place} has {config}, but neither {' nor '.join(candidates)}")
            tokenizer = [name for name in (TOKENIZER, VOCABULARY) if name in names][:1]
            return (weights, config, *tokenizer)
    bare = [name for name in names if name.endswith(_BARE)]
    if len(bare) != 1:
        raise EncoderError(f"{place} is no encoder in a known layout: {describe_required_files('')}")
    return tuple(bare)


def read_encoder(path: Path) -> Encoder:
    """Read an encoder from its folder, or from one file of bare weights; verify its hashes if it has any.

    Raises
    ------
    EncoderError
        If it is missing, of an unknown layout, incomplete or altered.
    """
    if path.is_file():
        return Encoder(path.parent, "bare", {}, choose_files([path.name], str(path)))
    try:
        names = [file.name for file in path.iterdir() if file.is_file()]
    except OSError as error:
        raise EncoderError(f"encoder {path}: {error.strerror}") from error
    files = choose_files(names, str(path))
    if CHECKSUMS in names:
        verify_checksums(path)
    if len(files) == 1:
        return Encoder(path, "bare", {}, files)
    config = _read_config(path / files[1])
    return Encoder(path, _kind(path, files[1], config), config, files)


def _kind(path: Path, name: str, config: Mapping[str, Any]) -> EncoderKind:
    if name == "open_clip_config.json":
        return "open_clip"
    if config.get("model_type") == "bert":
        return "bert"
    if "model_type" not in config and "architecture" in config:
        return "timm"
    what = config.get("model_type", "without model_type and architecture")
    raise EncoderError(f"encoder {path}: config.json is {what}; what can be read here is bert and timm's own")


def add_to_cache(source: Path, name: str, cache: Path) -> Encoder:
    """Copy an encoder into the cache with its hashes; the folder appears complete or not at all.

    Parameters
    ----------
    source
        Folder with its files; other files in it are not copied.
    name
        Name on the hub.

    Raises
    ------
    EncoderError
        If the encoder cannot be read, or the cache cannot be written.
    """
    folder = encoder_folder(name, cache)
    found = read_encoder(source)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=f".{folder.name}-") as draft:
            copy = Path(draft) / "encoder"
            copy.mkdir()
            for file in found.files:
                shutil.copyfile(found.path / file, copy / file)
            encoder = read_encoder(copy)
            encoder.state()
            encoder.tokenizer()
            write_checksums(copy)
            if folder.exists():
                shutil.rmtree(folder)
            copy.rename(folder)
    except OSError as error:
        raise EncoderError(f"encoder {name} cannot be kept in {cache}: {error.strerror}") from error
    return read_encoder(folder)


def write_checksums(folder: Path) -> None:
    """Write the hashes of all files of a folder into it."""
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name != CHECKSUMS)
    lines = [f"{_sha256(file)}  {file.name}\n" for file in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def verify_checksums(folder: Path) -> None:
    """Verify the hashes of a folder.

    Raises
    ------
    EncoderError
        If a file is missing, altered, or not listed.
    """
    wanted = {}
    for line in _read_text(folder / CHECKSUMS).splitlines():
        digest, separator, name = line.partition("  ")
        if not separator or "/" in name:
            raise EncoderError(
                f"encoder {folder}: {CHECKSUMS} has the line {line!r}, which is no hash and name"
            )
        wanted[name] = digest
    here = {file.name for file in folder.iterdir()} - {CHECKSUMS}
    for name in sorted(here ^ wanted.keys()):
        what = "is not among the hashes" if name in here else "is missing"
        raise EncoderError(f"encoder {folder}: {name} {what}; pull it again")
    for name, digest in wanted.items():
        if _sha256(folder / name) != digest:
            raise EncoderError(
                f"encoder {folder}: {name} was altered, its sha256 is not the one in {CHECKSUMS}"
            )


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise EncoderError(f"{file} cannot be read: {error.strerror}") from error


def _read_weights(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            published: Any = load_file(file)
        else:
            published = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise EncoderError(
            f"{file} holds something other than tensors, which could run code and is not opened: where you "
            "trust it, save its state dict alone with torch.save(model.state_dict(), FILE)"
        ) from error
    except (EOFError, KeyError, OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise EncoderError(f"{file} holds no weights that can be read") from error
    if isinstance(published, dict) and isinstance(published.get("state_dict"), dict):
        published = published["state_dict"]
    if not (isinstance(published, dict) and published and all(map(torch.is_tensor, published.values()))):
        raise EncoderError(f"{file} is no state dict: it must hold tensors by name and nothing else")
    # Integer tensors count batches and positions; no network here keeps them.
    return {name: value.float() for name, value in published.items() if value.is_floating_point()}


def _read_config(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(_read_text(file))
    except json.JSONDecodeError as error:
        raise EncoderError(f"{file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise EncoderError(f"{file} holds no table")
    return config


def _read_text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise EncoderError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise EncoderError(f"{file} is not UTF-8") from error


def _tokenizer_of(file: Path) -> str:
    """Make a BERT tokenizer from its vocabulary file.

    Case sensitivity is derived from the words: ClinicalBERT and BioBERT are case-sensitive, and are published
    without the setting for it.
    """
    words = _read_text(file).splitlines()
    if missing := [word for word in _SPECIAL if word not in words]:
        raise EncoderError(f"{file} is no vocabulary of BERT: it has no {', '.join(missing)}")
    cased = any(word != word.lower() for word in words if word not in _SPECIAL)
    numbered = {word: number for number, word in enumerate(words)}
    definition: str = BertWordPieceTokenizer(numbered, lowercase=not cased).to_str()
    return definition
