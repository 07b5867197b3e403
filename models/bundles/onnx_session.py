"""Inference session of ONNX Runtime: a verified graph with the weights of the verified safetensors file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from safetensors import SafetensorError
from safetensors.numpy import load

from models.bundles.manifest import GRAPH, WEIGHTS, read_verified
from models.errors import BundleError
from models.processing.types import FloatArray

INPUT = "images"
"""Name of the graph's input, shape (films, channels, rows, columns), float32."""
WEIGHTS_KEY = "weights_sha256"
"""Entry of the graph's metadata: hash of the weights file that it belongs to."""

#: Films in one pass: more are not faster on a processor, and each takes 9 MiB.
_TOGETHER = 4


class OnnxSession:
    """Graph of a folder, ready to run on the processor.

    Parameters
    ----------
    path
        Verified folder with graph and weights.
    hashes
        Hashes of its files by name, sha256 in lower-case hexadecimal.
    outputs
        Names of the results to compute.
    threads
        Number of threads; None for one for each core.

    Raises
    ------
    BundleError
        If a file was altered since it was verified, the graph belongs to other weights, or ONNX Runtime
        cannot load it.
    """

    def __init__(
        self, path: Path, hashes: Mapping[str, str], outputs: Sequence[str], *, threads: int | None = None
    ) -> None:
        self._path, self._outputs = path, list(outputs)
        graph = read_verified(path, GRAPH, hashes[GRAPH])
        weights = read_verified(path, WEIGHTS, hashes[WEIGHTS])
        self._weights = _parse_weights(path, weights)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3  # errors only
        # Threads that wait busily for the next film would take a core from the decoder.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # What was verified is what is loaded: the file is not opened a second time.
        options.add_external_initializers_from_files_in_memory([WEIGHTS], [weights], [len(weights)])
        try:
            self._session: Any = onnxruntime.InferenceSession(
                graph, options, providers=["CPUExecutionProvider"]
            )
        # Broad on purpose: ONNX Runtime raises classes of its own, which have no common base.
        except Exception as error:
            raise BundleError(f"bundle {path}: {GRAPH}: ONNX Runtime cannot load it: {error}") from error
        of = self._session.get_modelmeta().custom_metadata_map.get(WEIGHTS_KEY)
        if of != hashes[WEIGHTS]:
            raise BundleError(f"bundle {path}: {GRAPH} was exported from other weights than {WEIGHTS}")
        batch = self._session.get_inputs()[0].shape[0]
        self._fixed = batch if isinstance(batch, int) else None

    def weight(self, name: str) -> FloatArray:
        """One of the weights, float32."""
        return self._weights[name].astype(np.float32)

    def run(self, images: FloatArray) -> list[FloatArray]:
        """Results for images of shape (films, channels, rows, columns), in the order of the outputs.

        Raises
        ------
        BundleError
            If ONNX Runtime cannot compute them.
        """
        step = self._fixed or _TOGETHER
        try:
            parts = [self._pass(images[start : start + step]) for start in range(0, len(images), step)]
        # Broad on purpose: ONNX Runtime raises classes of its own, which have no common base.
        except Exception as error:
            raise BundleError(
                f"bundle {self._path}: {GRAPH}: ONNX Runtime cannot compute it: {error}"
            ) from error
        return [np.concatenate(rows) for rows in zip(*parts, strict=True)]

    def _pass(self, images: FloatArray) -> list[FloatArray]:
        """Results of one pass; a graph of a fixed number of films gets blank ones beside the last."""
        count = len(images)
        if self._fixed:
            images = np.concatenate([images, np.zeros((self._fixed - count, *images.shape[1:]), np.float32)])
        return [rows[:count] for rows in self._session.run(self._outputs, {INPUT: images})]


def _parse_weights(path: Path, raw: bytes) -> dict[str, np.ndarray[Any, np.dtype[np.floating]]]:
    """Weights by name, as they are stored: float16 and float32, all finite."""
    try:
        state = load(raw)
    except SafetensorError as error:
        raise BundleError(f"bundle {path}: {WEIGHTS} is not a safetensors file: {error}") from error
    for name, value in state.items():
        if not np.isfinite(value).all():
            raise BundleError(f"bundle {path}: weight {name} holds values that are not finite")
    return state
