"""Export of a network as an ONNX graph that lies beside its weights and holds none itself.

The graph's initialisers are external data (ONNX IR, "External Tensor Data"): each names its place in the
safetensors file, where the values are little-endian and in order, as ONNX asks. So there is one copy of every
weight, and the graph computes with the very weights that the bundle is known by.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import onnx
import torch
from onnx import TensorProto
from onnxscript import optimizer
from torch import Tensor, nn

from models.architectures.interface import Batch, Network
from models.bundles.bundle import Bundle, amend_bundle
from models.bundles.description import Manifest
from models.bundles.film_session import OUTPUTS
from models.bundles.graph_annotations import remove_annotations
from models.bundles.manifest import GRAPH, WEIGHTS, read_verified
from models.bundles.onnx_session import INPUT, WEIGHTS_KEY
from models.errors import BundleError, UsageError

#: Version of the operators; every ONNX Runtime since 1.14 has it.
_OPSET = 18
#: Type of a tensor in the safetensors file -> the same in ONNX.
_TYPES = {"F16": TensorProto.FLOAT16, "F32": TensorProto.FLOAT}
_PREFIX = "network."


class _Films(nn.Module):
    """Network of a bundle, from images to the outputs of its graph."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        output = self.network(Batch(images))
        return output.logits.sigmoid(), output.image_embedding, output.features


def can_export(manifest: Manifest, network: Network) -> bool:
    """Whether a network reads films alone, and only an average lies between its last map and its head."""
    return manifest.text == "none" and manifest.tokens is None and network.closed_form


def write_graph(bundle: Bundle) -> Bundle:
    """Write the ONNX graph of a bundle beside its weights.

    Raises
    ------
    UsageError
        As :func:`make_graph`.
    """
    return amend_bundle(bundle, {GRAPH: make_graph(bundle)})


def make_graph(bundle: Bundle) -> bytes:
    """Make the ONNX graph of a bundle, over its weights file.

    Raises
    ------
    UsageError
        If the bundle is of no convolutional family: more than an average lies between its last feature map
        and its head, or it reads text.
    """
    network = bundle.network()
    if not can_export(bundle.manifest, network):
        raise UsageError(
            f"bundle {bundle.manifest.folder} is of the family {bundle.manifest.architecture}, which runs in "
            "torch only: an ONNX graph is written for networks that average one map of a film alone"
        )
    preprocessing = bundle.manifest.preprocessing
    return export_graph(
        _Films(network.requires_grad_(requires_grad=False)),
        shape=(preprocessing.channels, preprocessing.size, preprocessing.size),
        outputs=OUTPUTS,
        weights=read_verified(bundle.path, WEIGHTS, bundle.weights_sha256),
        sha256=bundle.weights_sha256,
    )


def export_graph(
    wrapped: nn.Module, *, shape: tuple[int, int, int], outputs: Sequence[str], weights: bytes, sha256: str
) -> bytes:
    """Export a network.

    Parameters
    ----------
    wrapped
        Module whose attribute ``network`` holds the weights, and whose result is a tuple of tensors, the
        first axis of each that of the films.
    shape
        Channels, rows and columns of the images.
    outputs
        Names of the results.
    weights
        Contents of the safetensors file, by the names of the network's state.
    sha256
        Hash of that file, which the graph carries.

    Returns
    -------
    bytes
        ONNX file, to be written beside the weights.

    Raises
    ------
    BundleError
        If a weight of the network is not in the file.
    """
    model = exported(wrapped, shape, outputs)
    _bind(model.graph, weights)
    remove_annotations(model)
    onnx.helper.set_model_props(model, {WEIGHTS_KEY: sha256})
    raw: bytes = model.SerializeToString()
    return raw


def exported(wrapped: nn.Module, shape: tuple[int, int, int], outputs: Sequence[str]) -> Any:
    """Export a module for any number of films, with its weights as they are.

    Parameters
    ----------
    wrapped, shape, outputs
        As in :func:`export_graph`; the module may hold its weights under any names.
    """
    images = torch.zeros(2, *shape)
    films = torch.export.Dim("films")
    with _quiet():
        program: Any = torch.onnx.export(
            wrapped.eval(),
            (images,),
            dynamo=True,
            optimize=False,  # it would fold norms into weights, and then they would be others than the file's
            verbose=False,
            input_names=[INPUT],
            output_names=list(outputs),
            dynamic_shapes=({0: films},),
            opset_version=_OPSET,
        )
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    model: onnx.ModelProto = program.model_proto
    return model


def _bind(graph: Any, weights: bytes) -> None:
    """Replace each weight of the graph by its place in the safetensors file."""
    length = int.from_bytes(weights[:8], "little")
    places = json.loads(weights[8 : 8 + length])
    used = {name for node in graph.node for name in node.input}
    kept, casts, names = [], [], {}
    for tensor in graph.initializer:
        if tensor.name not in used:
            continue
        stored = tensor.name.removeprefix(_PREFIX)
        if stored == tensor.name:  # a constant of the graph
            kept.append(tensor)
            continue
        if stored not in places:
            raise BundleError(f"{GRAPH}: {WEIGHTS} has no {stored}, which the network computes with")
        place = places[stored]
        start, end = place["data_offsets"]
        found = TensorProto(name=stored, data_type=_TYPES[place["dtype"]], dims=place["shape"])
        found.data_location = TensorProto.EXTERNAL
        for key, value in (("location", WEIGHTS), ("offset", 8 + length + start), ("length", end - start)):
            found.external_data.add(key=key, value=str(value))
        kept.append(found)
        names[tensor.name] = stored
        if place["dtype"] == "F16":
            names[tensor.name] = f"{stored}.float"
            casts.append(onnx.helper.make_node("Cast", [stored], [names[tensor.name]], to=TensorProto.FLOAT))
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
    nodes = [*casts, *graph.node]
    del graph.initializer[:], graph.node[:]
    graph.initializer.extend(kept)
    graph.node.extend(nodes)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's progress and its warnings of itself from the terminal."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
