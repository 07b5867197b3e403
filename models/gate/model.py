"""Gate in front of the models: accepts chest films, frontal or lateral, upright, with dark lungs.

::

    <name>-<version>/
      gate.toml            description, thresholds, and the SHA-256 of every other file
      weights.safetensors  weights of the network
      graph.onnx           graph for ONNX Runtime over these weights; optional
      mirror.safetensors   weights of the mirror answer; optional
      metrics.json         error rates
      README.md            model card, generated from metrics.json
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from models.bundles.lookup import GATE_MANIFEST, find_bundle_folder
from models.bundles.manifest import (
    AMENDABLE,
    GRAPH,
    WEIGHTS,
    file_hashes,
    read_table,
    read_verified,
    to_toml,
    verify_folder,
)
from models.bundles.runtime import ONNX, TORCH, choose_runtime
from models.errors import BundleError, PredictionError, UsageError
from models.gate.mirror import MIRROR, asymmetry, mirrored_scores, pack_mirror, unpack_mirror
from models.gate.session import VIEWS, GateSession
from models.processing.transforms import Preprocessing
from models.processing.types import Film, FloatArray

if TYPE_CHECKING:
    from models.gate.network import GateNetwork
    from models.gate.torch_session import TorchGateSession

MANIFEST = GATE_MANIFEST
"""Name of the manifest; differs from that of a bundle of findings, so that neither is taken for the other."""

#: Films that go through the network together.
_FILMS_AT_ONCE = 16


class RefusalReason(enum.StrEnum):
    """Reason why a film is refused; the worker finds the coded reason under the same key."""

    BLANK = "blank"
    NOT_CHEST = "not_chest"
    INVERTED = "inverted"
    ROTATED = "rotated"
    OUT_OF_DISTRIBUTION = "out_of_distribution"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Thresholds at which a score refuses a film.

    Attributes
    ----------
    chest
        Smallest chest score of an accepted film.
    inverted, rotated
        Scores from which a film counts as inverted or rotated.
    distance
        Largest distance of an accepted film from the chest films of either view.
    """

    chest: float
    inverted: float
    rotated: float
    distance: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not float or not 0 < value < (np.inf if field.name == "distance" else 1):
                raise ValueError(f"threshold {field.name} = {value!r} is no real number in its range")


@dataclass(frozen=True, slots=True)
class GateResult:
    """Result of the gate for one film. The scores are not calibrated, hence no probabilities.

    Attributes
    ----------
    film
        Identifier of the film.
    view
        ``frontal`` or ``lateral``; without meaning when the film is refused.
    view_score
        Score of that view, in [0.5, 1].
    chest_score, inverted_score, rotated_score
        Scores in [0, 1].
    distance
        Distance to the nearer centre of the two views; about 1 for an ordinary film.
    reason
        Reason why the film is refused; None when it is accepted.
    """

    film: str
    view: str
    view_score: float
    chest_score: float
    inverted_score: float
    rotated_score: float
    distance: float
    reason: RefusalReason | None


@dataclass(frozen=True, slots=True)
class GateManifest:
    """Content of ``gate.toml``, without the hashes.

    Attributes
    ----------
    name, version, summary
        Name, version and summary of the gate.
    fitted_to
        Data sets of films and sources of other pictures that the gate was fitted to.
    backbone
        Name of a timm configuration.
    preprocessing
        Preprocessing of the films.
    thresholds
        Thresholds of refusal.
    """

    name: str
    version: str
    summary: str
    fitted_to: tuple[str, ...]
    backbone: str
    preprocessing: Preprocessing
    thresholds: Thresholds

    @property
    def folder(self) -> str:
        """Name of the gate's folder."""
        return f"{self.name}-{self.version}"

    def dump(self, hashes: Mapping[str, str]) -> str:
        """Text of ``gate.toml``."""
        entries = {"name": self.name, "version": self.version, "summary": self.summary}
        tables: dict[str, Mapping[str, Any]] = {
            "architecture": {"backbone": self.backbone},
            "preprocessing": self.preprocessing.table(),
            "thresholds": {field.name: getattr(self.thresholds, field.name) for field in fields(Thresholds)},
            "sha256": hashes,
        }
        return to_toml({**entries, "fitted_to": list(self.fitted_to)}, tables)


class Gate:
    """A loaded gate.

    Parameters
    ----------
    path
        Folder of the gate.
    device
        Torch device.
    runtime
        Inference runtime: ``torch``, ``onnx``, or ``auto`` for what suits gate, device and machine.
    threads
        Number of threads in ONNX Runtime; None for one for each core.

    Raises
    ------
    BundleError
        If the folder is not whole, or does not fit its own description or the device.
    """

    def __init__(
        self, path: Path, *, device: str = "cpu", runtime: str = TORCH, threads: int | None = None
    ) -> None:
        self.path = path
        self.manifest, self.hashes = read_manifest(path)
        choice = choose_runtime(runtime, device=device, graph=GRAPH in self.hashes)
        self.session: GateSession = self._open_session(choice.name, device, threads)
        self._mirror = (
            unpack_mirror(read_verified(path, MIRROR, self.hashes[MIRROR]), self.session.width)
            if MIRROR in self.hashes
            else None
        )

    def _open_session(self, runtime: str, device: str, threads: int | None) -> GateSession:
        """Open the gate in a runtime, whose library is imported only here."""
        if runtime != ONNX:
            from models.gate.torch_session import TorchGateSession  # noqa: PLC0415

            return TorchGateSession(self.path, self.manifest, self.hashes, device=device)
        if GRAPH not in self.hashes:
            raise BundleError(
                f"gate {self.path} has no ONNX graph, without which it runs in torch only; "
                f"`dicom-node models export {self.path}` writes it"
            )
        from models.gate.onnx_session import OnnxGateSession  # noqa: PLC0415

        return OnnxGateSession(self.path, self.manifest, self.hashes, threads=threads)

    @classmethod
    def load(
        cls,
        name_or_path: str | Path = "gate",
        *,
        device: str = "cpu",
        runtime: str = TORCH,
        threads: int | None = None,
    ) -> Self:
        """Find, verify and load a gate, and run it once so that the first film is not the slow one.

        Parameters
        ----------
        name_or_path
            A folder, or the ``name-version`` or ``name`` of one that comes with the package.
        device, runtime, threads
            As the class takes them.

        Raises
        ------
        BundleError
            If it is not there, not whole, or does not fit the device.
        """
        gate = cls(
            find_bundle_folder(name_or_path, MANIFEST), device=device, runtime=runtime, threads=threads
        )
        side = gate.manifest.preprocessing.grid
        gate.judge([Film("first", np.eye(side, dtype=np.float32))])
        return gate

    @property
    def network(self) -> GateNetwork:
        """Network of torch.

        Raises
        ------
        UsageError
            If the gate runs in another runtime.
        """
        if self.session.runtime != TORCH:
            raise UsageError(f"gate {self.manifest.folder} runs in ONNX Runtime, and this needs torch")
        session: TorchGateSession = self.session  # type: ignore[assignment] # the runtime says which
        return session.network

    @property
    def identity(self) -> str:
        """Name, version and the first digits of the weights' sha256: enough to find the very same gate."""
        return f"{self.manifest.name} {self.manifest.version} {self.hashes[WEIGHTS][:12]}"

    def judge(self, films: Sequence[Film]) -> list[GateResult]:
        """Judge each film: its view, and whether the models may read it.

        Raises
        ------
        PredictionError
            If the network gives a value that is not a number.
        """
        verdicts: list[GateResult] = []
        for start in range(0, len(films), _FILMS_AT_ONCE):
            some = films[start : start + _FILMS_AT_ONCE]
            standard = np.stack([self.standardise(film.pixels) for film in some])
            answers = self.session.run(standard)
            if not (np.isfinite(answers.scores).all() and np.isfinite(answers.distances).all()):
                raise PredictionError(f"gate {self.manifest.folder} gave no number for one of its films")
            for film, pixels, row, distance in zip(
                some, standard, answers.scores.tolist(), answers.distances.tolist(), strict=True
            ):
                verdicts.append(self._verdict(film.identifier, row, distance, blank=not pixels.any()))
        return verdicts

    def mirrored_scores(self, films: Sequence[FloatArray]) -> Sequence[float] | None:
        """Score how much each frontal film looks as if left and right were exchanged.

        Parameters
        ----------
        films
            Pixels of upright films, each of shape (rows, columns).

        Returns
        -------
        sequence of float or None
            In [0, 1], above one half for a film that looks mirrored; None for a gate without this answer.
        """
        if self._mirror is None or not films:
            return None if self._mirror is None else []
        standard = np.stack([self.standardise(pixels) for pixels in films])
        return mirrored_scores(self._mirror, asymmetry(self.features, standard))

    def standardise(self, pixels: FloatArray) -> FloatArray:
        """Bring one film to the square grid, shape (grid, grid).

        Pixels of a large film are skipped: averaging all of them would take longer than the network.
        """
        grid = self.manifest.preprocessing.grid
        rows, columns = (max(1, side // (2 * grid)) for side in pixels.shape)
        return self.session.standardise(np.ascontiguousarray(pixels[::rows, ::columns]))

    def features(self, standard: FloatArray) -> FloatArray:
        """Features of standardised films of shape (n, grid, grid), shape (n, width)."""
        return self.session.run(standard).features

    def _verdict(self, film: str, scores: Sequence[float], distance: float, *, blank: bool) -> GateResult:
        lateral, inverted, rotated, chest = scores
        thresholds = self.manifest.thresholds
        objections = {
            RefusalReason.BLANK: blank,
            RefusalReason.NOT_CHEST: chest < thresholds.chest,
            RefusalReason.INVERTED: inverted >= thresholds.inverted,
            RefusalReason.ROTATED: rotated >= thresholds.rotated,
            RefusalReason.OUT_OF_DISTRIBUTION: distance > thresholds.distance,
        }
        return GateResult(
            film=film,
            view=VIEWS[lateral >= 0.5],  # noqa: PLR2004 - the likelier of two
            view_score=max(lateral, 1 - lateral),
            chest_score=chest,
            inverted_score=inverted,
            rotated_score=rotated,
            distance=distance,
            reason=next((objection for objection, holds in objections.items() if holds), None),
        )


def read_manifest(path: Path) -> tuple[GateManifest, Mapping[str, str]]:
    """Read and verify a gate; the weights are hashed but not yet loaded.

    Returns
    -------
    GateManifest
        Content of the manifest.
    Mapping
        SHA-256 of the other files, in lower-case hexadecimal, by name.

    Raises
    ------
    BundleError
        If a file is missing, superfluous or altered, or an entry is missing, unknown or wrong.
    """
    table = read_table(path, MANIFEST)
    try:
        hashes, architecture = dict(table.pop("sha256")), dict(table.pop("architecture"))
        manifest = GateManifest(
            backbone=architecture.pop("backbone"),
            preprocessing=Preprocessing.from_table(table.pop("preprocessing")),
            thresholds=Thresholds(**table.pop("thresholds")),
            fitted_to=tuple(table.pop("fitted_to")),
            **table,
        )
    except KeyError as error:
        raise BundleError(f"gate {path}: {MANIFEST} has no {error.args[0]}") from error
    except (TypeError, ValueError) as error:
        raise BundleError(f"gate {path}: {MANIFEST}: {error}") from error
    if architecture:
        raise BundleError(f"gate {path}: {MANIFEST} has an unknown entry {next(iter(architecture))}")
    verify_folder(path, MANIFEST, hashes, required={WEIGHTS}, optional={GRAPH, MIRROR, *AMENDABLE})
    return manifest, hashes


def write_gate(
    path: Path, manifest: GateManifest, network: GateNetwork, mirror: FloatArray | None = None
) -> Gate:
    """Write a gate; what was in the folder is replaced, figures and card included.

    Parameters
    ----------
    mirror
        Weights of the mirror answer, shape (width,); None for a gate without it.

    Raises
    ------
    BundleError
        If what was written would not load again.
    """
    from models.bundles.weights import pack_weights  # noqa: PLC0415 - torch comes with it

    path.mkdir(parents=True, exist_ok=True)
    for name in (GRAPH, MIRROR, *AMENDABLE):
        (path / name).unlink(missing_ok=True)
    (path / WEIGHTS).write_bytes(pack_weights(network))
    if mirror is not None:
        (path / MIRROR).write_bytes(pack_mirror(mirror))
    return amend_gate(path, manifest, {})


def amend_gate(path: Path, manifest: GateManifest, files: Mapping[str, str | bytes]) -> Gate:
    """Write files that change no verdict, such as figures and card, and the manifest that covers them."""
    for name, text in files.items():
        (path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    hashes = file_hashes(path, (WEIGHTS, GRAPH, MIRROR, *AMENDABLE))
    (path / MANIFEST).write_text(manifest.dump(hashes), encoding="utf-8")
    return Gate(path)
