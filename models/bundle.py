"""A model on disk: everything that is needed to get the same answer again, and nothing that could run code.

::

    <name>-<version>/
      bundle.toml          what it is, how it is built and fed, and the sha256 of every other file
      labels.toml          ordered keys into the vocabulary
      calibration.json     per label: curve, threshold, what it was fitted to
      weights.safetensors  float16, single numbers and vectors float32; never a pickle
      metrics.json         evaluation
      README.md            model card, generated from metrics.json

Nothing is guessed or repaired: a bundle that is not exactly what it says is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from models.architectures import Network, build
from models.calibration import Calibration, parse_calibration
from models.errors import BundleError, VocabularyError
from models.transforms import Preprocessing
from models.types import Identity
from models.vocabulary import Label, load_vocabulary

MANIFEST = "bundle.toml"
LABELS = "labels.toml"
CALIBRATION = "calibration.json"
WEIGHTS = "weights.safetensors"
METRICS = "metrics.json"
CARD = "README.md"

REQUIRED = (LABELS, CALIBRATION, WEIGHTS)
OPTIONAL = (METRICS, CARD)

TEXT_INPUTS = ("none", "optional", "required")
EXPLANATIONS = ("gradcam",)

_NAME = re.compile(r"(?P<name>[a-z0-9]+(-[a-z0-9]+)*?)-(?P<version>\d+\.\d+\.\d+)")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What ``bundle.toml`` says, without the hashes.

    Attributes
    ----------
    name, version, summary
        Of the bundle; the summary is one line for a person.
    architecture
        Name of a builder.
    arguments
        Of the builder.
    text
        Whether the network reads text: none, optional or required.
    preprocessing
        Of the films.
    embedding
        Width of the image embedding.
    explanation
        Method of the heat maps.
    """

    name: str
    version: str
    summary: str
    architecture: str
    arguments: Mapping[str, Any]
    text: str
    preprocessing: Preprocessing
    embedding: int
    explanation: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.folder):
            raise ValueError(f"bundle {self.folder!r}: a name is like openi-findings, a version like 0.1.0")
        if self.text not in TEXT_INPUTS:
            raise ValueError(f"inputs.text {self.text!r} is none of {', '.join(TEXT_INPUTS)}")
        if self.explanation not in EXPLANATIONS:
            raise ValueError(f"outputs.explanation {self.explanation!r} is none of {', '.join(EXPLANATIONS)}")

    @property
    def folder(self) -> str:
        """Name of the bundle's folder."""
        return f"{self.name}-{self.version}"

    def network(self, outputs: int) -> Network:
        """Build the untrained network."""
        return build(
            self.architecture,
            outputs=outputs,
            channels=self.preprocessing.channels,
            arguments=dict(self.arguments),
        )


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose files were all there and unaltered when it was read.

    Attributes
    ----------
    path
        Its folder.
    manifest
        What it is.
    labels
        What its outputs are, in order.
    calibration
        Of those labels.
    weights_sha256
        Of the weights file.
    """

    path: Path
    manifest: Manifest
    labels: tuple[Label, ...]
    calibration: Calibration
    weights_sha256: str

    @property
    def identity(self) -> Identity:
        """Enough to find the very same weights and parameters again."""
        return Identity(
            name=self.manifest.name,
            version=self.manifest.version,
            weights_sha256=self.weights_sha256,
            preprocessing=self.manifest.preprocessing.digest(),
            calibration=self.calibration.digest(),
        )

    def network(self) -> Network:
        """Network with its weights, float32, ready to predict on the CPU.

        Raises
        ------
        BundleError
            If the weights do not fit the architecture or hold values that are not finite.
        """
        network = self.manifest.network(len(self.labels))
        # Hashed again: what is loaded is what was verified, even if the folder changed since.
        raw = _read(self.path, WEIGHTS)
        if hashlib.sha256(raw).hexdigest() != self.weights_sha256:
            raise BundleError(f"bundle {self.path}: {WEIGHTS} was altered after it was verified")
        try:
            state = {name: value.float() for name, value in load_safetensors(raw).items()}
        except SafetensorError as error:
            raise BundleError(f"bundle {self.path}: {WEIGHTS} is not a safetensors file: {error}") from error
        _check_state(self.path, network.state_dict(), state)
        network.load_state_dict(state, strict=False)
        return network.eval()


def _check_state(path: Path, wanted: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    shapes = {name: tuple(value.shape) for name, value in weights_of(wanted).items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    for name in sorted(shapes.keys() | found.keys()):
        if shapes.get(name) != found.get(name):
            raise BundleError(
                f"bundle {path}: weight {name} has shape {found.get(name)}, the architecture and the labels "
                f"ask for {shapes.get(name)}"
            )
        if not torch.isfinite(state[name]).all():
            raise BundleError(f"bundle {path}: weight {name} holds values that are not finite")


def weights_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that a bundle keeps of a network's state: all but the counters of batches."""
    return {name: value for name, value in state.items() if value.is_floating_point()}


def read_bundle(path: Path) -> Bundle:
    """Read and verify a bundle; the weights are hashed but not yet loaded.

    Raises
    ------
    BundleError
        If a file is missing, superfluous or altered, or an entry is missing, unknown or wrong.
    """
    table = _toml(path, MANIFEST)
    try:
        sections = {name: dict(table.pop(name)) for name in ("inputs", "outputs", "preprocessing", "sha256")}
        architecture = dict(table.pop("architecture"))
        manifest = Manifest(
            architecture=architecture.pop("name"),
            arguments=architecture.pop("arguments"),
            preprocessing=Preprocessing.from_table(sections["preprocessing"]),
            text=sections["inputs"].pop("text"),
            embedding=sections["outputs"].pop("embedding"),
            explanation=sections["outputs"].pop("explanation"),
            **table,
        )
    except KeyError as error:
        raise BundleError(f"bundle {path}: {MANIFEST} has no {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise BundleError(f"bundle {path}: {MANIFEST}: {error}") from error
    for left in (architecture, sections["inputs"], sections["outputs"]):
        if left:
            raise BundleError(f"bundle {path}: {MANIFEST} has an unknown entry {next(iter(left))}")
    _verify(path, sections["sha256"])
    labels = _toml(path, LABELS)
    if set(labels) != {"keys"} or not labels["keys"]:
        raise BundleError(f"bundle {path}: {LABELS} must hold keys and nothing else")
    try:
        chosen = load_vocabulary().select(labels["keys"])
    except VocabularyError as error:
        raise BundleError(f"bundle {path}: {LABELS}: {error}") from error
    calibration = parse_calibration(_read(path, CALIBRATION).decode("utf-8", "replace"), labels["keys"])
    return Bundle(path, manifest, chosen, calibration, sections["sha256"][WEIGHTS])


def _verify(path: Path, hashes: Mapping[str, str]) -> None:
    here = {file.relative_to(path).as_posix() for file in path.rglob("*") if not file.is_dir()} - {MANIFEST}
    named = set(hashes)
    for odd, what in (
        (set(REQUIRED) - named, "does not name"),
        (named - set(REQUIRED) - set(OPTIONAL), "names the unknown file"),
        (here - named, "does not name"),
    ):
        if odd:
            raise BundleError(f"bundle {path}: {MANIFEST} {what} {min(odd)}")
    for name, wanted in hashes.items():
        if hashlib.sha256(_read(path, name)).hexdigest() != wanted:
            raise BundleError(f"bundle {path}: {name} was altered, its sha256 is not the one in {MANIFEST}")


def _read(path: Path, name: str) -> bytes:
    try:
        return (path / name).read_bytes()
    except OSError as error:
        raise BundleError(f"bundle {path}: {name} cannot be read: {error.strerror}") from error


def _toml(path: Path, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(_read(path, name).decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BundleError(f"bundle {path}: {name} is not TOML: {error}") from error


def write_bundle(
    path: Path, manifest: Manifest, keys: tuple[str, ...], network: Network, calibration: Calibration
) -> Bundle:
    """Write a bundle; the folder appears whole or not at all.

    Parameters
    ----------
    path
        Folder to write; one that is there is replaced.
    network
        With one output a key.

    Raises
    ------
    BundleError
        If what was written would not load again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as draft:
        folder = Path(draft)
        state = {
            # Matrices in half precision; norms and biases are few, and their range does not suit it.
            name: value.detach().cpu().to(torch.float16 if value.dim() > 1 else torch.float32).contiguous()
            for name, value in weights_of(network.state_dict()).items()
        }
        (folder / WEIGHTS).write_bytes(save_safetensors(state))
        (folder / LABELS).write_text(f"keys = {json.dumps(list(keys), indent=4)}\n", encoding="utf-8")
        (folder / CALIBRATION).write_text(calibration.dump(), encoding="utf-8")
        _write_manifest(folder, manifest)
        read_bundle(folder).network()
        if path.exists():
            shutil.rmtree(path)
        shutil.copytree(folder, path)
    return read_bundle(path)


def amend_bundle(bundle: Bundle, files: Mapping[str, str]) -> Bundle:
    """Write the optional files of a bundle, and the manifest that covers them."""
    for name, text in files.items():
        if name not in OPTIONAL:
            raise BundleError(f"bundle {bundle.path}: {name} is not one of {', '.join(OPTIONAL)}")
        (bundle.path / name).write_text(text, encoding="utf-8")
    _write_manifest(bundle.path, bundle.manifest)
    return read_bundle(bundle.path)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    names = [name for name in (*REQUIRED, *OPTIONAL) if (folder / name).exists()]
    tables: dict[str, Mapping[str, Any]] = {
        "architecture": {"name": manifest.architecture},
        "architecture.arguments": manifest.arguments,
        "inputs": {"text": manifest.text},
        "preprocessing": manifest.preprocessing.table(),
        "outputs": {"embedding": manifest.embedding, "explanation": manifest.explanation},
        "sha256": {f'"{name}"': hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names},
    }
    lines = _entries({"name": manifest.name, "version": manifest.version, "summary": manifest.summary})
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_entries(table)]
    (folder / MANIFEST).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _entries(table: Mapping[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items()]


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_entries(value)) + " }"
    # What JSON writes of strings, numbers, truth values and lists is TOML.
    return json.dumps(value, ensure_ascii=False)


def bundles_folder() -> Path:
    """Folder of the bundles that come with the package."""
    return Path(str(resources.files("models"))) / "bundles"


def find_bundle(name_or_path: str | Path) -> Path:
    """Folder of a bundle.

    Parameters
    ----------
    name_or_path
        A folder; or a shipped bundle's ``name-version``; or its ``name`` alone for the newest version.

    Raises
    ------
    BundleError
        If there is none.
    """
    path = Path(name_or_path)
    if (path / MANIFEST).is_file():
        return path
    shipped = {
        folder.name: match
        for folder in bundles_folder().glob("*")
        if (match := _NAME.fullmatch(folder.name)) and (folder / MANIFEST).is_file()
    }
    wanted = str(name_or_path)
    matching = [name for name, match in shipped.items() if wanted in (name, match["name"])]
    if not matching:
        raise BundleError(
            f"no bundle {wanted!r}: it is neither a folder with a {MANIFEST} nor one of "
            f"{', '.join(sorted(shipped)) or 'the shipped ones, for there are none'}"
        )
    newest = max(matching, key=lambda name: [int(part) for part in shipped[name]["version"].split(".")])
    return bundles_folder() / newest
