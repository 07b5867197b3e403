"""Bundle: a model on disk, with everything that a prediction depends on and nothing that could run code.

::

    <name>-<version>/
      bundle.toml          name, architecture, inputs, outputs, and the sha256 of every other file
      labels.toml          keys of the labels, in the order of the outputs, and labels that are its own
      calibration.json     per label: curve, threshold, what it was fitted to
      tokenizer.json       tokenizer of the text; only for a network with a text tower
      weights.safetensors  float16, single numbers and vectors float32; never a pickle
      graph.onnx           graph for ONNX Runtime over these weights; of convolutional families and imports
      maps.json            which heat maps are withheld; without it, those that are flat
      metrics.json         evaluation
      README.md            model card, generated from metrics.json

Nothing is guessed or repaired: a bundle that is not exactly what it says is refused.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.bundles.bundle_labels import dump_labels, parse_labels
from models.bundles.description import TOKENIZER, Manifest
from models.bundles.lookup import LABELS, MANIFEST, find_bundle_folder
from models.bundles.manifest import (
    AMENDABLE,
    GRAPH,
    WEIGHTS,
    file_hashes,
    read_file,
    read_table,
    read_verified,
    to_toml,
    verify_folder,
)
from models.errors import BundleError, VocabularyError
from models.labels.calibration import Calibration, parse_calibration
from models.labels.vocabulary import Label, load_vocabulary
from models.processing.map_check import MapCheck, parse_map_check
from models.processing.transforms import Preprocessing
from models.processing.types import Identity
from models.text.text_format import TextFormat

if TYPE_CHECKING:
    from models.architectures.interface import Network
    from models.text.tokenizer import Tokenizer

CALIBRATION = "calibration.json"
MAPS = "maps.json"

REQUIRED = (LABELS, CALIBRATION, WEIGHTS)
_ADDED = (GRAPH, MAPS, *AMENDABLE)
"""Files that a finished bundle may get."""
OPTIONAL = (TOKENIZER, *_ADDED)


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was complete and unaltered when it was read.

    Attributes
    ----------
    path
        Folder of the bundle.
    manifest
        Contents of ``bundle.toml``.
    labels
        Labels of the outputs, in order.
    calibration
        Calibration of these labels.
    hashes
        Hashes of the other files by name, sha256 in lower-case hexadecimal.
    map_check
        Check that withholds implausible heat maps.
    """

    path: Path
    manifest: Manifest
    labels: tuple[Label, ...]
    calibration: Calibration
    hashes: Mapping[str, str]
    map_check: MapCheck = MapCheck()  # noqa: RUF009 - frozen

    @property
    def weights_sha256(self) -> str:
        """Sha256 of the weights file."""
        return self.hashes[WEIGHTS]

    @property
    def has_graph(self) -> bool:
        """Whether the bundle has an ONNX graph."""
        return GRAPH in self.hashes

    @property
    def identity(self) -> Identity:
        """Identity of the exact weights and parameters, as it is written into results."""
        return Identity(
            name=self.manifest.name,
            version=self.manifest.version,
            weights_sha256=self.weights_sha256,
            preprocessing=self._preprocessing(),
            calibration=self.calibration.digest(),
        )

    def _preprocessing(self) -> str:
        """Short hash of the preprocessing of films and, for a bundle with a tokenizer, of text."""
        digest = self.manifest.preprocessing.digest()
        if self.manifest.tokens is None:
            return digest
        tokens = json.dumps([digest, self.hashes[TOKENIZER], asdict(self.manifest.tokens)])
        return hashlib.sha256(tokens.encode()).hexdigest()[:16]

    def tokenizer(self) -> Tokenizer | None:
        """Tokenizer of the texts; None for a bundle without one.

        Raises
        ------
        BundleError
            If the file is no tokenizer, or does not fit the manifest.
        """
        if self.manifest.tokens is None:
            return None
        from models.text.tokenizer import Tokenizer  # noqa: PLC0415 - torch comes with it

        try:
            return Tokenizer(
                read_verified(self.path, TOKENIZER, self.hashes[TOKENIZER]).decode("utf-8", "replace"),
                self.manifest.tokens,
            )
        except ValueError as error:
            raise BundleError(f"bundle {self.path}: {TOKENIZER}: {error}") from error

    def network(self) -> Network:
        """Network with its weights, float32, ready to predict on the CPU.

        Raises
        ------
        BundleError
            If the weights do not fit the architecture or hold values that are not finite, or the tokenizer
            does not fit the text tower.
        """
        from models.bundles.weights import load_weights  # noqa: PLC0415 - torch comes with it

        network = self.manifest.network(len(self.labels))
        self._check_tokens(network)
        load_weights(network, self.path, self.weights_sha256)
        return network.eval()

    def _check_tokens(self, network: Network) -> None:
        tokenizer, most = self.tokenizer(), network.text_limits
        if tokenizer is None and most is None:
            return
        if tokenizer is None:
            raise BundleError(
                f"bundle {self.path}: the network has a text tower, and there is no {TOKENIZER}"
            )
        if most is None:
            raise BundleError(
                f"bundle {self.path}: the network has no text tower to read what {TOKENIZER} gives"
            )
        asked = tokenizer.limits
        if asked.vocabulary > most.vocabulary or asked.length > most.length:
            raise BundleError(
                f"bundle {self.path}: the tokenizer gives {asked.vocabulary} ids and {asked.length} tokens, "
                f"the text tower takes {most.vocabulary} and {most.length}"
            )


def read_bundle(path: Path) -> Bundle:
    """Read and verify a bundle; the weights are hashed but not yet loaded.

    Raises
    ------
    BundleError
        If a file is missing, superfluous or altered, or an entry is missing, unknown or wrong.
    """
    table = read_table(path, MANIFEST)
    try:
        sections = {name: dict(table.pop(name)) for name in ("inputs", "outputs", "preprocessing", "sha256")}
        architecture = dict(table.pop("architecture"))
        manifest = Manifest(
            architecture=architecture.pop("name"),
            arguments=architecture.pop("arguments"),
            preprocessing=Preprocessing.from_table(sections["preprocessing"]),
            text=sections["inputs"].pop("text"),
            tokens=_text_format(sections["inputs"]),
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
    required = {
        *REQUIRED,
        *([TOKENIZER] if manifest.tokens else []),
        *([GRAPH] if manifest.graph_alone else []),
    }
    verify_folder(path, MANIFEST, sections["sha256"], required=required, optional=set(_ADDED))
    try:
        chosen = parse_labels(read_table(path, LABELS))
    except VocabularyError as error:
        raise BundleError(f"bundle {path}: {LABELS}: {error}") from error
    keys = [label.key for label in chosen]
    calibration = parse_calibration(read_file(path, CALIBRATION).decode("utf-8", "replace"), keys)
    return Bundle(
        path, manifest, chosen, calibration, sections["sha256"], _map_check(path, sections["sha256"])
    )


def _map_check(path: Path, hashes: Mapping[str, str]) -> MapCheck:
    if MAPS not in hashes:
        return MapCheck()
    try:
        return parse_map_check(read_file(path, MAPS).decode("utf-8", "replace"))
    except ValueError as error:
        raise BundleError(f"bundle {path}: {MAPS}: {error}") from error


def _text_format(inputs: dict[str, Any]) -> TextFormat | None:
    """Take the text entries out of ``[inputs]``: both or neither."""
    names = ("max_length", "pad_id")
    if not any(name in inputs for name in names):
        return None
    return TextFormat(**{name: inputs.pop(name) for name in names})


def write_bundle(
    path: Path,
    manifest: Manifest,
    keys: tuple[str, ...],
    network: Network,
    calibration: Calibration,
    *,
    tokenizer: str | None = None,
) -> Bundle:
    """Write a bundle; the folder appears whole or not at all.

    Parameters
    ----------
    path
        Folder to write; an existing one is replaced.
    network
        Trained network with one output for each key.
    tokenizer
        Contents of ``tokenizer.json``; required when the manifest has a text format.

    Raises
    ------
    BundleError
        If the written bundle would not load again.
    """
    from models.bundles.weights import pack_weights  # noqa: PLC0415 - torch comes with it

    files: dict[str, str | bytes] = {
        WEIGHTS: pack_weights(network),
        LABELS: dump_labels(load_vocabulary().select(keys)),
        CALIBRATION: calibration.dump(),
        **({} if tokenizer is None else {TOKENIZER: tokenizer}),
    }
    return write_files(path, manifest, files, lambda bundle: bundle.network())


def write_files(
    path: Path, manifest: Manifest, files: Mapping[str, str | bytes], check: Callable[[Bundle], object]
) -> Bundle:
    """Write a bundle from its files; the folder appears whole or not at all.

    Parameters
    ----------
    path
        Folder to write; an existing one is replaced.
    files
        Contents by name, without the manifest.
    check
        Function that fails for a bundle that cannot be used; it is asked before the folder appears.

    Raises
    ------
    BundleError
        If the written bundle would not load again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}-") as draft:
        folder = Path(draft) / path.name
        folder.mkdir()
        _write(folder, files)
        _write_manifest(folder, manifest)
        check(read_bundle(folder))
        if path.exists():
            path.rename(Path(draft) / "replaced")
        folder.rename(path)
    return read_bundle(path)


def _write(folder: Path, files: Mapping[str, str | bytes]) -> None:
    for name, text in files.items():
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())


def amend_bundle(bundle: Bundle, files: Mapping[str, str | bytes]) -> Bundle:
    """Write files that change no score, and the manifest with their new hashes.

    Raises
    ------
    BundleError
        If a file is not one that may be added.
    """
    for name in files:
        if name not in _ADDED:
            raise BundleError(f"bundle {bundle.path}: {name} is not one of {', '.join(_ADDED)}")
    _write(bundle.path, files)
    _write_manifest(bundle.path, bundle.manifest)
    return read_bundle(bundle.path)


def _write_manifest(folder: Path, manifest: Manifest) -> None:
    entries = {"name": manifest.name, "version": manifest.version, "summary": manifest.summary}
    tables: dict[str, Mapping[str, Any]] = {
        "architecture": {"name": manifest.architecture},
        "architecture.arguments": manifest.arguments,
        "inputs": {"text": manifest.text, **(asdict(manifest.tokens) if manifest.tokens else {})},
        "preprocessing": manifest.preprocessing.table(),
        "outputs": {"embedding": manifest.embedding, "explanation": manifest.explanation},
        "sha256": file_hashes(folder, (*REQUIRED, *OPTIONAL)),
    }
    (folder / MANIFEST).write_text(to_toml(entries, tables), encoding="utf-8")


def find_bundle(name_or_path: str | Path) -> Path:
    """Folder of a bundle, as :func:`models.bundles.lookup.find_bundle_folder` finds it."""
    return find_bundle_folder(name_or_path, MANIFEST)
