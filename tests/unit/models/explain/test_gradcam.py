"""Heat maps: Grad-CAM without its gradient, in the film's own geometry."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.architectures.interface import Batch
from models.bundles.predictor import Predictor
from models.errors import PredictionError
from models.explain.methods import draw_heatmaps
from models.processing.transforms import to_source
from tests.support.drawn_studies import draw_study
from tests.support.tiny_bundle import KEYS


def test_there_is_one_map_for_each_finding_on_each_film(predictor: Predictor):
    (traced,) = predictor.trace([draw_study()])
    maps = draw_heatmaps(predictor, traced, ["nodule", "normal"])
    assert [(one.key, one.film) for one in maps] == [
        ("nodule", "0.front"),
        ("nodule", "0.side"),
        ("normal", "0.front"),
        ("normal", "0.side"),
    ]
    for one in maps:
        film = next(film for film in traced.study.films if film.identifier == one.film)
        assert one.values.shape == film.pixels.shape
        assert one.values.dtype == np.float32
        assert float(one.values.min()) >= 0
        assert float(one.values.max()) <= 1
        assert one.method == predictor.explanation


def test_only_the_films_that_are_asked_for_are_drawn(predictor: Predictor):
    (traced,) = predictor.trace([draw_study()])
    (one,) = draw_heatmaps(predictor, traced, ["nodule"], films=[1])
    assert one.film == "0.side"
    (both, _) = draw_heatmaps(predictor, traced, ["nodule"])
    assert both.film == "0.front"


@pytest.mark.parametrize("key", KEYS)
def test_the_map_is_grad_cam(predictor: Predictor, key: str):
    one_study = draw_study(5)
    (traced,) = predictor.trace([one_study])
    (map_,) = draw_heatmaps(predictor, traced, [key], films=[0])

    images = predictor.preprocessing([one_study.films[0].pixels])
    features = predictor.network.backbone(images).detach().requires_grad_()
    logit = predictor.network.head(features.mean(dim=(2, 3)))[0, KEYS.index(key)]
    (gradient,) = torch.autograd.grad(logit, features)
    cam = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1, keepdim=True).detach()
    cam = torch.nn.functional.interpolate(cam, scale_factor=8, mode="bicubic")[0, 0].clamp(min=0)
    expected = to_source(cam / cam.max().clamp(min=1e-12), one_study.films[0].pixels.shape)
    np.testing.assert_allclose(map_.values, expected, atol=1e-4)


def test_the_maps_explain_the_logits_that_were_given(predictor: Predictor):
    (traced,) = predictor.trace([draw_study(3)])
    head = predictor.network.head
    with torch.inference_mode():
        logits = head(torch.from_numpy(traced.features.mean(axis=(2, 3))))
    for column, finding in enumerate(traced.prediction.findings):
        assert finding.film_scores == pytest.approx(logits.sigmoid()[:, column].tolist(), abs=1e-5)


def test_a_film_with_nothing_for_the_finding_gets_zeros(predictor: Predictor):
    (traced,) = predictor.trace([draw_study()])
    silent = replace(traced, features=np.zeros_like(traced.features))
    (one,) = draw_heatmaps(predictor, silent, ["nodule"], films=[0])
    assert not one.values.any()


def test_what_speaks_against_a_finding_everywhere_gives_zeros_between_the_cells_too(predictor: Predictor):
    (traced,) = predictor.trace([draw_study()])
    row = predictor.network.head.weight[KEYS.index("nodule")]
    # Of cells that all speak against it, one hardly does: a cubic through them overshoots zero.
    cells = -torch.ones(2, len(row), 2, 2) * row.sign()[None, :, None, None]
    cells[:, :, 0, 0] *= 1e-6
    (one,) = draw_heatmaps(predictor, replace(traced, features=cells.numpy()), ["nodule"], films=[0])
    assert not one.values.any()


def test_a_finding_that_the_bundle_does_not_have_is_named(predictor: Predictor):
    (traced,) = predictor.trace([draw_study()])
    with pytest.raises(PredictionError, match="pneumothorax"):
        draw_heatmaps(predictor, traced, ["nodule", "pneumothorax"])


def test_the_network_gives_the_features_that_its_logits_come_from(predictor: Predictor):
    images = predictor.preprocessing([film.pixels for film in draw_study().films])
    with torch.inference_mode():
        output = predictor.network(Batch(images))
    torch.testing.assert_close(output.image_embedding, output.features.mean(dim=(2, 3)))
    assert output.text_embedding is None
