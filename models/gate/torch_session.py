"""Session of the gate in torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch

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
        self._preprocessing = manifest.preprocessing
        try:
            network = GateNetwork(backbone=manifest.backbone, channels=manifest.preprocessing.channels)
        except ValueError as error:
            raise BundleError(f"gate {path}: gate.toml: {error}") from error
        load_weights(network, path, hashes[WEIGHTS])
        network = network.requires_grad_(requires_grad=False).eval()
        try:
            self.device = torch.device(device)
            self.network = network.to(self.device).to(memory_format=torch.channels_last)
        except (RuntimeError, AssertionError) as error:
            raise BundleError(f"gate {path} cannot be put on device {device!r}: {error}") from error
        self.width = network.width

    def standardise(self, pixels: FloatArray) -> FloatArray:
        """Bring one film to the square grid and the percentile window."""
        return self._preprocessing.standardise(pixels).numpy()

    @torch.inference_mode()
    def run(self, standard: FloatArray) -> GateAnswers:
        """Look at standardised films."""
        images = self._preprocessing.tensor(torch.from_numpy(standard))
        features = self.network.features(images.to(self.device)).float()
        scores, distances = self.network.judge(features)
        return GateAnswers(scores.cpu().numpy(), distances.cpu().numpy(), features.cpu().numpy())
