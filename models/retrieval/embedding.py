"""Study embedding: one vector for the appearance of a study's films and for its labels.

The vector has two parts, so that an inner product compares both at once:

- the image embedding of the bundle, of unit length: that of its joint space with reports where it has one;
- the square roots of the labels' probabilities, scaled to unit length. The inner product of two of these is
  the Bhattacharyya coefficient (1943) of the label distributions. A reference case has known labels: 0 or 1
  instead of probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.errors import RetrievalError
from models.processing.types import FloatArray, Prediction

#: Share of the labels in the similarity; the rest is that of the image embedding. Chosen on Open-i val.
LABEL_SHARE = 0.9


def study_embeddings(embeddings: FloatArray, expected: FloatArray) -> FloatArray:
    """Join image or report embeddings with label probabilities.

    Parameters
    ----------
    embeddings
        Shape (n, width), of unit length, or zero where there is none.
    expected
        Label probabilities, shape (n, labels), in [0, 1].

    Returns
    -------
    numpy.ndarray
        Shape (n, width + labels), float32, of unit length, or shorter where a part is zero.
    """
    roots = np.sqrt(expected)
    lengths = np.linalg.norm(roots, axis=1, keepdims=True)
    likely = np.divide(roots, lengths, out=np.zeros_like(roots), where=lengths > 0)
    parts = (np.sqrt(1 - LABEL_SHARE) * embeddings, np.sqrt(LABEL_SHARE) * likely)
    return np.concatenate(parts, axis=1).astype(np.float32)


def image_embeddings(predictions: Sequence[Prediction]) -> FloatArray:
    """Image embeddings of predictions, shape (n, width).

    Raises
    ------
    RetrievalError
        If the bundle has no image embedding.
    """
    found = [prediction.embedding for prediction in predictions if prediction.embedding is not None]
    if len(found) < len(predictions):
        raise RetrievalError(f"bundle {predictions[0].identity.name} embeds no films: use another one")
    return np.stack(found)


def label_probabilities(predictions: Sequence[Prediction]) -> FloatArray:
    """Label probabilities of predictions, shape (n, labels); scores for labels without a calibration."""
    return np.array(
        [
            [entry.score if entry.probability is None else entry.probability for entry in prediction.findings]
            for prediction in predictions
        ],
        dtype=np.float32,
    )


def embed_studies(predictions: Sequence[Prediction]) -> FloatArray:
    """Study embeddings of predictions, from the films alone."""
    return study_embeddings(image_embeddings(predictions), label_probabilities(predictions))
