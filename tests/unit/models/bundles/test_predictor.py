"""Predictions of a bundle do not depend on how it was asked."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from models.bundles.bundle import Bundle
from models.bundles.predictor import Predictor
from models.errors import BundleError, PredictionError
from models.processing.types import Film, Study
from tests.support.drawn_studies import draw_film, draw_study
from tests.support.model_families import write_family
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network


def scores(prediction) -> np.ndarray:
    return np.array([finding.score for finding in prediction.findings])


def test_every_label_is_answered_in_the_bundles_order(predictor: Predictor):
    (prediction,) = predictor.predict([draw_study()])
    assert tuple(finding.key for finding in prediction.findings) == KEYS
    assert prediction.identity == predictor.bundle.identity
    assert all(0 <= finding.score <= 1 for finding in prediction.findings)


def test_a_studys_score_is_the_mean_over_its_films(predictor: Predictor):
    both = draw_study()
    (prediction,) = predictor.predict([both])
    alone = [predictor.predict([Study((film,))])[0] for film in both.films]
    np.testing.assert_allclose(scores(prediction), np.mean([scores(one) for one in alone], axis=0), atol=1e-5)
    for column, finding in enumerate(prediction.findings):
        assert finding.film_scores == pytest.approx([scores(one)[column] for one in alone], abs=1e-5)


def test_a_study_reads_the_same_alone_and_in_company(predictor: Predictor):
    studies = [draw_study(seed) for seed in range(11)]  # 22 films: more than one pass
    together = predictor.predict(studies)
    for number in (0, 4, 10):
        (alone,) = predictor.predict([studies[number]])
        np.testing.assert_allclose(scores(alone), scores(together[number]), atol=1e-5)
        np.testing.assert_allclose(alone.embedding, together[number].embedding, atol=1e-4)


def test_different_films_get_different_scores(predictor: Predictor):
    first, second = predictor.predict([draw_study(1), draw_study(2)])
    assert float(np.abs(scores(first) - scores(second)).max()) > 1e-3


def test_the_scores_are_those_of_the_network_before_it_was_saved(predictor: Predictor):
    both = draw_study()
    network = make_network()
    from models.architectures.interface import Batch

    with torch.inference_mode():
        logits = network(Batch(MANIFEST.preprocessing([film.pixels for film in both.films]))).logits
    (prediction,) = predictor.predict([both])
    np.testing.assert_allclose(scores(prediction), logits.sigmoid().mean(0).numpy(), atol=3e-3)


def test_only_calibrated_labels_have_a_probability(predictor: Predictor):
    (prediction,) = predictor.predict([draw_study()])
    for finding in prediction.findings:
        calibration = CALIBRATION.labels[finding.key]
        assert finding.probability == calibration.probability(finding.score)
        assert (finding.probability is None) == (finding.key == "nodule")
        assert finding.threshold == calibration.threshold
        value = finding.score if finding.probability is None else finding.probability
        assert finding.present == (value >= finding.threshold)


def test_the_embedding_has_unit_length(predictor: Predictor):
    (prediction,) = predictor.predict([draw_study()])
    assert prediction.embedding.shape == (MANIFEST.embedding,)
    assert prediction.embedding.dtype == np.float32
    assert float(np.linalg.norm(prediction.embedding)) == pytest.approx(1, abs=1e-5)


def test_no_studies_get_no_predictions(predictor: Predictor):
    assert predictor.predict([]) == []


def test_a_blank_film_is_answered(predictor: Predictor):
    blank = Study((Film("blank", np.zeros((20, 20), np.float32)),))
    assert len(predictor.predict([blank])) == 1


def test_an_answer_that_is_no_number_is_an_error_that_names_the_film(bundle: Bundle):
    broken = Predictor(bundle)
    with torch.no_grad():
        broken.network.head.bias[1] = float("nan")
    with pytest.raises(PredictionError, match=r"no number for film 0\.front"):
        broken.predict([draw_study()])


@pytest.mark.parametrize("nothing", [None, "", " \n"])
def test_a_bundle_that_needs_text_refuses_a_study_without_one(tmp_path, nothing: str | None):
    reads = Predictor(write_family(tmp_path, "concatenation", text="required"))
    with pytest.raises(PredictionError, match="needs the study's text"):
        reads.predict([replace(draw_study(), text=nothing)])
    assert len(reads.predict([replace(draw_study(), text="cough")])) == 1


def test_a_bundle_is_loaded_by_path_and_warm(bundle: Bundle):
    before = torch.get_num_threads()
    try:
        loaded = Predictor.load(bundle.path, threads=1)
        assert torch.get_num_threads() == 1
        assert loaded.identity == bundle.identity
        assert tuple(label.key for label in loaded.labels) == KEYS
    finally:
        torch.set_num_threads(before)


def test_a_device_that_is_not_there_is_one_sentence(bundle: Bundle):
    with pytest.raises(BundleError, match="device 'cuda:93'"):
        Predictor(bundle, device="cuda:93")


def test_no_gradient_is_kept(predictor: Predictor):
    (traced,) = predictor.trace([draw_study()])
    assert isinstance(traced.features, np.ndarray)


def test_a_film_is_given_in_its_own_name_and_shape():
    with pytest.raises(ValueError, match="float32"):
        Film("double", draw_film(20, 20, 0).astype(np.float64))


def test_serving_imports_no_training_library():
    program = (
        "import sys, models.bundles.predictor, models.explain, models.explain.token_attribution\n"
        "heavy = {'lightning', 'monai', 'sklearn', 'matplotlib', 'pydicom', 'celery', 'transformers'}\n"
        "heavy.add('captum')\n"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
