"""Report labeler: labels of a report, by a logistic regression over its sentence embeddings.

It is trained on the reports of a training split and their MeSH-derived labels, for every label of the
vocabulary at once, and serves every bundle. It labels reports that are a query or are searched; the known
labels of a reference case are used as they are.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file
from torch import Tensor

from models.data.dataset import LabelledStudy, targets
from models.errors import RetrievalError
from models.labels.vocabulary import load_vocabulary
from models.processing.types import FloatArray
from models.text.sentence_encoder import embed_texts, encoder_identity

FILE = "report_labeler.safetensors"

#: Probability from which a label counts as present in a report.
PRESENT_THRESHOLD = 0.5

#: Weight of the L2 penalty, beside the mean loss of a report; chosen on Open-i val.
_PENALTY = 1e-4
#: Iterations of L-BFGS.
_STEPS = 60


@dataclass(frozen=True, slots=True, eq=False)
class ReportLabeler:
    """Logistic regression from report embeddings to labels.

    Attributes
    ----------
    text_encoder
        Identity of the encoder whose embeddings it takes.
    keys
        Labels of the vocabulary, in the order of the columns.
    weight, bias
        Shapes (width of the vectors, labels) and (labels,).
    """

    text_encoder: str
    keys: tuple[str, ...]
    weight: FloatArray
    bias: FloatArray

    def probabilities(self, sentences: Tensor, keys: Sequence[str]) -> FloatArray:
        """Probability of labels, shape (n, keys); 0 for labels that no training report had.

        Parameters
        ----------
        sentences
            Shape (n, width), as :func:`models.text.sentence_encoder.embed_texts` gives them.
        """
        vectors = sentences.numpy()
        logits = vectors @ self.weight + self.bias
        known = 1 / (1 + np.exp(-logits))
        columns = {key: column for column, key in enumerate(self.keys)}
        found = np.zeros((len(vectors), len(keys)), np.float32)
        for place, key in enumerate(keys):
            if key in columns:
                found[:, place] = known[:, columns[key]]
        return found


def fit_labeler(studies: Sequence[LabelledStudy]) -> ReportLabeler:
    """Train a labeler on labelled reports; the same reports give the same weights.

    Raises
    ------
    RetrievalError
        If no study has a report.
    UsageError
        If the sentence encoder is not installed.
    """
    told = [study for study in studies if study.report]
    if not told:
        raise RetrievalError("no study has a report to learn from: bring the reports of the data set")
    every = tuple(load_vocabulary().labels)
    truth = targets(tuple(told), every)
    chosen = np.flatnonzero(truth.any(axis=0))
    vectors = embed_texts([study.report for study in told])
    wanted = torch.as_tensor(truth[:, chosen], dtype=torch.float32)
    mean, scale = vectors.mean(dim=0), vectors.std()
    standard = (vectors - mean) / scale
    weight = torch.zeros(vectors.shape[1], len(chosen), requires_grad=True)
    bias = torch.full((len(chosen),), -3.0, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=_STEPS, history_size=20, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = standard @ weight + bias
        wrong = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="sum")
        value: Tensor = wrong / len(told) + _PENALTY * (weight**2).sum()
        value.backward()
        return value

    optimizer.step(loss)
    with torch.no_grad():
        # The standardisation is folded into the weights, so that a labeler is one matrix and one vector.
        plain = weight / scale
        shift = bias - mean @ plain
    keys = tuple(every[column] for column in chosen)
    return ReportLabeler(encoder_identity(), keys, plain.numpy(), shift.numpy())


def write_labeler(path: Path, labeler: ReportLabeler) -> None:
    """Write a labeler; an existing file is replaced."""
    said = {"text_encoder": labeler.text_encoder, "keys": json.dumps(labeler.keys)}
    save_file({"weight": labeler.weight, "bias": labeler.bias}, path, metadata=said)


@functools.cache
def load_labeler(path: Path | None = None) -> ReportLabeler:
    """Read a labeler; the one of the package when no file is named.

    Raises
    ------
    RetrievalError
        If it cannot be read, or was trained with another encoder than the installed one.
    UsageError
        If the sentence encoder is not installed.
    """
    path = path or Path(str(resources.files("models.retrieval"))) / FILE
    try:
        with safe_open(path, framework="numpy") as file:
            said = file.metadata() or {}
            labeler = ReportLabeler(
                said["text_encoder"],
                tuple(json.loads(said["keys"])),
                file.get_tensor("weight"),
                file.get_tensor("bias"),
            )
    except (KeyError, OSError, SafetensorError, ValueError) as error:
        raise RetrievalError(f"{path} cannot be read: {error}; make it anew with cases learn") from error
    if (encoder := encoder_identity()) != labeler.text_encoder:
        raise RetrievalError(
            f"{path} was trained on embeddings of {labeler.text_encoder}, and {encoder} is installed"
        )
    return labeler
