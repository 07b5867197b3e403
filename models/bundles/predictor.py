"""Predictor: a loaded bundle that reads studies, the same way for every caller and in either runtime.

Importing this module imports neither runtime; training libraries stay out.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from models.bundles.bundle import Bundle, find_bundle, read_bundle
from models.bundles.runtime import NEEDS_TORCH, ONNX, TORCH, choose_runtime
from models.bundles.session import FILMS_AT_ONCE, Inference, Session, joined
from models.errors import BundleError, PredictionError, UsageError
from models.labels.calibration import LabelCalibration
from models.labels.vocabulary import Label
from models.processing.map_check import MapCheck
from models.processing.types import Film, FindingScore, FloatArray, Identity, Prediction, Study

if TYPE_CHECKING:
    import torch

    from models.architectures.interface import Batch, Network
    from models.bundles.torch_session import TorchSession
    from models.text.tokenizer import Tokens


@dataclass(frozen=True, slots=True, eq=False)
class TracedPrediction:
    """A prediction with what its explanation needs, so that no second forward pass is made.

    Attributes
    ----------
    study
        The study that was read.
    prediction
        The prediction for it.
    features
        Shape (films, channels, height, width), float32: the last feature maps before pooling; None for a
        network without them.
    given
        Heat maps of each film by the key of the finding, shape (height, width), float32 in [0, 1] over the
        whole film, from a model that draws its own; empty from all others.
    """

    study: Study
    prediction: Prediction
    features: FloatArray | None
    given: tuple[Mapping[str, FloatArray], ...] = ()


class StudyPredictor(Protocol):
    """Predictor of studies, wherever its network runs; a :class:`Predictor` is one."""

    session: Session
    """Place where it runs."""

    @property
    def identity(self) -> Identity:
        """Identity of the model."""
        ...

    @property
    def labels(self) -> tuple[Label, ...]:
        """Labels, in the order of the predictions' findings."""
        ...

    @property
    def text(self) -> str:
        """Text input: none, optional or required."""
        ...

    @property
    def explanation(self) -> str:
        """Method of the heat maps that go with a report; ``none`` for none."""
        ...

    @property
    def runtime(self) -> str:
        """Inference runtime."""
        ...

    @property
    def map_check(self) -> MapCheck:
        """Check that withholds implausible heat maps."""
        ...

    def predict(self, studies: Sequence[Study]) -> list[Prediction]:
        """Predict the findings of each study."""
        ...

    def trace(
        self,
        studies: Sequence[Study],
        *,
        views: Mapping[str, str] | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> list[TracedPrediction]:
        """Predict, and keep what heat maps need.

        Parameters
        ----------
        views
            View of each film by its identifier, ``frontal`` or ``lateral``; others are unknown.
        files
            DICOM file of each film by its identifier, for models that decode films themselves.
        """
        ...


class Predictor:
    """A network with its preprocessing and calibration.

    Parameters
    ----------
    bundle
        The verified bundle.
    device
        Device of torch, such as ``cpu`` or ``cuda:0``.
    runtime
        Inference runtime, ``torch`` or ``onnx``; None for torch, or for the only one that can compute the
        bundle.
    threads
        Number of threads; None for the runtime's default.

    Attributes
    ----------
    identity
        Identity of the bundle.
    labels
        Labels, in the order of the predictions' findings.
    text
        Text input of the bundle: none, optional or required.

    Raises
    ------
    BundleError
        If the bundle does not fit the runtime or the device.
    """

    def __init__(
        self, bundle: Bundle, *, device: str = "cpu", runtime: str | None = None, threads: int | None = None
    ) -> None:
        self.bundle = bundle
        self.identity: Identity = bundle.identity
        self.labels: tuple[Label, ...] = bundle.labels
        self.text: str = bundle.manifest.text
        self.preprocessing = bundle.manifest.preprocessing
        self.explanation: str = bundle.manifest.explanation
        self.tokenizer = bundle.tokenizer()
        runs_in = runtime or (ONNX if bundle.manifest.graph_alone else TORCH)
        self.session: Session = _open_session(bundle, runs_in, device, threads)

    @property
    def runtime(self) -> str:
        """Inference runtime: ``torch`` or ``onnx``."""
        return self.session.runtime

    @property
    def map_check(self) -> MapCheck:
        """Check of the bundle that withholds implausible heat maps."""
        return self.bundle.map_check

    @property
    def network(self) -> Network:
        """Network of torch.

        Raises
        ------
        UsageError
            If the bundle runs in another runtime.
        """
        return self._torch.network

    @network.setter
    def network(self, network: Network) -> None:
        self.session = copy.copy(self._torch)
        self._torch.network = network

    @property
    def device(self) -> torch.device:
        """Device of torch.

        Raises
        ------
        UsageError
            If the bundle runs in another runtime.
        """
        return self._torch.device

    @property
    def _torch(self) -> TorchSession:
        if self.session.runtime != TORCH:
            raise UsageError(
                f"bundle {self.identity.name} runs in ONNX Runtime, and this needs torch; {NEEDS_TORCH}"
            )
        return self.session  # type: ignore[return-value] # the runtime says which

    @classmethod
    def load(
        cls,
        name_or_path: str | Path,
        *,
        device: str = "cpu",
        runtime: str | None = None,
        threads: int | None = None,
        gradients: bool = False,
    ) -> Predictor:
        """Find, verify and load a bundle, and run it once so that the first study is not the slow one.

        Parameters
        ----------
        name_or_path
            As :func:`models.bundles.bundle.find_bundle` takes it.
        device
            Device of torch, such as ``cpu`` or ``cuda:0``.
        runtime
            Inference runtime: ``torch``, ``onnx``, ``auto`` for what suits bundle, device and machine
            (:func:`models.bundles.runtime.choose_runtime`), or None as in the constructor.
        threads
            Number of threads in this process; None for the runtime's default.
        gradients
            True where explanations are wanted that need the network of torch, which ``auto`` then chooses.

        Raises
        ------
        BundleError
            If the bundle is missing or incomplete, or cannot be put on the device.
        """
        bundle = read_bundle(find_bundle(name_or_path))
        if runtime is not None:
            graph, alone = bundle.has_graph, bundle.manifest.graph_alone
            runtime = choose_runtime(
                runtime, device=device, graph=graph, graph_alone=alone, gradients=gradients
            ).name
        predictor = cls(bundle, device=device, runtime=runtime, threads=threads)
        predictor.warm_up()
        return predictor

    def warm_up(self) -> None:
        """Read one blank study of two films.

        Raises
        ------
        BundleError
            If the network cannot read films of the bundle's size, or embeds them in another width.
        """
        side = self.preprocessing.grid
        blank = np.zeros((side, side), np.float32)
        text = None if self.text == "none" else "no finding"
        try:
            (prediction,) = self.predict([Study((Film("first", blank), Film("second", blank)), text)])
        except (AssertionError, RuntimeError, ValueError) as error:
            reason = str(error).partition("\n")[0]
            raise BundleError(
                f"bundle {self.bundle.path}: the network cannot read films of {self.preprocessing.size} "
                f"pixels: {reason}"
            ) from error
        wanted = self.bundle.manifest.embedding
        if prediction.embedding is None or prediction.embedding.shape != (wanted,):
            raise BundleError(f"bundle {self.bundle.path}: the image embedding is not {wanted} numbers wide")

    def predict(self, studies: Sequence[Study]) -> list[Prediction]:
        """Predict the findings of each study.

        Raises
        ------
        PredictionError
            If the network gives a value that is not a number, or the bundle requires text that a study lacks.
        """
        return [traced.prediction for traced in self.trace(studies)]

    def trace(
        self,
        studies: Sequence[Study],
        *,
        views: Mapping[str, str] | None = None,  # noqa: ARG002 - as every StudyPredictor
        files: Mapping[str, Path] | None = None,  # noqa: ARG002
    ) -> list[TracedPrediction]:
        """Predict as :meth:`predict` does, and keep what :func:`models.explain.methods.draw_heatmaps` needs.

        A study's score is the mean over its films, and so is its embedding, brought to unit length. Films of
        several studies share passes through the network, which changes no study's result beyond rounding. A
        bundle needs neither views nor files.

        Raises
        ------
        PredictionError
            If the network gives a value that is not a number, or the bundle requires text that a study lacks.
        """
        for study in studies:
            if self.text == "required" and not (study.text or "").strip():
                raise PredictionError(
                    f"bundle {self.identity.name} needs the study's text, and there is none: "
                    "use another bundle"
                )
        films = [film for study in studies for film in study.films]
        tokens = None
        if self.text != "none" and self.tokenizer is not None:
            texts = self.tokenizer([study.text for study in studies])
            study_of = [row for row, study in enumerate(studies) for _ in study.films]
            tokens = None if texts is None else texts.rows(study_of)
        read = self._forward(films, tokens)
        traced = []
        start = 0
        for study in studies:
            films_of = slice(start, start + len(study.films))
            start = films_of.stop
            prediction = self._prediction(read.scores[films_of], read.embeddings[films_of])
            features = None if read.features is None else read.features[films_of]
            traced.append(TracedPrediction(study, prediction, features))
        return traced

    def batch(self, study: Study, films: Sequence[int]) -> Batch:
        """Input of the network of torch: some films of a study, each with the study's text.

        Parameters
        ----------
        films
            Positions in the study.

        Raises
        ------
        UsageError
            If the bundle runs in another runtime.
        """
        tokens = None
        if self.text != "none" and self.tokenizer is not None:
            tokens = self.tokenizer([study.text] * len(films))
        return self._torch.batch([study.films[film].pixels for film in films], tokens)

    def _forward(self, films: Sequence[Film], tokens: Tokens | None) -> Inference:
        """Results, one row a film; `tokens` has one row a film, too."""
        parts = []
        for start in range(0, len(films), FILMS_AT_ONCE):
            rows = range(start, min(start + FILMS_AT_ONCE, len(films)))
            texts = None if tokens is None else tokens.rows(list(rows))
            parts.append(self.session.run([films[row].pixels for row in rows], texts))
        if not parts:
            return Inference(np.empty((0, len(self.labels)), np.float32), np.empty((0, 0), np.float32), None)
        read = joined(parts)
        for film, row, embedding in zip(films, read.scores, read.embeddings, strict=True):
            if not (np.isfinite(row).all() and np.isfinite(embedding).all()):
                raise PredictionError(
                    f"bundle {self.identity.name} gave no number for film {film.identifier}"
                )
        return read

    def _prediction(self, scores: FloatArray, embeddings: FloatArray) -> Prediction:
        mean = scores.mean(axis=0)
        embedding = embeddings.mean(axis=0)
        length = float(np.linalg.norm(embedding))
        calibrations = self.bundle.calibration.labels
        return Prediction(
            identity=self.identity,
            findings=tuple(
                _finding(label.key, float(mean[column]), scores[:, column], calibrations[label.key])
                for column, label in enumerate(self.labels)
            ),
            embedding=embedding / max(length, 1e-12),
        )


def _open_session(bundle: Bundle, runtime: str, device: str, threads: int | None) -> Session:
    """Open a bundle in a runtime, whose library is imported only here."""
    if runtime != ONNX:
        from models.bundles.torch_session import TorchSession  # noqa: PLC0415

        return TorchSession(bundle, device=device, threads=threads)
    from models.bundles.film_session import FilmSession  # noqa: PLC0415

    return FilmSession(bundle, device=device, threads=threads)


def _finding(key: str, score: float, films: FloatArray, calibration: LabelCalibration) -> FindingScore:
    return FindingScore(
        key=key,
        score=score,
        probability=calibration.probability(score),
        threshold=calibration.threshold,
        present=calibration.present(score),
        film_scores=tuple(float(value) for value in films),
        interval=calibration.interval(score),
    )
