"""Construction of a case index: films embedded by the bundle, reports by the sentence encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from models.architectures.convnet import ConvNet
from models.bundles.predictor import Predictor
from models.bundles.study_predictions import predict_studies
from models.data.dataset import LabelledStudy, targets
from models.errors import RetrievalError, UsageError
from models.processing.types import FloatArray, Prediction
from models.retrieval.embedding import embed_studies, image_embeddings, study_embeddings
from models.retrieval.index import CaseIndex, EmbeddingOrigin, ReferenceCase, report_words, split_words
from models.retrieval.report_labeler import PRESENT_THRESHOLD, load_labeler
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
) -> CaseIndex:
    """Build an index of studies.

    Parameters
    ----------
    dataset
        Short name of the data set; with the study's identifier it is the name of a case.
    name
        Name of the index.
    predictions
        Predictions of the studies, where they exist already.
    progress
        Called with the kind of item, the number done and the number in all.

    Raises
    ------
    DatasetError
        If a film cannot be read.
    UsageError
        If there are reports and the sentence encoder is not installed.
    """
    if predictions is None:
        predictions = predict_studies(
            predictor, tuple(studies), lambda done, total: progress("studies", done, total)
        )
    told = any(study.report for study in studies)
    reports = None
    if told:
        embedded, expected = embed_and_label_reports(
            predictor,
            [study.report for study in studies],
            lambda done, total: progress("sentences", done, total),
        )
        there = np.array([bool(study.report) for study in studies])[:, None]
        reports = study_embeddings(embedded, (expected >= PRESENT_THRESHOLD).astype(np.float32)) * there
    keys = tuple(label.key for label in predictor.labels)
    known = targets(tuple(studies), keys).astype(np.float32)
    return CaseIndex(
        name,
        EmbeddingOrigin.of(predictor.identity, encoder_identity() if told else ""),
        tuple(
            ReferenceCase(f"{dataset}:{study.identifier}", frozenset(study.keys), study.report)
            for study in studies
        ),
        films=embed_studies(predictions),
        known=study_embeddings(image_embeddings(predictions), known),
        reports=reports,
    )


@torch.inference_mode()
def embed_and_label_reports(
    predictor: Predictor,
    texts: Sequence[str],
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[FloatArray, FloatArray]:
    """Embed reports and label them with the bundle's labels.

    Returns
    -------
    tuple
        Embeddings in the bundle's joint space, shape (texts, width), zero for a bundle without one; and
        probabilities, shape (texts, labels).

    Raises
    ------
    RetrievalError
        If the report labeler was trained with another encoder.
    UsageError
        If the sentence encoder is not installed.
    """
    labeler = load_labeler()
    sentences = embed_texts(texts, progress)
    expected = labeler.probabilities(sentences, [label.key for label in predictor.labels])
    network = predictor.network
    if isinstance(network, ConvNet) and network.joint:
        return network.embed_text(sentences.to(predictor.device)).float().cpu().numpy(), expected
    return np.zeros((len(texts), predictor.bundle.manifest.embedding), np.float32), expected


def embed_query(predictor: Predictor, index: CaseIndex, text: str) -> tuple[FloatArray, list[str]]:
    """Study embedding of a text query, such as "left pleural effusion".

    Returns
    -------
    tuple
        The embedding, shape (1, width), and the words of the query that no report of the index uses.

    Raises
    ------
    UsageError
        If the reports use no more than half of the words: the encoder knows only their language.
    RetrievalError
        If the index has no reports, or another encoder embedded them.
    """
    if index.reports is None:
        raise RetrievalError(f"index {index.name!r} holds no reports: it can be asked for films alone")
    asked = list(dict.fromkeys(split_words(text)))
    known = report_words(index.cases)
    odd = [word for word in asked if word not in known]
    if 2 * len(odd) >= len(asked):
        raise UsageError(
            f"the reports of index {index.name!r} use too few of the words {text.strip()!r}: ask in English, "
            'as a report would say it, such as "left pleural effusion"'
        )
    if (encoder := encoder_identity()) != index.origin.text_encoder:
        again = f"dicom-node cases build {index.origin.bundle} --data FOLDER"
        raise RetrievalError(
            f"the reports of index {index.name!r} were embedded by {index.origin.text_encoder}, and "
            f"{encoder} is installed: build it anew: `{again}`"
        )
    embedded, expected = embed_and_label_reports(predictor, [text])
    return study_embeddings(embedded, expected), odd
