"""Session of the gate in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from models.bundles.onnx_session import OnnxSession
from models.bundles.runtime import ONNX
from models.gate.session import GateAnswers
from models.processing import array_transforms
from models.processing.types import FloatArray

if TYPE_CHECKING:
    from models.gate.model import GateManifest

OUTPUTS = ("scores", "distances", "features")
"""Results of a gate's graph, as :class:`models.gate.session.GateAnswers` names them."""


class OnnxGateSession:
    """ONNX graph of a gate.

    Parameters
    ----------
    path
        Verified folder.
    manifest, hashes
        As :func:`models.gate.model.read_manifest` gives them.
    threads
        Number of threads; None for one for each core.

    Raises
    ------
    BundleError
        If the graph cannot be loaded.
    """

    runtime = ONNX

    def __init__(
        self, path: Path, manifest: GateManifest, hashes: Mapping[str, str], *, threads: int | None = None
    ) -> None:
        self._preprocessing = manifest.preprocessing
        self._session = OnnxSession(path, hashes, OUTPUTS, threads=threads)
        self.width = len(self._session.weight("centre"))

    def standardise(self, pixels: FloatArray) -> FloatArray:
        """Bring one film to the square grid and the percentile window."""
        return array_transforms.standardise(self._preprocessing, pixels)

    def run(self, standard: FloatArray) -> GateAnswers:
        """Look at standardised films."""
        images = array_transforms.network_input(self._preprocessing, list(standard))
        return GateAnswers(*self._session.run(images))
