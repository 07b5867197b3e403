"""Predictor: a loaded bundle that reads studies, the same way for every caller.

Importing this module imports torch and timm; training libraries stay out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from models.architectures.interface import Batch, Network
from models.bundles.bundle import Bundle, find_bundle, read_bundle
from models.errors import BundleError, PredictionError
from models.labels.calibration import LabelCalibration
from models.labels.vocabulary import Label
from models.processing.types import Film, FindingScore, FloatArray, Identity, Prediction, Study
from models.text.tokenizer import Tokens

#: Largest number of films in one forward pass: more gains nothing on a CPU and takes memory.
_FILMS_AT_ONCE = 16


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
    """

    study: Study
    prediction: Prediction
    features: Tensor | None


class Predictor:
    """A network with its preprocessing and calibration.

    Parameters
    ----------
    bundle
        The verified bundle.
    device
        Device of torch, such as ``cpu`` or ``cuda:0``.

    Attributes
    ----------
    identity
        Identity of the bundle.
    labels
        Labels, in the order of the predictions' findings.
    text
        Text input of the bundle: none, optional or required.
    """

    def __init__(self, bundle: Bundle, *, device: str = "cpu") -> None:
        self.bundle = bundle
        self.identity: Identity = bundle.identity
        self.labels: tuple[Label, ...] = bundle.labels
        self.text: str = bundle.manifest.text
        self.preprocessing = bundle.manifest.preprocessing
        self.explanation: str = bundle.manifest.explanation
        self.tokenizer = bundle.tokenizer()
        try:
            self.device = torch.device(device)
            network = bundle.network().to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise BundleError(f"bundle {bundle.path} cannot be put on device {device!r}: {error}") from error
        # Nothing is trained here. Explanations by gradients ask for gradients of activations only.
        self.network: Network = network.to(memory_format=torch.channels_last).requires_grad_(False)

    @classmethod
    def load(cls, name_or_path: str | Path, *, device: str = "cpu", threads: int | None = None) -> Predictor:
        """Find, verify and load a bundle, and run it once so that the first study is not the slow one.

        Parameters
        ----------
        name_or_path
            As :func:`models.bundles.bundle.find_bundle` takes it.
        device
            Device of torch, such as ``cpu`` or ``cuda:0``.
        threads
            Number of threads of torch in this process; None keeps its default.

        Raises
        ------
        BundleError
            If the bundle is missing or incomplete, or cannot be put on the device.
        """
        if threads is not None:
            torch.set_num_threads(threads)
        predictor = cls(read_bundle(find_bundle(name_or_path)), device=device)
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

    def trace(self, studies: Sequence[Study]) -> list[TracedPrediction]:
        """Predict as :meth:`predict` does, and keep what :func:`models.explain.methods.draw_heatmaps` needs.

        A study's score is the mean over its films, and so is its embedding, brought to unit length. Films of
        several studies share passes through the network, which changes no study's result beyond rounding.

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
        scores, embeddings, features = self._forward(films, tokens)
        traced = []
        start = 0
        for study in studies:
            films_of = slice(start, start + len(study.films))
            start = films_of.stop
            prediction = self._prediction(scores[films_of], embeddings[films_of])
            traced.append(
                TracedPrediction(study, prediction, None if features is None else features[films_of])
            )
        return traced

    def batch(self, study: Study, films: Sequence[int]) -> Batch:
        """Network input of some films of a study, each with the study's text.

        Parameters
        ----------
        films
            Positions in the study.
        """
        images = self.preprocessing([study.films[film].pixels for film in films])
        tokens = None
        if self.text != "none" and self.tokenizer is not None:
            tokens = self.tokenizer([study.text] * len(films))
        return Batch(images.to(self.device), None if tokens is None else tokens.to(self.device))

    @torch.inference_mode()
    def _forward(
        self, films: Sequence[Film], tokens: Tokens | None
    ) -> tuple[FloatArray, FloatArray, Tensor | None]:
        """Scores, embeddings and feature maps, one row a film; `tokens` has one row a film, too."""
        outputs = []
        for start in range(0, len(films), _FILMS_AT_ONCE):
            rows = range(start, min(start + _FILMS_AT_ONCE, len(films)))
            images = self.preprocessing([films[row].pixels for row in rows])
            texts = None if tokens is None else tokens.rows(list(rows)).to(self.device)
            outputs.append(self.network(Batch(images.to(self.device), texts)))
        if not outputs:
            return np.empty((0, len(self.labels)), np.float32), np.empty((0, 0), np.float32), None
        scores = torch.cat([output.logits for output in outputs]).sigmoid().float().cpu()
        embeddings = torch.cat([output.image_embedding for output in outputs]).float().cpu()
        for film, row, embedding in zip(films, scores, embeddings, strict=True):
            if not (torch.isfinite(row).all() and torch.isfinite(embedding).all()):
                raise PredictionError(
                    f"bundle {self.identity.name} gave no number for film {film.identifier}"
                )
        maps = [output.features for output in outputs if output.features is not None]
        return scores.numpy(), embeddings.numpy(), torch.cat(maps).cpu() if maps else None

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
