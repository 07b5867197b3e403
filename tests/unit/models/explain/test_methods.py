"""Methods beside the closed form: gradients, attention, captum's, and the words of a text."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from timm.models.swin_transformer import window_partition

from models.architectures.image import feature_map
from models.architectures.interface import Batch
from models.bundles.predictor import Predictor
from models.errors import PredictionError, UsageError
from models.explain import attention, gradcam
from models.explain.methods import METHODS, available_methods, draw_heatmaps
from models.explain.token_attribution import attribute_words
from models.processing.types import Film, Study
from tests.support.drawn_studies import draw_study
from tests.support.model_families import FAMILIES, write_family
from tests.support.tiny_bundle import KEYS

TEXT = "Chronic cough, chest pain"
TRANSFORMERS = ("biomedclip", "crossattention")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Predictor]:
    folder = tmp_path_factory.mktemp("families")
    return {family: Predictor(write_family(folder, family)) for family in FAMILIES}


def with_text(seed: int = 0) -> Study:
    return replace(draw_study(seed), text=TEXT)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_draws_in_the_films_own_rows_and_columns(
    served: dict[str, Predictor], family: str, method: str
):
    reader = served[family]
    if method not in available_methods(reader):
        assert method == "attention"
        assert family not in TRANSFORMERS
        return
    (traced,) = reader.trace([with_text(4)])
    maps = draw_heatmaps(reader, traced, ["nodule"], films=[1], method=method)
    (one,) = maps
    assert one.film == "4.side"
    assert one.values.shape == traced.study.films[1].pixels.shape
    assert one.values.dtype == np.float32
    assert one.method == method
    assert 0 <= float(one.values.min()) <= float(one.values.max()) <= 1


@pytest.mark.parametrize("method", ["attention", "gradcamera"])
def test_a_method_that_a_bundle_cannot_do_names_those_it_can(served: dict[str, Predictor], method: str):
    (traced,) = served["concatenation"].trace([draw_study()])
    with pytest.raises(UsageError, match="has gradcam, ig, occlusion"):
        draw_heatmaps(served["concatenation"], traced, ["nodule"], method=method)


@pytest.mark.parametrize("family", ["biomedclip", "crossattention", "concatenation"])
def test_gradients_of_all_findings_at_once_are_those_of_each(served: dict[str, Predictor], family: str):
    """Against Grad-CAM as it is written: one backward pass a film and finding, through the whole network."""
    reader = served[family]
    one = with_text(2)
    (traced,) = reader.trace([one])
    found = gradcam.draw(reader, traced, [3, 1], [1, 0])
    tower = reader.network.towers["image"]
    for row, column in enumerate((3, 1)):
        for place, film in enumerate((1, 0)):
            kept = []
            hook = reader.network.cam_layer.register_forward_hook(
                lambda *args, kept=kept: kept.append(args[2])
            )
            batch = reader.batch(one, [film])
            batch.images.requires_grad_()
            logit = reader.network(batch).logits[0, column]
            hook.remove()
            (gradient,) = torch.autograd.grad(logit, kept[0])
            weights = feature_map(tower, gradient).mean(dim=(2, 3), keepdim=True)
            cam = (weights * feature_map(tower, kept[0])).sum(dim=1, keepdim=True).detach()
            wanted = torch.nn.functional.interpolate(cam, scale_factor=8, mode="bicubic")[0, 0].clamp(min=0)
            torch.testing.assert_close(torch.from_numpy(found[row, place]), wanted, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("family", TRANSFORMERS)
def test_the_rollout_is_the_product_of_the_blocks_matrices(served: dict[str, Predictor], family: str):
    """Forwards and with whole matrices, as Abnar & Zuidema write it."""
    reader = served[family]
    (traced,) = reader.trace([draw_study()])
    found = attention.draw(reader, traced, [0, 1], [0])
    assert torch.equal(found[0], found[1])
    tower = reader.network.towers["image"]
    with torch.inference_mode(), attention._recorded(tower) as attentions:
        reader.network(reader.batch(traced.study, [0]))
    product: torch.Tensor | None = None
    if family == "biomedclip":
        for weights in attentions.values():
            mixed = (weights[0] + torch.eye(len(weights[0]))) / 2
            product = mixed if product is None else mixed @ product
        wanted = product[0, 1:]
    else:
        side = 16
        for block, weights in attentions.items():
            rows = block.input_resolution[0]
            if product is not None and rows != side:
                # A merged patch is the mean of four.
                places = torch.arange(side * side).view(side // 2, 2, side // 2, 2)
                places = places.permute(0, 2, 1, 3).flatten(2).flatten(0, 1)
                product, side = product[places].mean(dim=1), rows
            numbers = torch.arange(side * side, dtype=torch.float32).view(1, side, side, 1)
            numbers = torch.roll(numbers, [-shift for shift in block.shift_size], (1, 2))
            full = torch.zeros(side * side, side * side)
            for window, attended in zip(window_partition(numbers, block.window_size), weights, strict=True):
                inside = window.flatten().long()
                full[inside[:, None], inside[None]] = attended
            mixed = (full + torch.eye(side * side)) / 2
            product = mixed if product is None else mixed @ product
        wanted = product.mean(dim=0)
    torch.testing.assert_close(found[0, 0].flatten(), wanted, atol=1e-6, rtol=1e-4)
    if family == "biomedclip":
        assert all(block.attn.fused_attn for block in attentions), "the kernels are fused again"


def test_what_is_covered_and_changes_the_answer_is_where_occlusion_points(served: dict[str, Predictor]):
    """The network is replaced by one that looks at one corner."""
    reader = served["densenet"]
    (traced,) = reader.trace([draw_study()])

    class Corner(torch.nn.Module):
        def forward(self, batch: Batch):
            seen = batch.images[:, :1, 40:56, 8:24].mean(dim=(1, 2, 3))
            return replace_logits(seen)

    def replace_logits(seen: torch.Tensor):
        from models.architectures.interface import Output

        return Output(seen[:, None].expand(-1, len(KEYS)), seen[:, None])

    bright = np.full((64, 64), 0.2, np.float32)
    bright[40:56, 8:24] = 1
    one = Study((Film("corner", bright),))
    looking = copy.copy(reader)
    looking.network = Corner()
    for method in ("occlusion", "ig"):
        grid = METHODS[method](looking, replace(traced, study=one), [0], [0])[0, 0]
        row, column = divmod(int(grid.argmax()), grid.shape[1])
        assert 36 <= row < 60, method
        assert 4 <= column < 28, method


def test_integrated_gradients_need_captum_and_say_so(served: dict[str, Predictor], monkeypatch):
    (traced,) = served["densenet"].trace([draw_study()])
    monkeypatch.setitem(sys.modules, "captum", None)
    monkeypatch.setitem(sys.modules, "captum.attr", None)
    with pytest.raises(UsageError, match="need captum"):
        draw_heatmaps(served["densenet"], traced, ["nodule"], method="ig")


@pytest.mark.parametrize("family", ["crossattention", "concatenation"])
def test_the_weights_of_words_and_their_surroundings_add_up(served: dict[str, Predictor], family: str):
    """Completeness (Sundararajan et al. 2017): to the distance from a text of padding."""
    reader = served[family]
    (traced,) = reader.trace([with_text(1)])
    found = attribute_words(reader, traced, "nodule", film=0)
    assert [word.text for word in found] == ["Chronic", "cough", ",", "chest", "pain"]
    assert [TEXT[word.start : word.end] for word in found] == [word.text for word in found]
    from models.explain.token_attribution import _of_tokens

    given = reader.batch(traced.study, [0])
    tokens = replace(given.tokens, input_ids=torch.full_like(given.tokens.input_ids, 0))
    with torch.inference_mode():
        logit = reader.network(given).logits[0, 3]
        padding = reader.network(Batch(given.images, tokens)).logits[0, 3]
    weights = _of_tokens(reader, given, 3)
    assert float(weights.sum()) == pytest.approx(float(logit - padding), abs=0.1)
    assert sum(word.weight for word in found) == pytest.approx(float(weights[1:-1].sum()), abs=1e-5)
    assert max(abs(word.weight) for word in found) > 0.01


def test_words_are_weighed_only_where_there_are_any(served: dict[str, Predictor]):
    (traced,) = served["densenet"].trace([draw_study()])
    with pytest.raises(UsageError, match="reads films alone"):
        attribute_words(served["densenet"], traced, "nodule")
    (traced,) = served["concatenation"].trace([draw_study()])
    with pytest.raises(UsageError, match="the study has no text"):
        attribute_words(served["concatenation"], traced, "nodule")
    (traced,) = served["concatenation"].trace([with_text()])
    with pytest.raises(PredictionError, match="no finding mass"):
        attribute_words(served["concatenation"], traced, "mass")


def test_a_word_of_several_tokens_is_one_word(tmp_path: Path):
    reader = Predictor(write_family(tmp_path, "concatenation"))
    found = reader.tokenizer.words("coughs nodules")
    assert [(start, end) for start, end, _ in found] == [(0, 6), (7, 14)]
    assert [tokens for *_, tokens in found] == [[1, 2], [3, 4]]
