"""Head of a foreign network: its last linear layer, and the feature map whose average that layer reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

from models.processing.types import FloatArray

_TOLERANCE = 1e-3
"""Largest error of the closed form, as a share of the largest output."""
_FAR = 8
"""Most nodes between the last feature map and the linear layer."""
_MAP = 4


@dataclass(frozen=True, slots=True, eq=False)
class Head:
    """Linear layer at the end: weights of shape (outputs, width), and the tensors around it."""

    weights: FloatArray
    bias: FloatArray
    pooled: str


def _constants(model: Any) -> dict[str, FloatArray]:
    found = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            found[node.output[0]] = node.attribute[0].t
    return {name: numpy_helper.to_array(tensor) for name, tensor in found.items() if tensor.data_type == 1}


def linear_end(model: Any, name: str) -> Head | None:
    """Linear layer that gives a tensor; None where something else gives it."""
    by_output = {output: node for node in model.graph.node for output in node.output}
    constants = _constants(model)
    node = by_output.get(name)
    while node is not None and node.op_type == "Identity":
        node = by_output.get(node.input[0])
    if node is None:
        return None
    if node.op_type == "Gemm":
        says = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
        weights = constants.get(node.input[1])
        if weights is None or says.get("transA") or says.get("alpha", 1) != 1 or says.get("beta", 1) != 1:
            return None
        weights = weights if says.get("transB") else weights.T
        bias = constants.get(node.input[2]) if len(node.input) > 2 else np.zeros(len(weights), np.float32)
        return None if bias is None else Head(weights, bias, node.input[0])
    bias = np.zeros(1, np.float32)
    if node.op_type == "Add":
        added = next((constants[part] for part in node.input if part in constants), None)
        inner = next(
            (by_output[part] for part in node.input if part in by_output and part not in constants), None
        )
        if added is None or inner is None:
            return None
        bias, node = added, inner
    if node.op_type != "MatMul" or node.input[1] not in constants or constants[node.input[1]].ndim != 2:
        return None
    return Head(constants[node.input[1]].T, bias, node.input[0])


def before(model: Any, name: str) -> list[str]:
    """Tensors on the way to another, last first."""
    by_output = {output: node for node in model.graph.node for output in node.output}
    found: list[str] = []
    for _ in range(_FAR):
        node = by_output.get(name)
        if node is None or not node.input:
            break
        name = node.input[0]
        if name in by_output:
            found.append(name)
    return found


def closed_form(
    head: Head | None, found: dict[str, FloatArray], raw: str, candidates: Sequence[str]
) -> tuple[str, str]:
    """Name of the feature map that the outputs are linear in, or the reason why there is none."""
    if head is None:
        return "", "the network does not end in a linear layer"
    for name in candidates:
        maps = found[name]
        if maps.ndim != _MAP or maps.shape[1] != head.weights.shape[1] or maps.shape[2] * maps.shape[3] == 1:
            continue
        linear = maps.mean(axis=(2, 3)) @ head.weights.T + head.bias
        if np.abs(linear - found[raw]).max() <= _TOLERANCE * max(1.0, float(np.abs(found[raw]).max())):
            return name, ""
    return "", "more than an average lies between the last feature map and the linear layer"
