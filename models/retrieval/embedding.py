"""Where a study lies: what its films look like, and what it is expected to show.

A place is two parts in one vector, so that an inner product compares both at once:

- the embedding of the bundle, of unit length: its joint space with reports where it has one;
- the square roots of the labels' probabilities, brought to unit length. Between two of these the inner
  product is the Bhattacharyya coefficient (1943) of what is expected of the labels. Of a reference case the
  labels are known: they are 0 or 1 instead.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.errors import RetrievalError
from models.processing.types import FloatArray, Prediction

#: Share of the labels in the similarity; the rest is the embedding's. Chosen on Open-i val.
LABEL_SHARE = 0.9


def place(embeddings: FloatArray, expected: FloatArray) -> FloatArray:
    """Join both parts.

    Parameters
    ----------
    embeddings
        Shape (n, width), of unit length, or zero where there is none.
    expected
        Shape (n, labels), in [0, 1].

    Returns
    -------
    numpy.ndarray
        Shape (n, width + labels), float32: of unit length, and shorter where a part is zero.
    """
    roots = np.sqrt(expected)
    lengths = np.linalg.norm(roots, axis=1, keepdims=True)
    likely = np.divide(roots, lengths, out=np.zeros_like(roots), where=lengths > 0)
    parts = (np.sqrt(1 - LABEL_SHARE) * embeddings, np.sqrt(LABEL_SHARE) * likely)
    return np.concatenate(parts, axis=1).astype(np.float32)


def embeddings_of(predictions: Sequence[Prediction]) -> FloatArray:
    """Embeddings of studies, shape (n, width).

    Raises
    ------
    RetrievalError
        If the bundle gives none.
    """
    found = [prediction.embedding for prediction in predictions if prediction.embedding is not None]
    if len(found) < len(predictions):
        raise RetrievalError(f"bundle {predictions[0].identity.name} embeds no films: use another one")
    return np.stack(found)


def expected_of(predictions: Sequence[Prediction]) -> FloatArray:
    """What the model expects of studies, shape (n, labels): probabilities, or scores where uncalibrated."""
    return np.array(
        [
            [entry.score if entry.probability is None else entry.probability for entry in prediction.findings]
            for prediction in predictions
        ],
        dtype=np.float32,
    )


def places(predictions: Sequence[Prediction]) -> FloatArray:
    """Places of studies that a bundle has read, from their films alone."""
    return place(embeddings_of(predictions), expected_of(predictions))
