"""Inference session of torch: every family, on any device of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from models.architectures.interface import Batch, Network
from models.bundles.device_fallback import DeviceFallback
from models.bundles.runtime import TORCH
from models.bundles.session import Inference, joined
from models.errors import BundleError
from models.processing.types import FloatArray
from models.text.tokenizer import Tokens

if TYPE_CHECKING:
    from models.bundles.bundle import Bundle


class TorchSession:
    """Network of a bundle on a device.

    Parameters
    ----------
    bundle
        The verified bundle.
    device
        Device of torch, such as ``cpu`` or ``cuda:0``.
    threads
        Number of threads of torch in this process; None keeps its default.

    Raises
    ------
    BundleError
        If the weights do not fit, or the network cannot be put on the device.
    """

    runtime = TORCH

    def __init__(self, bundle: Bundle, *, device: str = "cpu", threads: int | None = None) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self._bundle = bundle
        self._preprocessing = bundle.manifest.preprocessing
        try:
            self._fallback = DeviceFallback(f"bundle {bundle.manifest.folder}", torch.device(device))
            self._put_on(self.device)
        except (RuntimeError, AssertionError) as error:
            raise BundleError(f"bundle {bundle.path} cannot be put on device {device!r}: {error}") from error

    @property
    def device(self) -> torch.device:
        """Device of torch that is in use."""
        return self._fallback.device

    @property
    def stand_in(self) -> str:
        """Name of the device that reads in place of the wanted one; empty while that one does."""
        return self._fallback.stand_in

    def stand_in_by_processor(self) -> None:
        """Let the processor read in place of the device."""
        self._fallback.stand_in_by_processor()

    @torch.inference_mode(mode=False)  # explanations take gradients through the weights
    def _put_on(self, device: torch.device) -> None:
        # Nothing is trained here. Explanations by gradients ask for gradients of activations only.
        network = self._bundle.network().to(device).to(memory_format=torch.channels_last)
        self.network: Network = network.requires_grad_(False)
        self._on = device

    def batch(self, films: Sequence[FloatArray], tokens: Tokens | None) -> Batch:
        """Network input of some films."""
        images = self._preprocessing(list(films)).to(self.device)
        return Batch(images, None if tokens is None else tokens.to(self.device))

    @torch.inference_mode()
    def run(self, films: Sequence[FloatArray], tokens: Tokens | None) -> Inference:
        """Read some films, on the device or where its memory ends (:class:`DeviceFallback`)."""

        def read(part: slice) -> Inference:
            if self._on != self.device:
                self._put_on(self.device)
            texts = None if tokens is None else tokens.rows(list(range(len(films))[part]))
            output = self.network(self.batch(films[part], texts))
            return Inference(
                scores=output.logits.sigmoid().float().cpu().numpy(),
                embeddings=output.image_embedding.float().cpu().numpy(),
                features=None if output.features is None else output.features.float().cpu().numpy(),
            )

        return joined(self._fallback.read(len(films), read))

    def head_weights(self) -> FloatArray | None:
        """Weights of the head where Grad-CAM has its closed form; else None."""
        if not self.network.closed_form:
            return None
        weights: FloatArray = self.network.head.weight.detach().float().cpu().numpy()
        return weights

    def describe(self) -> Mapping[str, str]:
        """Device and version of torch."""
        if self.device.type == "cuda":
            said = f"{self.device}, {torch.cuda.get_device_name(self.device)}"
        else:
            said = f"{self.device}, {torch.get_num_threads()} threads"
        if self.stand_in:
            said += ", in place of a device that failed"
        return {"device": said, "torch": torch.__version__}
