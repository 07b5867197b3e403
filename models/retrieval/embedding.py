"""Study embedding: one vector for the appearance of a study's films and for its labels.

The vector has two parts, so that an inner product compares both at once:

- the image embedding of the bundle, of unit length: that of its joint space with reports where it has one;
- the square roots of the labels' probabilities, scaled to unit length. The inner product of two of these is
  the Bhattacharyya coefficient (1943) of the label distributions. A reference case has known labels: 0 or 1
  instead of probabilities.

Where the labels of the cases are only expected, too, that coefficient is highest for cases of which the model
doubts in the same way. There a query asks with the squares of the probabilities, so that its likely labels
count and its unlikely ones hardly do (:func:`film_queries`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.errors import RetrievalError
from models.processing.types import FloatArray, Prediction
from models.retrieval.index import FILMS, Side

#: Share of the labels in the similarity; the rest is that of the image embedding. Chosen on Open-i val.
LABEL_SHARE = 0.9

#: Power of the label part of a query for cases of which films alone are known: square roots of probabilities
#: become their squares. Chosen on Open-i val.
SHARPNESS = 4


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


def film_queries(embeddings: FloatArray, labels: int) -> FloatArray:
    """Queries for cases of which nothing but films is known, from the study embeddings of the asked studies.

    Parameters
    ----------
    embeddings
        Study embeddings, shape (n, width + labels).
    labels
        Number of labels of the bundle: the last numbers of each embedding.

    Returns
    -------
    numpy.ndarray
        Of the same shape: each label to the power of :data:`SHARPNESS`, and its part as long as it was.
    """
    seen, likely = embeddings[:, :-labels], embeddings[:, -labels:]
    lengths = np.linalg.norm(likely, axis=1, keepdims=True)
    sharp = likely.astype(np.float64) ** SHARPNESS
    norms = np.linalg.norm(sharp, axis=1, keepdims=True)
    sharp = np.divide(sharp * lengths, norms, out=np.zeros_like(sharp), where=norms > 0)
    return np.concatenate((seen, sharp), axis=1).astype(np.float32)


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


def embed_queries(predictions: Sequence[Prediction], side: Side) -> FloatArray:
    """Queries of predictions for one side of an index."""
    embeddings = embed_studies(predictions)
    return film_queries(embeddings, len(predictions[0].findings)) if side == FILMS else embeddings
