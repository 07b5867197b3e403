"""Session of the gate in torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from models.bundles.device_fallback import DeviceFallback
from models.bundles.manifest import WEIGHTS
from models.bundles.runtime import TORCH
from models.bundles.weights import load_weights
from models.errors import BundleError
from models.gate.network import GateNetwork
from models.gate.session import GateAnswers
from models.processing.types import FloatArray

if TYPE_CHECKING:
    from models.gate.model import GateManifest


class TorchGateSession:
    """Network of a gate on a device of torch.

    Parameters
    ----------
    path
        Verified folder.
    manifest, hashes
        As :func:`models.gate.model.read_manifest` gives them.
    device
        Device of torch.

    Raises
    ------
    BundleError
        If the weights do not fit, or the network cannot be put on the device.
    """

    runtime = TORCH

    def __init__(
        self, path: Path, manifest: GateManifest, hashes: Mapping[str, str], *, device: str = "cpu"
    ) -> None:
        self._path, self._manifest, self._weights = path, manifest, hashes[WEIGHTS]
        self._preprocessing = manifest.preprocessing
        try:
            self._fallback = DeviceFallback(f"gate {path.name}", torch.device(device))
            self._put_on(self._fallback.device)
        except (RuntimeError, AssertionError) as error:
            raise BundleError(f"gate {path} cannot be put on device {device!r}: {error}") from error
        self.width = self.network.width

    @torch.inference_mode(mode=False)
    def _put_on(self, device: torch.device) -> None:
        try:
            network = GateNetwork(backbone=self._manifest.backbone, channels=self._preprocessing.channels)
        except ValueError as error:
            raise BundleError(f"gate {self._path}: gate.toml: {error}") from error
        load_weights(network, self._path, self._weights)
        network = network.requires_grad_(requires_grad=False).eval()
        self.network = network.to(device).to(memory_format=torch.channels_last)
        self._on = device

    def standardise(self, pixels: FloatArray) -> FloatArray:
        """Bring one film to the square grid and the percentile window."""
        return self._preprocessing.standardise(pixels).numpy()

    @torch.inference_mode()
    def run(self, standard: FloatArray) -> GateAnswers:
        """Look at standardised films, on the device or where its memory ends (:class:`DeviceFallback`)."""

        def look(part: slice) -> GateAnswers:
            device = self._fallback.device
            if self._on != device:
                self._put_on(device)
            images = self._preprocessing.tensor(torch.from_numpy(standard[part]))
            features = self.network.features(images.to(device)).float()
            scores, distances = self.network.judge(features)
            return GateAnswers(scores.cpu().numpy(), distances.cpu().numpy(), features.cpu().numpy())

        parts = self._fallback.read(len(standard), look)
        return GateAnswers(
            *(np.concatenate([getattr(part, each) for part in parts]) for each in GateAnswers.__slots__)
        )
