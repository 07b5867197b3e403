"""Export of a bundle as one ONNX file: weights inside, grey films in, the rest in its metadata."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.bundles.bundle import Bundle
from models.bundles.film_session import OUTPUTS
from models.bundles.manifest import GRAPH, WEIGHTS, read_verified
from models.bundles.onnx_session import INPUT
from models.bundles.predictor import Predictor
from models.bundles.runtime import ONNX, TORCH
from models.errors import ForeignModelError, UsageError
from models.foreign.exported_bundle import RESEARCH_USE, describe_bundle
from models.foreign.importer import drawn_films
from models.foreign.onnx_file import open_session
from models.processing.array_transforms import network_input, standardise
from models.processing.transforms import Preprocessing
from models.processing.types import Film, Study

FILMS: Final = "films"
"""Name of the input: shape (films, 1, size, size), float32 in [0, 1], of films as metadata say."""
_AGREEMENT: Final = 1e-4
"""Largest difference of a score between the bundle and the file."""


def export_onnx(bundle: Bundle, folder: Path) -> Path:
    """Write a bundle as one ONNX file, and compare its scores with the bundle's on drawn films.

    Returns
    -------
    Path
        The file, named like the bundle.

    Raises
    ------
    UsageError
        If the bundle is of no convolutional family (:func:`models.bundles.onnx_graph.make_graph`), or the
        file exists.
    ForeignModelError
        If the file gives other scores than the bundle.
    """
    path = folder / f"{bundle.manifest.folder}.onnx"
    if path.exists():
        raise UsageError(f"{path} exists: choose another --out")
    if bundle.has_graph:
        graph = read_verified(bundle.path, GRAPH, bundle.hashes[GRAPH])
    else:
        from models.bundles.onnx_graph import make_graph  # noqa: PLC0415 - torch comes with it

        graph = make_graph(bundle)
    model = onnx.load_model_from_string(graph)
    _take_in(model.graph, read_verified(bundle.path, WEIGHTS, bundle.weights_sha256))
    _widen(model.graph)
    _read_grey(model.graph, bundle.manifest.preprocessing)
    model.doc_string = f"{bundle.manifest.summary}. {RESEARCH_USE}"
    del model.metadata_props[:]
    helper.set_model_props(model, describe_bundle(bundle))
    _compare(model, bundle, path)
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def _take_in(graph: Any, weights: bytes) -> None:
    """Put the values of the weights file into the graph."""
    for tensor in graph.initializer:
        if tensor.data_location == TensorProto.EXTERNAL:
            said = {entry.key: entry.value for entry in tensor.external_data}
            start = int(said["offset"])
            tensor.raw_data = weights[start : start + int(said["length"])]
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]


def _widen(graph: Any) -> None:
    """Replace half-precision weights that are cast at once by float32 ones, which every tool reads."""
    halves = {tensor.name: tensor for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    gone = []
    for name, tensor in halves.items():
        (user, *others) = users[name]
        if others or user.op_type != "Cast" or user.attribute[0].i != TensorProto.FLOAT:
            continue
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), user.output[0])
        )
        gone.append(user)
    for node in gone:
        graph.node.remove(node)


def _read_grey(graph: Any, preprocessing: Preprocessing) -> None:
    """Put the normalisation and the channels in front of the network."""
    (images,) = [value for value in graph.input if value.name == INPUT]
    batch = images.type.tensor_type.shape.dim[0]
    count = batch.dim_value if batch.HasField("dim_value") else "films"
    size = preprocessing.size
    for name, value in (("films.mean", preprocessing.mean), ("films.std", preprocessing.std)):
        graph.initializer.append(numpy_helper.from_array(np.float32(value), name))
    front = [
        helper.make_node("Sub", [FILMS, "films.mean"], ["films.centred"]),
        helper.make_node("Div", ["films.centred", "films.std"], ["films.normalised"]),
        helper.make_node("Concat", ["films.normalised"] * preprocessing.channels, [INPUT], axis=1),
    ]
    nodes = [*front, *graph.node]
    del graph.input[:], graph.node[:]
    graph.input.append(helper.make_tensor_value_info(FILMS, TensorProto.FLOAT, [count, 1, size, size]))
    graph.node.extend(nodes)


def _compare(model: Any, bundle: Bundle, path: Path) -> None:
    preprocessing = bundle.manifest.preprocessing
    grey = replace(preprocessing, channels=1, mean=0.0, std=1.0)
    films = drawn_films(preprocessing.grid)
    predictor = Predictor(bundle, runtime=ONNX if bundle.has_graph else TORCH)
    session = open_session(model, path)
    batch = session.get_inputs()[0].shape[0]
    for film in films:
        images = network_input(grey, [standardise(preprocessing, film)])
        rows = np.repeat(images, batch if isinstance(batch, int) else 1, axis=0)
        (found,) = session.run([OUTPUTS[0]], {FILMS: rows})
        (wanted,) = predictor.predict([Study((Film("drawn", film),))])
        difference = max(
            abs(float(score) - finding.score)
            for score, finding in zip(found[0], wanted.findings, strict=True)
        )
        if not difference <= _AGREEMENT:
            raise ForeignModelError(f"{path}: the file gives scores that differ by {difference:.6f}")
