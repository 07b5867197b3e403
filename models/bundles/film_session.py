"""Inference session of ONNX Runtime: bundles with an ONNX graph, which read films alone, on the processor."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import onnxruntime

from models.bundles.onnx_session import OnnxSession
from models.bundles.runtime import ONNX
from models.bundles.session import Inference
from models.errors import BundleError
from models.processing.array_transforms import network_input, standardise
from models.processing.types import FloatArray

if TYPE_CHECKING:
    from models.bundles.bundle import Bundle
    from models.text.tokenizer import Tokens

OUTPUTS = ("scores", "embedding", "features")
"""Results of a bundle's graph, as :class:`models.bundles.session.Inference` names them."""


class FilmSession:
    """ONNX graph of a bundle.

    Parameters
    ----------
    bundle
        The verified bundle.
    device
        ``cpu`` or ``auto``; no other.
    threads
        Number of threads; None for one for each core.

    Raises
    ------
    BundleError
        If the bundle has no graph, another device is wanted, or the graph cannot be loaded.
    """

    runtime = ONNX

    def __init__(self, bundle: Bundle, *, device: str = "cpu", threads: int | None = None) -> None:
        if not bundle.has_graph:
            raise BundleError(
                f"bundle {bundle.path} has no ONNX graph, without which it runs in torch only; "
                f"`dicom-node models export {bundle.path}` writes it for a convolutional family"
            )
        if device not in ("auto", "cpu"):
            raise BundleError(f"bundle {bundle.path} cannot be put on device {device!r} in ONNX Runtime")
        self._preprocessing = bundle.manifest.preprocessing
        self._threads = threads or len(os.sched_getaffinity(0))
        self._draws = bundle.manifest.explanation != "none"
        outputs = OUTPUTS if self._draws else OUTPUTS[:2]
        self._session = OnnxSession(bundle.path, bundle.hashes, outputs, threads=self._threads)

    @property
    def stand_in(self) -> str:
        """Empty: ONNX Runtime runs on the processor anyway."""
        return ""

    def stand_in_by_processor(self) -> None:
        """Do nothing: ONNX Runtime runs on the processor anyway."""

    def run(self, films: Sequence[FloatArray], tokens: Tokens | None) -> Inference:  # noqa: ARG002
        """Read some films."""
        standard = [standardise(self._preprocessing, film) for film in films]
        scores, embeddings, *features = self._session.run(network_input(self._preprocessing, standard))
        return Inference(scores, embeddings, features[0] if features else None)

    def head_weights(self) -> FloatArray | None:
        """Weights of the head; None for an imported network without a closed form of Grad-CAM."""
        return self._session.weight("head.weight") if self._draws else None

    def describe(self) -> Mapping[str, str]:
        """Device and version of ONNX Runtime."""
        return {"device": f"cpu, {self._threads} threads", "onnxruntime": onnxruntime.__version__}
