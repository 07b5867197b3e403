"""Image and text towers, and the two ways in which they are joined."""

from __future__ import annotations

from dataclasses import replace

import pytest
import timm
import torch

from models.architectures.crossattention import HybridFeedForward
from models.architectures.image import ImageTower, create_backbone, feature_map
from models.architectures.interface import Batch
from models.architectures.text import FIELDS, TextTower, create_bert, pool
from models.text.text_format import TextFormat
from models.text.tokenizer import Tokenizer, Tokens
from tests.support.model_families import READERS, SWIN, TEXT, VIT, make_family, make_manifest, make_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(make_tokenizer(), TextFormat(max_length=12, pad_id=0))


@pytest.fixture(scope="module")
def tower() -> TextTower:
    torch.manual_seed(5)
    tower = TextTower(TEXT).eval()
    for parameter in tower.encoder.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.2)
    return tower


@pytest.mark.parametrize(
    ("backbone", "options", "grid"),
    [
        (SWIN["backbone"], SWIN["options"], 8),
        (VIT["backbone"], VIT["options"], 4),
        ("test_resnet", {}, 2),
        ("test_efficientnet", {}, 2),
        ("densenet121", {"growth_rate": 4, "block_config": [1, 1, 1, 1]}, 2),
    ],
)
def test_every_kind_of_backbone_gives_a_map(backbone: str, options: dict, grid: int):
    tower = ImageTower(backbone, channels=3, options=options).eval()
    with torch.inference_mode():
        features = tower(torch.rand(2, 3, 64, 64))
    assert features.shape == (2, tower.width, grid, grid)


def test_a_map_keeps_rows_and_columns():
    """A patch that changes is found where it lies, whatever the layout of the backbone."""
    for tower in (SWIN, VIT):
        backbone = create_backbone(tower["backbone"], channels=1, options=tower["options"], pooled=False)
        side = 8 if tower is SWIN else 4
        sequence = torch.zeros(1, side, side, 5)
        sequence[0, 1, 2] = 1
        if tower is VIT:
            sequence = torch.cat([torch.full((1, 1, 5), 9.0), sequence.flatten(1, 2)], dim=1)
        found = feature_map(backbone, sequence)
        assert found.shape == (1, 5, side, side)
        assert found[0, :, 1, 2].tolist() == [1] * 5
        assert float(found.sum()) == 5


def test_the_tower_is_bert(tower: TextTower, tokenizer: Tokenizer):
    """As transformers itself runs the same weights."""
    from transformers import BertConfig, BertModel

    tokens = tokenizer(["chest pain", "cough, fever, fall"])
    bert = BertModel(BertConfig(**{**FIELDS, **TEXT}), add_pooling_layer=False).eval()
    bert.load_state_dict(tower.encoder.state_dict(), strict=True)
    with torch.inference_mode():
        expected = bert(tokens.input_ids, tokens.attention_mask).last_hidden_state
        states, mask = tower(tokens, 2)
    seen = tokens.attention_mask.bool()
    assert mask.tolist() == seen.tolist()
    torch.testing.assert_close(states[seen], expected[seen])
    assert not states[~seen].any()


def test_a_text_that_is_not_there_is_the_learnt_state_and_changes_nobody_else(
    tower: TextTower, tokenizer: Tokenizer
):
    with torch.inference_mode():
        alone, _ = tower(tokenizer(["chest pain"]), 1)
        states, mask = tower(tokenizer([None, "chest pain", ""]), 3)
        nobody, none = tower(None, 2)
    for row in (0, 2):
        assert states[row, 0].tolist() == tower.no_text.tolist()
        assert not states[row, 1:].any()
        assert mask[row].tolist() == [True, False, False, False]
    torch.testing.assert_close(states[1], alone[0])
    assert nobody.shape == (2, 1, 16)
    assert nobody[1, 0].tolist() == tower.no_text.tolist()
    assert none.all()


def test_an_empty_table_of_tokens_is_no_text(tower: TextTower):
    empty = torch.zeros(2, 3, dtype=torch.int64)
    with torch.inference_mode():
        states, mask = tower(Tokens(empty, empty), 2)
    assert torch.isfinite(states).all()
    assert mask.sum(1).tolist() == [1, 1]


def test_pooling_takes_the_first_or_the_mean_of_what_is_there():
    states = torch.tensor([[[1.0], [3.0], [0.0]], [[5.0], [0.0], [0.0]]])
    mask = torch.tensor([[True, True, False], [True, False, False]])
    assert pool(states, mask, "first").tolist() == [[1.0], [5.0]]
    assert pool(states, mask, "mean").tolist() == [[2.0], [5.0]]


def test_fields_that_are_not_given_are_those_of_the_base_size():
    with torch.device("meta"):
        config = create_bert({}).config
    assert {name: getattr(config, name) for name in FIELDS} == dict(FIELDS)


@pytest.mark.parametrize("family", READERS)
def test_padding_changes_no_answer(family: str, tokenizer: Tokenizer):
    network = make_family(make_manifest(family))
    images = torch.rand(1, 3, 64, 64)
    tokens = tokenizer(["chest pain"])
    filling = torch.zeros(1, 5, dtype=torch.int64)
    padded = Tokens(
        torch.cat([tokens.input_ids, filling + 7], dim=1), torch.cat([tokens.attention_mask, filling], dim=1)
    )
    with torch.inference_mode():
        short, long = network(Batch(images, tokens)), network(Batch(images, padded))
    torch.testing.assert_close(short.logits, long.logits, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(short.text_embedding, long.text_embedding, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("family", READERS)
def test_no_tokens_and_a_mask_of_zeros_are_the_same(family: str):
    network = make_family(make_manifest(family))
    images = torch.rand(2, 3, 64, 64)
    empty = torch.zeros(2, 4, dtype=torch.int64)
    with torch.inference_mode():
        without, masked = network(Batch(images)), network(Batch(images, Tokens(empty, empty)))
    torch.testing.assert_close(without.logits, masked.logits, atol=1e-5, rtol=1e-4)
    assert without.text_embedding is None
    assert masked.text_embedding is not None


def test_attention_goes_both_ways():
    """Each modality's answer depends on the other, and not on it alone."""
    network = make_family(make_manifest("crossattention"))
    for sides in (network.image_sides, network.text_sides):
        for side in sides:
            mask, other = torch.ones(1, 3, dtype=torch.bool), torch.rand(1, 4, 16, requires_grad=True)
            tokens = torch.rand(1, 3, 16, requires_grad=True)
            side(tokens, mask, other, torch.tensor([[True, True, True, False]])).sum().backward()
            assert other.grad[0, :3].abs().sum() > 0
            assert other.grad[0, 3].abs().sum() == 0  # hidden
            assert tokens.grad.abs().sum() > 0


def test_the_joint_space_has_unit_length_and_compares_image_and_text(tokenizer: Tokenizer):
    network = make_family(make_manifest("crossattention"))
    with torch.inference_mode():
        output = network(Batch(torch.rand(2, 3, 64, 64), tokenizer(["cough", "fever"])))
    assert output.image_embedding.shape == output.text_embedding.shape == (2, 16)
    for embedding in (output.image_embedding, output.text_embedding):
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))


def test_the_hybrid_network_is_the_sum_of_perceptron_and_convolution():
    torch.manual_seed(1)
    hybrid = HybridFeedForward(4, 0.5).eval()
    tokens, mask = torch.rand(2, 5, 4), torch.ones(2, 5, dtype=torch.bool)
    with torch.inference_mode():
        torch.testing.assert_close(hybrid(tokens, mask), hybrid.perceptron(tokens))  # as it starts
        torch.nn.init.normal_(hybrid.convolution.weight)
        along = hybrid(tokens, mask) - hybrid.perceptron(tokens)
    weight = hybrid.convolution.weight[:, 0]  # (features, three neighbours)
    middle = sum(weight[:, step] * tokens[:, 1 + step] for step in range(3))
    torch.testing.assert_close(along[:, 2], middle, atol=1e-5, rtol=1e-4)


def test_the_convolution_does_not_see_what_the_mask_hides():
    torch.manual_seed(1)
    hybrid = HybridFeedForward(4, 0.0).eval()
    torch.nn.init.normal_(hybrid.convolution.weight)
    tokens = torch.rand(1, 4, 4)
    mask = torch.tensor([[True, True, False, False]])
    changed = tokens.clone()
    changed[:, 2:] += 5
    with torch.inference_mode():
        assert hybrid(tokens, mask)[:, :2].tolist() == hybrid(changed, mask)[:, :2].tolist()


def test_pooling_of_the_text_is_configured(tokenizer: Tokenizer):
    batch = Batch(torch.rand(1, 3, 64, 64), tokenizer(["cough, fever, chest pain"]))
    for family in READERS:
        manifest = make_manifest(family)
        embeddings = []
        for pooling in ("first", "mean"):
            chosen = replace(manifest, arguments={**manifest.arguments, "pooling": pooling})
            with torch.inference_mode():
                embeddings.append(make_family(chosen)(batch).text_embedding)
        assert float((embeddings[0] - embeddings[1]).abs().max()) > 1e-3


def test_timm_is_only_asked_for_names_that_it_has():
    assert timm.is_model("swin_tiny_patch4_window7_224")
    for name in ("hf-hub:timm/resnet18.a1_in1k", "local-dir:/tmp", "nonesuch", ""):
        with pytest.raises(ValueError, match="no backbone"):
            create_backbone(name, channels=3, options=None, pooled=True)
