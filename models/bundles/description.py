"""Description of a bundle: what its ``bundle.toml`` says, without the hashes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.bundles.lookup import BUNDLE_NAME
from models.errors import BundleError
from models.processing.transforms import Preprocessing
from models.text.text_format import TextFormat

if TYPE_CHECKING:
    from models.architectures.interface import Network

TOKENIZER = "tokenizer.json"
GRAPH_FAMILY = "onnx"
"""Architecture of imported networks: the ONNX graph itself, which runs in ONNX Runtime alone."""
TEXT_INPUTS = ("none", "optional", "required")
EXPLANATIONS = ("gradcam", "none")


@dataclass(frozen=True, slots=True)
class Manifest:
    """Contents of ``bundle.toml`` without the hashes.

    Attributes
    ----------
    name, version, summary
        Name, version and a summary of one line for a person.
    architecture
        Name of the architecture (:data:`models.architectures.registry.BUILDERS`).
    arguments
        Arguments of the architecture.
    text
        Text input of the network: none, optional or required.
    preprocessing
        Preprocessing of the films.
    embedding
        Width of the image embedding.
    explanation
        Method of the heat maps that go with a report; ``none`` for none.
    tokens
        Truncation and padding of texts; None for a bundle without a tokenizer. A network that reads no text
        of a study may still have one, for prompts.
    """

    name: str
    version: str
    summary: str
    architecture: str
    arguments: Mapping[str, Any]
    text: str
    preprocessing: Preprocessing
    embedding: int
    explanation: str
    tokens: TextFormat | None = None

    def __post_init__(self) -> None:
        if not BUNDLE_NAME.fullmatch(self.folder):
            raise ValueError(f"bundle {self.folder!r}: a name is like openi-findings, a version like 0.1.0")
        if self.text not in TEXT_INPUTS:
            raise ValueError(f"inputs.text {self.text!r} is none of {', '.join(TEXT_INPUTS)}")
        if self.text != "none" and self.tokens is None:
            raise ValueError(
                f"inputs.text {self.text!r} needs inputs.max_length, inputs.pad_id and {TOKENIZER}"
            )
        if self.explanation not in EXPLANATIONS:
            raise ValueError(f"outputs.explanation {self.explanation!r} is none of {', '.join(EXPLANATIONS)}")

    @property
    def folder(self) -> str:
        """Name of the bundle's folder."""
        return f"{self.name}-{self.version}"

    @property
    def graph_alone(self) -> bool:
        """Whether the network is an imported ONNX graph, which no other runtime can compute."""
        return self.architecture == GRAPH_FAMILY

    def network(self, outputs: int) -> Network:
        """Build the untrained network.

        Raises
        ------
        BundleError
            If there is no such architecture, or it does not fit the manifest.
        """
        if self.graph_alone:
            raise BundleError(
                f"bundle {self.folder} was imported as an ONNX graph, which runs in ONNX Runtime alone; set "
                'worker.runtime to "auto" or "onnx"'
            )
        from models.architectures.registry import build_network  # noqa: PLC0415 - torch comes with it

        network = build_network(
            self.architecture,
            outputs=outputs,
            channels=self.preprocessing.channels,
            arguments=dict(self.arguments),
        )
        if network.reads_text != (self.text != "none"):
            raise BundleError(
                f"bundle {self.folder} does not fit the network {self.architecture}: inputs.text is "
                f"{self.text!r}, yet it reads {'' if network.reads_text else 'no '}text"
            )
        return network
