"""ONNX graph of a gate, written beside its weights."""

from __future__ import annotations

from torch import Tensor, nn

from models.bundles.manifest import GRAPH, WEIGHTS, read_verified
from models.bundles.onnx_graph import export_graph
from models.gate.model import Gate, amend_gate
from models.gate.network import GateNetwork
from models.gate.onnx_session import OUTPUTS


class _Films(nn.Module):
    """Network of a gate, from images to the outputs of its graph."""

    def __init__(self, network: GateNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        features = self.network.features(images)
        return (*self.network.judge(features), features)


def write_gate_graph(gate: Gate) -> Gate:
    """Write the ONNX graph of a gate that runs in torch.

    Raises
    ------
    BundleError
        If the gate was altered since it was loaded.
    """
    preprocessing, sha256 = gate.manifest.preprocessing, gate.hashes[WEIGHTS]
    graph = export_graph(
        _Films(gate.network),
        shape=(preprocessing.channels, preprocessing.size, preprocessing.size),
        outputs=OUTPUTS,
        weights=read_verified(gate.path, WEIGHTS, sha256),
        sha256=sha256,
    )
    return amend_gate(gate.path, gate.manifest, {GRAPH: graph})
