"""ONNX file of another framework: read with its external data, and checked before anything is computed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from google.protobuf.message import DecodeError
from onnx import TensorProto

from models.errors import ForeignModelError

MOST_BYTES = 2 * 1024**3 - 1
"""Largest file, with its external data: no ONNX file in one piece can be larger."""
OLDEST_OPSET = 9
"""Oldest version of the operators that is taken."""
_RANK = 4


@dataclass(frozen=True, slots=True, eq=False)
class OnnxNetwork:
    """ONNX network that reads one batch of images.

    Attributes
    ----------
    model
        Model with all of its weights inside.
    input
        Name of its input.
    channels
        Number of channels: 1 or 3.
    size
        Side of the square input in pixels; None where the network takes any.
    sha256
        Hash of the file and its external data.
    """

    model: Any
    input: str
    channels: int
    size: int | None
    sha256: str


def read_onnx(path: Path, *, most: int = MOST_BYTES) -> OnnxNetwork:
    """Read and check an ONNX file.

    Parameters
    ----------
    most
        Largest size in bytes, with external data.

    Raises
    ------
    ForeignModelError
        If it is missing, too large, damaged, refers to data outside of its folder, has operators that the
        installed ONNX Runtime does not have, or does not read one batch of square images of 1 or 3 channels.
    """
    check_size(path, path, most)
    raw = path.read_bytes()
    try:
        model = onnx.load_model_from_string(raw)
    except DecodeError as error:
        raise ForeignModelError(f"{path} is no ONNX file, or it is damaged: {error}") from error
    if not model.graph.node:
        raise ForeignModelError(f"{path} is no ONNX file, or it is damaged: it holds no network")
    return check_onnx(model, path, _load_external(model, path, raw, most))


def check_size(file: Path, path: Path, most: int, before: int = 0) -> int:
    """Size of a file in bytes, added to those before it.

    Raises
    ------
    ForeignModelError
        If there is no such file, or they are too large together.
    """
    if not file.is_file():
        raise ForeignModelError(f"{path}: there is no file {file}")
    total = before + file.stat().st_size
    if total > most:
        raise ForeignModelError(
            f"{path} has {total} bytes with its data, more than the {most} that are taken"
        )
    return total


def _load_external(model: Any, path: Path, raw: bytes, most: int) -> str:
    """Load external data into the model; give the hash of all files."""
    digest, total, folder = hashlib.sha256(raw), len(raw), path.parent.resolve()
    tensors = [tensor for tensor in _tensors(model.graph) if tensor.data_location == TensorProto.EXTERNAL]
    for name in sorted({_location(tensor) for tensor in tensors}):
        file = folder / name
        if not name or not file.resolve().is_relative_to(folder):
            raise ForeignModelError(f"{path}: its external data {name!r} lies outside of its folder")
        total = check_size(file, path, most, total)
        digest.update(file.read_bytes())
    try:
        for tensor in tensors:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
    except (OSError, ValueError, onnx.checker.ValidationError) as error:
        raise ForeignModelError(f"{path}: its external data cannot be read: {error}") from error
    return digest.hexdigest()


def _tensors(graph: Any) -> list[Any]:
    """Every tensor of a graph, and of the graphs within it."""
    found = list(graph.initializer)
    for node in graph.node:
        for attribute in node.attribute:
            found += [attribute.t] if attribute.HasField("t") else []
            found += attribute.tensors
            for inner in ([attribute.g] if attribute.HasField("g") else []) + list(attribute.graphs):
                found += _tensors(inner)
    return found


def _location(tensor: Any) -> str:
    return next((entry.value for entry in tensor.external_data if entry.key == "location"), "")


def check_onnx(model: Any, path: Path, sha256: str) -> OnnxNetwork:
    """Check a whole model, as :func:`read_onnx` describes it."""
    for opset in model.opset_import:
        if (
            opset.domain in ("", "ai.onnx")
            and not OLDEST_OPSET <= opset.version <= onnx.defs.onnx_opset_version()
        ):
            raise ForeignModelError(
                f"{path}: its opset {opset.version} is not supported; export it with {OLDEST_OPSET} to "
                f"{onnx.defs.onnx_opset_version()}"
            )
    open_session(model, path)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ForeignModelError(
            f"{path} has {len(inputs)} inputs, and only networks of one input, the images, are taken"
        )
    kind = inputs[0].type.tensor_type
    if kind.elem_type != TensorProto.FLOAT:
        raise ForeignModelError(f"{path}: its input {inputs[0].name} is not float32")
    dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
    if len(dims) != _RANK:
        raise ForeignModelError(
            f"{path}: its input has rank {len(dims)}, not {_RANK}: films, channels, rows, columns"
        )
    _, channels, rows, columns = dims
    if channels not in (1, 3):
        raise ForeignModelError(f"{path}: its input has {channels or 'any number of'} channels, not 1 or 3")
    if rows != columns:
        raise ForeignModelError(
            f"{path}: its input has {rows} rows and {columns} columns; only squares are taken"
        )
    return OnnxNetwork(model, inputs[0].name, channels, rows, sha256)


def open_session(model: Any, path: Path) -> Any:
    """Open a model in ONNX Runtime.

    Raises
    ------
    ForeignModelError
        If ONNX Runtime cannot load it.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        return onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    # Broad on purpose: ONNX Runtime raises classes of its own, which have no common base.
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ForeignModelError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it: {reason}"
        ) from error
