"""Graph of a bundle from a foreign network: grey films in; scores, embedding and perhaps a feature map out.

The normalisation of the films becomes part of the graph, channel by channel. Where the network ends in an
average over its last feature map and a linear layer, which is checked by computing it, that map is a result
too, and heat maps have their closed form (:mod:`models.explain.gradcam`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save

from models.bundles.film_session import OUTPUTS
from models.bundles.graph_annotations import remove_annotations
from models.bundles.manifest import WEIGHTS
from models.bundles.onnx_session import INPUT, WEIGHTS_KEY
from models.errors import ForeignModelError
from models.foreign.head import before, closed_form, linear_end
from models.foreign.onnx_file import OnnxNetwork, open_session
from models.processing.types import FloatArray

LOGITS, PROBABILITIES = "logits", "probabilities"
_PREFIX = "network/"
_FEWEST_VALUES = 64
"""Weights with fewer values stay in the graph: they are constants more often than weights."""
_STORED = {TensorProto.FLOAT, TensorProto.FLOAT16}


@dataclass(frozen=True, slots=True)
class Normalisation:
    """Normalisation of grey films in [0, 1]: (value - mean) / std, for each channel of the network."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class BoundGraph:
    """Graph and weights as they lie in a bundle.

    Attributes
    ----------
    graph, weights
        Contents of ``graph.onnx`` and ``weights.safetensors``.
    sha256
        Hash of the weights.
    output
        ``logits`` or ``probabilities``: what the network gives.
    embedding
        Width of the embedding.
    draws
        Whether heat maps have their closed form.
    why_not
        Reason why they have not; empty where they have.
    scores
        Scores of the films that the network was tried on, shape (films, labels).
    """

    graph: bytes
    weights: bytes
    sha256: str
    output: str
    embedding: int
    draws: bool
    why_not: str
    scores: FloatArray


def bind_graph(
    network: OnnxNetwork,
    path: Path,
    films: FloatArray,
    normalisation: Normalisation,
    kept: Sequence[int],
    outputs: int,
    *,
    output: str = "auto",
    output_name: str = "",
    layer: str = "auto",
    thresholds: Sequence[float] | None = None,
) -> BoundGraph:
    """Make the graph of a bundle.

    Parameters
    ----------
    films
        Films to try it on, shape (films, 1, size, size), in [0, 1].
    kept
        Positions of the outputs that have a label.
    outputs
        Number of outputs that the network must have.
    output
        ``logits``, ``probabilities`` or ``auto``: probabilities where a sigmoid or softmax ends the network.
    output_name
        Name of the output that holds the labels; empty for the only one.
    layer
        Name of the last feature map, ``auto`` or ``none``.
    thresholds
        Operating points of TorchXRayVision, one for each output: they become scores of 0.5.

    Raises
    ------
    ForeignModelError
        If the outputs are not one number for each label, or not finite, or not what `output` says.
    """
    # Names of our own cannot meet the network's.
    model = onnx.compose.add_prefix(network.model, _PREFIX)
    source = f"{_PREFIX}{network.input}"
    name = _output(model, path, output_name)
    ends_in = next((node.op_type for node in model.graph.node if name in node.output), "")
    raw = name
    given = output
    if output == "auto":
        given = PROBABILITIES if ends_in in ("Sigmoid", "Softmax") else LOGITS
    if ends_in == "Sigmoid":
        raw = next(node.input[0] for node in model.graph.node if name in node.output)
    head = linear_end(model, raw)
    candidates = [] if head is None or layer == "none" else before(model, head.pooled)
    if layer not in ("auto", "none"):
        candidates = [f"{_PREFIX}{layer}"]
    tried = (_mean(normalisation), films)
    wanted = list(dict.fromkeys([name, raw, *([head.pooled] if head else []), *candidates]))
    found = _compute(model, path, source, wanted, tried)
    _check_outputs(found[name], path, outputs, given)
    features, why_not = closed_form(head, found, raw, candidates)
    if layer not in ("auto", "none") and not features:
        raise ForeignModelError(f"{path}: --heat-map-layer {layer}: {why_not}")
    if layer == "none":
        features, why_not = "", "none were asked for"
    embedded = head.pooled if head is not None and found[head.pooled].ndim == 2 else raw
    tensors = _add_ends(
        model,
        source,
        normalisation,
        name,
        given,
        kept,
        embedded=embedded,
        features=features,
        thresholds=thresholds,
    )
    remove_annotations(model)
    if features and head is not None:
        tensors["head.weight"] = np.ascontiguousarray(head.weights[list(kept)])
    graph, weights, sha256 = _bind(model, tensors)
    scores = _scored(found[name], given, thresholds)[:, list(kept)]
    width = int(found[embedded].shape[1])
    return BoundGraph(graph, weights, sha256, given, width, bool(features), why_not, scores)


def _output(model: Any, path: Path, wanted: str) -> str:
    names = [value.name for value in model.graph.output]
    if wanted:
        if f"{_PREFIX}{wanted}" not in names:
            there = ", ".join(name.removeprefix(_PREFIX) for name in names)
            raise ForeignModelError(f"{path} has no output {wanted!r}; it has {there}")
        return f"{_PREFIX}{wanted}"
    if len(names) != 1:
        there = ", ".join(name.removeprefix(_PREFIX) for name in names)
        raise ForeignModelError(
            f"{path} has the outputs {there}: say by --output-name which holds the labels"
        )
    return str(names[0])


def _mean(normalisation: Normalisation) -> tuple[FloatArray, FloatArray]:
    mean, std = (
        np.array(part, np.float32)[None, :, None, None] for part in (normalisation.mean, normalisation.std)
    )
    return mean, std


def _compute(
    model: Any,
    path: Path,
    source: str,
    wanted: Sequence[str],
    tried: tuple[tuple[FloatArray, FloatArray], FloatArray],
) -> dict[str, FloatArray]:
    """Results of a network, film by film, for tensors within it."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    there = {value.name for value in probe.graph.output}
    produced = {name for node in probe.graph.node for name in node.output}
    for name in wanted:
        if name not in produced:
            raise ForeignModelError(f"{path} has no tensor {name.removeprefix(_PREFIX)!r}")
        if name not in there:
            probe.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = open_session(probe, path)
    (mean, std), films = tried
    batch = session.get_inputs()[0].shape[0]
    rows = []
    for film in films:
        images = np.repeat((film[None] - mean) / std, batch if isinstance(batch, int) else 1, axis=0)
        try:
            rows.append([np.asarray(part)[:1] for part in session.run(list(wanted), {source: images})])
        # Broad on purpose: ONNX Runtime raises classes of its own, which have no common base.
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ForeignModelError(
                f"{path}: the network cannot read films of this size: {reason}"
            ) from error
    return {name: np.concatenate(parts) for name, parts in zip(wanted, zip(*rows, strict=True), strict=True)}


def _check_outputs(found: FloatArray, path: Path, outputs: int, given: str) -> None:
    if found.ndim != 2 or found.shape[1] != outputs:
        shape = " x ".join(map(str, found.shape[1:])) or "one number"
        raise ForeignModelError(f"{path} gives {shape} outputs for a film, and {outputs} labels are named")
    if not np.isfinite(found).all():
        raise ForeignModelError(f"{path} gives values that are not finite for a drawn film")
    if given == PROBABILITIES and (found.min() < 0 or found.max() > 1 + 1e-6):
        raise ForeignModelError(
            f"{path} gives values from {found.min():.3f} to {found.max():.3f}, which are no probabilities: "
            "use --output logits"
        )


def _add_ends(
    model: Any,
    source: str,
    normalisation: Normalisation,
    name: str,
    given: str,
    kept: Sequence[int],
    *,
    embedded: str,
    features: str,
    thresholds: Sequence[float] | None,
) -> dict[str, FloatArray]:
    """Put the normalisation in front of the network and its results behind; give the tensors for them."""
    graph, (mean, std) = model.graph, _mean(normalisation)
    tensors: dict[str, FloatArray] = {"input.mean": mean, "input.std": std}
    initial = {tensor.name for tensor in graph.initializer}
    images = next(value for value in graph.input if value.name not in initial)
    dims = images.type.tensor_type.shape.dim
    first = [helper.make_node("Sub", [INPUT, "input.mean"], ["centred"])]
    first.append(helper.make_node("Div", ["centred", "input.std"], [source]))
    last, at = [], name
    if given == LOGITS:
        last.append(helper.make_node("Sigmoid", [at], ["sigmoid"]))
        at = "sigmoid"
    if thresholds is not None:
        at = _operating_points(last, tensors, at, thresholds)
    graph.initializer.append(numpy_helper.from_array(np.array(kept, np.int64), "kept"))
    graph.initializer.append(numpy_helper.from_array(np.float32(0), "zero"))
    graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    last.append(helper.make_node("Gather", [at, "kept"], ["selected"], axis=1))
    last.append(helper.make_node("Max", ["selected", "zero"], ["not_negative"]))
    results = [
        ("not_negative", "Min"),
        (embedded, "Identity"),
        *([(features, "Identity")] if features else []),
    ]
    for (result, operator), out in zip(results, OUTPUTS, strict=False):
        last.append(helper.make_node(operator, [result, *(["one"] if operator == "Min" else [])], [out]))
    batch = dims[0].dim_value if dims[0].HasField("dim_value") else "films"
    sides = [
        dim.dim_value if dim.HasField("dim_value") else side for dim, side in zip(dims[2:], "hw", strict=True)
    ]
    nodes = [*first, *graph.node, *last]
    del graph.input[:], graph.output[:], graph.node[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [batch, 1, *sides]))
    for out, _ in zip(OUTPUTS, results, strict=False):
        graph.output.append(helper.make_tensor_value_info(out, TensorProto.FLOAT, None))
    graph.node.extend(nodes)
    return tensors


def _operating_points(
    last: list[Any], tensors: dict[str, FloatArray], at: str, points: Sequence[float]
) -> str:
    """Bring each operating point to 0.5, linearly on either side, as TorchXRayVision's ``op_norm`` does."""
    point = _points(points)
    tensors |= {"point": point, "below": 2 * point, "above": 2 * (1 - point), "whole": np.ones_like(point)}
    for operator, inputs, out in (
        ("Less", (at, "point"), "is_below"),
        ("Div", (at, "below"), "lower"),
        ("Sub", ("whole", at), "rest"),
        ("Div", ("rest", "above"), "shrunk"),
        ("Sub", ("whole", "shrunk"), "upper"),
        ("Where", ("is_below", "lower", "upper"), "normalised"),
    ):
        last.append(helper.make_node(operator, list(inputs), [out]))
    return "normalised"


def _points(points: Sequence[float]) -> FloatArray:
    point = np.array(points, np.float32)[None]
    found: FloatArray = np.where(np.isfinite(point) & (point > 0) & (point < 1), point, np.float32(0.5))
    return found


def _scored(raw: FloatArray, given: str, thresholds: Sequence[float] | None) -> FloatArray:
    scores: FloatArray = (1 / (1 + np.exp(-raw)) if given == LOGITS else np.clip(raw, 0, 1)).astype(
        np.float32
    )
    if thresholds is None:
        return scores
    point = _points(thresholds)
    moved: FloatArray = np.where(scores < point, scores / (2 * point), 1 - (1 - scores) / (2 * (1 - point)))
    return moved


def _bind(model: Any, tensors: dict[str, FloatArray]) -> tuple[bytes, bytes, str]:
    """Move the weights into a safetensors file, to which the graph points."""
    source = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    moved = [
        tensor
        for tensor in model.graph.initializer
        if tensor.data_type in _STORED and np.prod(tensor.dims) >= _FEWEST_VALUES
    ]
    used = {name for node in model.graph.node for name in node.input}
    state = {tensor.name: np.ascontiguousarray(numpy_helper.to_array(tensor)) for tensor in moved} | tensors
    # The hash of the weights is what the bundle is known by, so it depends on the operators too.
    weights = save(state, metadata={"graph_sha256": source})
    length = int.from_bytes(weights[:8], "little")
    places = json.loads(weights[8 : 8 + length])
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in state]
    for name, value in state.items():
        if name not in used:
            continue
        kind = TensorProto.FLOAT16 if value.dtype == np.float16 else TensorProto.FLOAT
        tensor = TensorProto(name=name, data_type=kind, dims=value.shape)
        tensor.data_location = TensorProto.EXTERNAL
        start, end = places[name]["data_offsets"]
        for key, text in (("location", WEIGHTS), ("offset", 8 + length + start), ("length", end - start)):
            tensor.external_data.add(key=key, value=str(text))
        kept.append(tensor)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    sha256 = hashlib.sha256(weights).hexdigest()
    helper.set_model_props(model, {WEIGHTS_KEY: sha256})
    return model.SerializeToString(), weights, sha256
