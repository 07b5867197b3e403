"""Texts become ids by the tokenizer of the bundle, and a text that is not there stays visible as such."""

from __future__ import annotations

import json

import pytest
import torch

from models.text.text_format import TextFormat
from models.text.tokenizer import TextLimits, Tokenizer, Tokens, padding_id
from tests.support.model_families import SPECIAL, VOCABULARY, make_tokenizer

LAYOUT = TextFormat(max_length=6, pad_id=0)


def ids(*words: str) -> list[int]:
    return [VOCABULARY.index(word) for word in words]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(make_tokenizer(), LAYOUT)


def test_a_text_becomes_the_ids_of_its_words_between_the_special_ones(tokenizer: Tokenizer):
    tokens = tokenizer(["Cough, fevers"])
    assert tokens.input_ids.tolist() == [ids("[CLS]", "cough", ",", "fever", "##s", "[SEP]")]
    assert tokens.attention_mask.tolist() == [[1] * 6]
    assert tokens.input_ids.dtype == tokens.attention_mask.dtype == torch.int64


def test_shorter_texts_are_filled_up_and_the_filling_is_masked(tokenizer: Tokenizer):
    tokens = tokenizer(["cough", "chest pain"])
    assert tokens.input_ids.tolist() == [
        ids("[CLS]", "cough", "[SEP]", "[PAD]"),
        ids("[CLS]", "chest", "pain", "[SEP]"),
    ]
    assert tokens.attention_mask.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]


def test_the_padding_is_the_bundles(tokenizer: Tokenizer):
    other = Tokenizer(make_tokenizer(), TextFormat(max_length=6, pad_id=VOCABULARY.index("[MASK]")))
    assert other(["cough", "chest pain"]).input_ids[0, 3] == VOCABULARY.index("[MASK]")


def test_a_long_text_loses_its_end_and_keeps_the_closing_token(tokenizer: Tokenizer):
    tokens = tokenizer(["chest pain " * 50])
    assert tokens.input_ids.tolist() == [ids("[CLS]", "chest", "pain", "chest", "pain", "[SEP]")]


@pytest.mark.parametrize("nothing", [None, "", "  \n\t "])
def test_a_text_that_is_not_there_has_a_mask_of_zeros(tokenizer: Tokenizer, nothing: str | None):
    tokens = tokenizer([nothing, "cough", nothing])
    assert tokens.attention_mask.tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 0]]
    assert tokens.input_ids[0].tolist() == ids("[PAD]", "[PAD]", "[PAD]")
    assert tokenizer([nothing, nothing]) is None
    assert tokenizer([]) is None


def test_the_tokenizers_own_limits_are_not_used():
    definition = json.loads(make_tokenizer())
    definition["truncation"] = {
        "direction": "Right",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    definition["padding"] = {
        "strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": None,
        "pad_id": 4, "pad_type_id": 0, "pad_token": "[MASK]",
    }  # fmt: skip
    tokens = Tokenizer(json.dumps(definition), LAYOUT)(["chest pain"])
    assert tokens.input_ids.tolist() == [ids("[CLS]", "chest", "pain", "[SEP]")]


def test_a_tokenizer_without_special_tokens_gives_at_least_one_column():
    definition = json.loads(make_tokenizer())
    definition["post_processor"] = None
    tokens = Tokenizer(json.dumps(definition), LAYOUT)(["\u200b\u0000"])  # normalised away
    assert tokens.input_ids.shape == (1, 1)
    assert tokens.attention_mask.tolist() == [[0]]


def test_limits_are_those_of_vocabulary_and_layout(tokenizer: Tokenizer):
    assert tokenizer.limits == TextLimits(vocabulary=len(VOCABULARY), length=6)


@pytest.mark.parametrize("definition", ["", "{}", "[]", '{"model": {"type": "WordPiece"}}', "\ufffd"])
def test_what_is_no_tokenizer_is_refused(definition: str):
    with pytest.raises(ValueError, match="not a tokenizer"):
        Tokenizer(definition, LAYOUT)


def test_a_padding_outside_the_vocabulary_is_refused():
    with pytest.raises(ValueError, match=r"inputs\.pad_id 999 is not in"):
        Tokenizer(make_tokenizer(), TextFormat(max_length=6, pad_id=999))


@pytest.mark.parametrize(("length", "pad"), [(2, 0), (True, 0), (6.0, 0), (6, -1), (6, True), ("6", 0)])
def test_a_layout_that_makes_no_sense_is_refused(length, pad):
    with pytest.raises(ValueError, match=r"inputs\.(max_length|pad_id)"):
        TextFormat(max_length=length, pad_id=pad)


def test_the_padding_is_found_by_its_name():
    assert padding_id(make_tokenizer()) == 0
    assert padding_id(make_tokenizer(("a", *SPECIAL))) == 1
    with pytest.raises(ValueError, match=r"no \[PAD\]"):
        padding_id(make_tokenizer(("a", "b", "[CLS]", "[SEP]", "[UNK]")))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64)),
        (torch.zeros(2, 3, dtype=torch.int64), torch.zeros(2, 3)),
        (torch.zeros(3, dtype=torch.int64), torch.zeros(3, dtype=torch.int64)),
    ],
)
def test_tokens_are_two_tables_of_one_shape(one: torch.Tensor, other: torch.Tensor):
    with pytest.raises(ValueError, match="int64"):
        Tokens(one, other)


def test_rows_can_be_repeated(tokenizer: Tokenizer):
    tokens = tokenizer(["cough", "chest pain"]).rows([1, 1, 0])
    assert tokens.attention_mask.sum(1).tolist() == [4, 4, 3]
    assert tokens.input_ids[0].tolist() == tokens.input_ids[1].tolist()
