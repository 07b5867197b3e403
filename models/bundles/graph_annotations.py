"""Annotations of an ONNX graph: what speaks of its export and not of its arithmetic."""

from __future__ import annotations

from typing import Any


def remove_annotations(model: Any) -> None:
    """Take traces of the source and names of its folders out of a model, and number its nodes."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    del graph.value_info[:]
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
