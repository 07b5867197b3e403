"""Search for similar cases: by films and by words, and the neighbours' agreement."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from models.bundles.predictor import Predictor
from models.data.openi import read_openi
from models.errors import RetrievalError, UsageError
from models.labels.vocabulary import load_vocabulary
from models.processing.types import FindingScore, Prediction
from models.retrieval.build import build_index, embed_and_label_reports, embed_query
from models.retrieval.embedding import (
    LABEL_SHARE,
    embed_queries,
    embed_studies,
    film_queries,
    study_embeddings,
)
from models.retrieval.index import CaseIndex, ReferenceCase, read_index, write_index
from models.retrieval.report_labeler import fit_labeler, load_labeler, write_labeler
from models.retrieval.search import DISAGREEMENT, Neighbour, Searcher, neighbour_agreement
from models.text.sentence_encoder import embed_texts, encoder_identity
from tests.support.drawn_index import IDENTITY, REPORTS, load_joint
from tests.support.drawn_studies import draw_study
from tests.support.openi_folder import write_openi


def prediction(*present: str) -> Prediction:
    keys = ("normal", "cardiomegaly", "nodule")
    findings = tuple(FindingScore(key, 0.5, None, 0.5, key in present, (0.5,)) for key in keys)
    return Prediction(IDENTITY, findings, None)


def neighbours(*labels: set[str]) -> list[Neighbour]:
    return [Neighbour(ReferenceCase(f"drawn:{n}", frozenset(found)), 0.9) for n, found in enumerate(labels)]


FOUND = neighbours({"cardiomegaly"}, {"cardiomegaly", "nodule"}, {"nodule"}, {"normal"}, {"hernia"})


@pytest.mark.parametrize(
    ("present", "agreement"),
    [
        ({"cardiomegaly"}, 0.4),
        ({"cardiomegaly", "nodule"}, 0.4),
        ({"normal"}, 0.2),
        # The model has no label for a hernia: to it, that case shows nothing.
        (set(), 0.2),
    ],
)
def test_agreement_is_the_share_of_the_cases_that_bear_the_model_out(present: set[str], agreement: float):
    said = neighbour_agreement(prediction(*present), FOUND)
    assert said.agreement == pytest.approx(agreement)
    assert said.support == {"normal": 0.2, "cardiomegaly": 0.4, "nodule": 0.4}
    assert said.disagrees is (agreement < DISAGREEMENT)


def test_cases_that_show_none_of_what_is_reported_disagree():
    said = neighbour_agreement(prediction("normal"), neighbours({"nodule"}, {"cardiomegaly"}))
    assert (said.agreement, said.disagrees) == (0, True)


@pytest.fixture(scope="module")
def joint(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return load_joint(tmp_path_factory.mktemp("bundles") / "joint-0.0.1")


@pytest.fixture(scope="module")
def index(joint: Predictor, tmp_path_factory: pytest.TempPathFactory) -> CaseIndex:
    """Index of drawn films with reports, on disk."""
    films = read_openi(write_openi(tmp_path_factory.mktemp("openi"), {"train": 9}), load_vocabulary())
    told = [
        replace(entry, report=REPORTS[n % 3] if n else "") for n, entry in enumerate(films.split("train"))
    ]
    folder = tmp_path_factory.mktemp("index")
    write_index(folder, build_index(joint, "openi", told, name="openi train"))
    return read_index(folder)


def test_an_index_holds_films_reports_and_labels_of_a_split(joint: Predictor, index: CaseIndex):
    assert [case.identifier for case in index.cases] == [f"openi:{n}" for n in range(1, 10)]
    assert index.cases[1].labels >= {"pleural_effusion", "nodule", "abnormal"}
    assert (index.width, index.origin.text_encoder) == (16 + 4, encoder_identity())
    assert not index.reports[0].any()
    np.testing.assert_allclose(np.linalg.norm(index.films, axis=1), 1, rtol=1e-5)
    # Of a case the labels are known: two of the bundle's four, alike.
    np.testing.assert_allclose(index.known[1, 16:], np.sqrt(LABEL_SHARE) * np.array([0, 0, 1, 1]) / 2**0.5)
    np.testing.assert_array_equal(index.known[:, :16], index.films[:, :16])
    index.check_origin(joint.identity)


def test_a_study_is_most_like_itself(joint: Predictor, index: CaseIndex, tmp_path: Path):
    films = read_openi(write_openi(tmp_path / "openi", {"train": 9}), load_vocabulary())
    place = embed_studies(joint.predict([entry.load() for entry in films.split("train")]))
    found = Searcher(index, side="films").nearest(place, 1)
    assert [entry.case.identifier for (entry,) in found] == [case.identifier for case in index.cases]
    assert all(entry.similarity == pytest.approx(1, abs=1e-5) for (entry,) in found)


def test_a_query_for_films_asks_with_the_squares_of_the_probabilities():
    likely = np.array([[0.8, 0.4, 0], [0, 0, 0]], np.float32)
    seen = np.array([[0.6, 0.8], [1, 0]], np.float32)
    plain = study_embeddings(seen, likely)
    asked = film_queries(plain, 3)
    np.testing.assert_array_equal(asked[:, :2], plain[:, :2])
    wanted = np.sqrt(LABEL_SHARE) * np.array([0.64, 0.16, 0]) / np.hypot(0.64, 0.16)
    np.testing.assert_allclose(asked[0, 2:], wanted, rtol=1e-5)
    assert not asked[1, 2:].any()
    assert asked.dtype == np.float32


def test_a_query_for_films_prefers_what_is_likely_to_what_is_doubted_alike():
    """The first case is as unclear as the query; the second surely has what the query most likely has."""
    films = study_embeddings(
        np.zeros((3, 2)), np.array([[0.6, 0.3, 0.3], [0.9, 0.05, 0.05], [0.6, 0.3, 0.3]])
    )
    unclear, sure, query = films
    (asked,) = film_queries(films[2:], 3)
    assert query @ unclear > query @ sure
    assert asked @ sure > asked @ unclear


def test_only_films_are_asked_in_this_way(joint: Predictor, tmp_path: Path):
    films = read_openi(write_openi(tmp_path / "openi", {"train": 3}), load_vocabulary())
    found = joint.predict([entry.load() for entry in films.split("train")])
    plain = embed_studies(found)
    np.testing.assert_array_equal(embed_queries(found, "known"), plain)
    np.testing.assert_array_equal(embed_queries(found, "reports"), plain)
    np.testing.assert_array_equal(embed_queries(found, "films"), film_queries(plain, 4))


def test_a_report_finds_the_cases_that_say_the_same(joint: Predictor, index: CaseIndex):
    place, unknown = embed_query(joint, index, "The heart is enlarged.")
    (found,) = Searcher(index, side="reports").nearest(place, 3)
    assert unknown == []
    assert {entry.case.report for entry in found} == {"The heart is enlarged."}


def test_words_that_no_report_uses_are_named(joint: Predictor, index: CaseIndex):
    _, unknown = embed_query(joint, index, "enlarged heart, frobnicated")
    assert unknown == ["frobnicated"]


@pytest.mark.parametrize(
    "text", ["", "12 %", "xyzzy", "Herzvergrößerung mit Pleuraerguss links", "心臓の拡大", "Сердце увеличено"]
)
def test_words_of_another_language_or_none_are_refused(joint: Predictor, index: CaseIndex, text: str):
    with pytest.raises(UsageError, match="ask in English"):
        embed_query(joint, index, text)


def test_reports_of_another_encoder_are_not_compared(joint: Predictor, index: CaseIndex):
    other = replace(index, origin=replace(index.origin, text_encoder="older 1234"))
    with pytest.raises(RetrievalError, match="embedded by older 1234"):
        embed_query(joint, other, "heart is enlarged")


def test_a_bundle_without_a_joint_space_reads_reports_for_their_labels(predictor: Predictor):
    embedded, expected = embed_and_label_reports(
        predictor, ["The heart is enlarged. Cardiomegaly.", "No acute disease."]
    )
    assert not embedded.any()
    names = [label.key for label in predictor.labels]
    assert expected[0, names.index("cardiomegaly")] > 0.5 > expected[0, names.index("normal")]
    assert expected[1, names.index("normal")] > expected[1, names.index("cardiomegaly")]


def test_an_index_without_reports_cannot_be_asked_in_words(predictor: Predictor, tmp_path: Path):
    films = read_openi(write_openi(tmp_path / "openi", {"train": 4}), load_vocabulary())
    index = build_index(predictor, "openi", films.split("train"), name="openi train")
    assert (index.reports, index.origin.text_encoder) == (None, "")
    assert len(Searcher(index).nearest(embed_studies(predictor.predict([draw_study()])), 2)[0]) == 2
    with pytest.raises(RetrievalError, match="asked for films alone"):
        embed_query(predictor, index, "enlarged heart")


@given(
    arrays(np.float32, (4, 3), elements=st.floats(0, 1, width=32)),
    arrays(np.float32, (4, 5), elements=st.floats(-1, 1, width=32)),
)
def test_a_place_compares_both_parts_at_once(expected: np.ndarray, drawn: np.ndarray):
    lengths = np.linalg.norm(drawn, axis=1, keepdims=True)
    embeddings = np.divide(drawn, lengths, out=np.zeros_like(drawn), where=lengths > 1e-3)
    found = study_embeddings(embeddings, expected)
    assert (np.linalg.norm(found, axis=1) <= 1 + 1e-5).all()
    totals = expected.sum(axis=1)
    shares = np.divide(expected, totals[:, None], out=np.zeros_like(expected), where=totals[:, None] > 0)
    coefficient = np.sqrt(shares) @ np.sqrt(shares).T
    wanted = LABEL_SHARE * coefficient + (1 - LABEL_SHARE) * embeddings @ embeddings.T
    np.testing.assert_allclose(found @ found.T, wanted, atol=1e-4)


def test_a_reader_is_learnt_from_reports_and_is_the_same_on_disk(tmp_path: Path):
    films = read_openi(write_openi(tmp_path / "openi", {"train": 12}), load_vocabulary())
    said = {"normal": "The lungs are clear.", "cardiomegaly": "The heart is enlarged."}
    told = [
        replace(entry, report=next((said[key] for key in said if key in entry.keys), "A nodule."))
        for entry in films.split("train")
    ]
    reader = fit_labeler(told)
    vectors = embed_texts(["The heart is enlarged.", "The lungs are clear."])
    found = reader.probabilities(vectors, ["cardiomegaly", "normal", "hernia"])
    assert (found.argmax(axis=1) == [0, 1]).all()
    # No report here has a hernia: nothing is known of it.
    assert not found[:, 2].any()
    write_labeler(tmp_path / "reader.safetensors", reader)
    again = load_labeler(tmp_path / "reader.safetensors")
    np.testing.assert_array_equal(
        again.probabilities(vectors, reader.keys), reader.probabilities(vectors, reader.keys)
    )
    with pytest.raises(RetrievalError, match="no study has a report"):
        fit_labeler(films.split("train"))


def test_a_spoilt_reader_and_one_of_another_encoder_are_refused(tmp_path: Path):
    spoilt = tmp_path / "spoilt.safetensors"
    spoilt.write_bytes(b"spoilt")
    with pytest.raises(RetrievalError, match="cannot be read"):
        load_labeler(spoilt)
    write_labeler(tmp_path / "old.safetensors", replace(load_labeler(), text_encoder="older 1234"))
    with pytest.raises(RetrievalError, match="trained on embeddings of older 1234"):
        load_labeler(tmp_path / "old.safetensors")


def test_the_shipped_reader_knows_what_bundles_predict():
    vocabulary = load_vocabulary()
    assert set(vocabulary.keys("groups")) <= set(load_labeler().keys)
    assert set(load_labeler().keys) <= set(vocabulary.labels)


def test_a_text_is_the_mean_of_its_sentences():
    apart = embed_texts(["The lungs are clear.", "", "The heart is enlarged."])
    together = embed_texts(["The lungs are clear. The heart is enlarged."])
    assert apart.shape == (3, 384)
    assert not apart[1].any()
    np.testing.assert_allclose(together[0], (apart[0] + apart[2]) / 2, atol=1e-5)
