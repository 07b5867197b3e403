"""Indexes of labelled studies: films through the bundle, reports through the encoder of sentences."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from models.architectures.convnet import ConvNet
from models.bundles.predictor import Predictor
from models.bundles.study_predictions import predict_all
from models.data.dataset import LabelledStudy, targets
from models.errors import RetrievalError, UsageError
from models.processing.types import FloatArray, Prediction
from models.retrieval.embedding import embeddings_of, place, places
from models.retrieval.index import Case, Index, Origin, words, words_of
from models.retrieval.report_labeler import SAID, load_reader
from models.text.sentence_encoder import embed_texts, encoder_identity

Progress = Callable[[str, int, int], None]


def build_index(
    predictor: Predictor,
    dataset: str,
    studies: Sequence[LabelledStudy],
    *,
    name: str,
    predictions: Sequence[Prediction] | None = None,
    progress: Progress = lambda _what, _done, _all: None,
) -> Index:
    """Make an index of studies.

    Parameters
    ----------
    dataset
        Short name of the data set; the cases are called by it and the study's identifier.
    name
        Of the index.
    predictions
        Of the studies, where they were read before.
    progress
        Called with what is being read, how many are done and how many there are.

    Raises
    ------
    DatasetError
        If a film cannot be read.
    UsageError
        If there are reports and their encoder is not installed.
    """
    if predictions is None:
        predictions = predict_all(
            predictor, tuple(studies), lambda done, total: progress("studies", done, total)
        )
    told = any(study.report for study in studies)
    reports = None
    if told:
        embedded, expected = read_reports(
            predictor,
            [study.report for study in studies],
            lambda done, total: progress("sentences", done, total),
        )
        there = np.array([bool(study.report) for study in studies])[:, None]
        reports = place(embedded, (expected >= SAID).astype(np.float32)) * there
    keys = tuple(label.key for label in predictor.labels)
    known = targets(tuple(studies), keys).astype(np.float32)
    return Index(
        name,
        Origin.of(predictor.identity, encoder_identity() if told else ""),
        tuple(
            Case(f"{dataset}:{study.identifier}", frozenset(study.keys), study.report) for study in studies
        ),
        films=places(predictions),
        known=place(embeddings_of(predictions), known),
        reports=reports,
    )


@torch.inference_mode()
def read_reports(
    predictor: Predictor,
    texts: Sequence[str],
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[FloatArray, FloatArray]:
    """Embed reports, and read which of the bundle's labels they speak of.

    Returns
    -------
    tuple
        Embeddings in the bundle's joint space, shape (texts, width), zero for a bundle without one; and
        probabilities, shape (texts, labels).

    Raises
    ------
    RetrievalError
        If the reader of reports is of another encoder.
    UsageError
        If the encoder of sentences is not installed.
    """
    reader = load_reader()
    sentences = embed_texts(texts, progress)
    expected = reader.probabilities(sentences, [label.key for label in predictor.labels])
    network = predictor.network
    if isinstance(network, ConvNet) and network.joint:
        return network.embed_text(sentences.to(predictor.device)).float().cpu().numpy(), expected
    return np.zeros((len(texts), predictor.bundle.manifest.embedding), np.float32), expected


def embed_query(predictor: Predictor, index: Index, text: str) -> tuple[FloatArray, list[str]]:
    """Place of words that a person wrote, such as "left pleural effusion".

    Returns
    -------
    tuple
        The place, shape (1, width), and those of the words that no report of the index uses.

    Raises
    ------
    UsageError
        If the reports use no more than half of the words: what is not their language has no place among them.
    RetrievalError
        If the index has no reports, or another encoder read them.
    """
    if index.reports is None:
        raise RetrievalError(f"index {index.name!r} holds no reports: it can be asked for films alone")
    asked = list(dict.fromkeys(words(text)))
    known = words_of(index.cases)
    odd = [word for word in asked if word not in known]
    if 2 * len(odd) >= len(asked):
        raise UsageError(
            f"the reports of index {index.name!r} use too few of the words {text.strip()!r}: ask in English, "
            'as a report would say it, such as "left pleural effusion"'
        )
    if (encoder := encoder_identity()) != index.origin.text_encoder:
        raise RetrievalError(
            f"the reports of index {index.name!r} were embedded by {index.origin.text_encoder}, and "
            f"{encoder} is installed: build it anew with dicom-node index build"
        )
    embedded, expected = read_reports(predictor, [text])
    return place(embedded, expected), odd
