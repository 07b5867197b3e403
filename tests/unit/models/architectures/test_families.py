"""Every family is written, read back and served by the same code, with and without text."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from models.architectures.interface import Batch, Network
from models.architectures.registry import build_network
from models.bundles.bundle import Bundle, read_bundle, write_bundle
from models.bundles.predictor import Predictor
from models.errors import BundleError
from models.explain.methods import draw_heatmaps
from models.processing.types import Study
from models.text.text_format import TextFormat
from tests.support.drawn_studies import draw_study
from tests.support.model_families import (
    FAMILIES,
    READERS,
    make_family,
    make_manifest,
    make_tokenizer,
    write_family,
)
from tests.support.tiny_bundle import CALIBRATION, KEYS, replace_text, reseal


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Predictor]:
    folder = tmp_path_factory.mktemp("families")
    return {family: Predictor.load(write_family(folder, family).path) for family in FAMILIES}


def scores(prediction) -> np.ndarray:
    return np.array([finding.score for finding in prediction.findings])


def with_text(seed: int, text: str | None = "chest pain, fever") -> Study:
    return replace(draw_study(seed), text=text)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_bundle_comes_back_as_it_was_written_and_is_tiny(served: dict[str, Predictor], family: str):
    bundle = served[family].bundle
    assert read_bundle(bundle.path).manifest == make_manifest(family)
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) < 1_000_000
    assert (bundle.path / "tokenizer.json").exists() == (family in READERS)
    original, loaded = make_family(make_manifest(family)).state_dict(), bundle.network().state_dict()
    for name, value in original.items():
        if value.is_floating_point():
            torch.testing.assert_close(loaded[name], value, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_scores_are_those_of_the_network_before_it_was_saved(served: dict[str, Predictor], family: str):
    reader = served[family]
    one = with_text(3)
    tokens = None if reader.tokenizer is None else reader.tokenizer([one.text] * len(one.films))
    network = make_family(make_manifest(family))
    with torch.inference_mode():
        output = network(Batch(reader.preprocessing([film.pixels for film in one.films]), tokens))
    (prediction,) = reader.predict([one])
    np.testing.assert_allclose(scores(prediction), output.logits.sigmoid().mean(0).numpy(), atol=1e-2)
    assert prediction.embedding.shape == output.image_embedding.shape[1:] == (network.embedding_width,)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_study_gets_the_same_bits(served: dict[str, Predictor], family: str):
    first, second = (served[family].predict([with_text(1), with_text(2)]) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert scores(one).tolist() == scores(other).tolist()
        assert one.embedding.tolist() == other.embedding.tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_study_reads_the_same_alone_and_in_company(served: dict[str, Predictor], family: str):
    texts = (None, "cough", "chronic chest pain, fever, fall, no finding in the lung", "")
    studies = [with_text(seed, texts[seed % 4]) for seed in range(11)]  # 22 films: more than one pass
    together = served[family].predict(studies)
    for number, one in enumerate(studies[:5]):
        (alone,) = served[family].predict([one])
        np.testing.assert_allclose(scores(alone), scores(together[number]), atol=1e-4)
        np.testing.assert_allclose(alone.embedding, together[number].embedding, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_films_differ_in_score(served: dict[str, Predictor], family: str):
    first, second = served[family].predict([with_text(1), with_text(2)])
    assert float(np.abs(scores(first) - scores(second)).max()) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_text_changes_the_answer_of_those_that_read_it_and_of_no_other(
    served: dict[str, Predictor], family: str
):
    without, blank, fever, pain = served[family].predict(
        [with_text(1, text) for text in (None, " ", "fever", "chest pain")]
    )
    assert scores(without).tolist() == scores(blank).tolist()
    apart = [float(np.abs(scores(one) - scores(fever)).max()) for one in (without, pain)]
    assert all((difference > 1e-4) == (family in READERS) for difference in apart), apart
    # A film is found with and without its text.
    np.testing.assert_allclose(without.embedding, fever.embedding, atol=1e-6)


@pytest.mark.parametrize("family", READERS)
def test_each_film_is_read_with_its_own_studys_text(served: dict[str, Predictor], family: str):
    reader = served[family]
    one, other = with_text(1, "fever"), with_text(1, "chest pain")
    several = replace(one, films=one.films[:1])
    expected = [scores(reader.predict([each])[0]) for each in (several, other, one)]
    for found, wanted in zip(reader.predict([several, other, one]), expected, strict=True):
        np.testing.assert_allclose(scores(found), wanted, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_has_maps_of_its_own(served: dict[str, Predictor], family: str):
    reader = served[family]
    assert reader.network.closed_form == (family == "densenet")
    (traced,) = reader.trace([with_text(4)])
    maps = draw_heatmaps(reader, traced, ["nodule", "normal"])
    assert [one.method for one in maps] == ["gradcam"] * 4


def test_the_maps_of_densenet_explain_its_logits(served: dict[str, Predictor]):
    (traced,) = served["densenet"].trace([draw_study(3)])
    head = served["densenet"].network.head
    with torch.inference_mode():
        logits = head(torch.from_numpy(traced.features).mean(dim=(2, 3)))
    for column, finding in enumerate(traced.prediction.findings):
        assert finding.film_scores == pytest.approx(logits.sigmoid()[:, column].tolist(), abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns(family: str):
    """All that is not frozen gets a gradient, with text and without, from one step on both."""
    network = make_family(make_manifest(family)).train()
    batch = Batch(torch.rand(2, 3, 64, 64))
    if family in READERS:
        from models.text.tokenizer import Tokenizer

        batch = replace(batch, tokens=Tokenizer(make_tokenizer(), TextFormat(12, 0))(["cough", None]))
    network(batch).logits.square().sum().backward()
    silent = [
        name
        for name, parameter in network.named_parameters()
        if parameter.requires_grad and (parameter.grad is None or not torch.isfinite(parameter.grad).all())
    ]
    assert silent == []


@pytest.mark.parametrize(
    ("family", "outputs", "millions"),
    [
        ("densenet", 14, 6.97),
        ("biomedclip", 35, 86.6),
        ("crossattention", 22, 148.7),
        ("concatenation", 1, 119.2),
    ],
)
def test_the_defaults_have_the_published_sizes(family: str, outputs: int, millions: float):
    with torch.device("meta"):
        network = build_network(family, outputs=outputs, channels=3, arguments={})
    assert count(network) == pytest.approx(millions * 1e6, rel=5e-3)
    assert network.head.out_features == outputs


def count(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def test_the_parts_of_the_defaults_have_the_published_sizes():
    with torch.device("meta"):
        densenet = build_network("densenet", outputs=14, channels=3, arguments={})
        clip = build_network("biomedclip", outputs=35, channels=3, arguments={"prompts": {}})
        cross = build_network("crossattention", outputs=22, channels=3, arguments={})
        side = build_network("concatenation", outputs=1, channels=3, arguments={})
    assert count(densenet.backbone) == 6_953_856  # torchvision's DenseNet-121 without its classifier
    assert densenet.dropout.p == 0.5
    assert densenet.embedding_width == 1024
    assert count(clip.hidden) + count(clip.head) == 404_515
    assert [type(layer) for layer in (*clip.hidden, clip.head)].count(torch.nn.Linear) == 3
    assert clip.embedding_width == 512
    assert count(clip.clip.visual.trunk) == 85_798_656  # ViT-B/16 without its classifier
    assert clip.text_limits.vocabulary == 30522
    assert count(cross.image) == 27_519_354  # Swin-T without its classifier
    assert cross.text_limits.vocabulary == side.text_limits.vocabulary == 28996
    assert count(cross.text.encoder) == count(side.text.encoder) == 107_719_680  # BERT base, cased, no pooler
    assert count(side.image) == 11_176_512  # ResNet-18 without its classifier
    assert side.head.in_features == 256


@pytest.mark.parametrize(
    ("family", "arguments", "message"),
    [
        ("densenet", {"backbone": "hf-hub:timm/densenet121.tv_in1k"}, "no backbone"),
        ("densenet", {"weights": "imagenet"}, "weights"),
        ("crossattention", {"backbone": "nonesuch"}, "no backbone 'nonesuch'"),
        ("crossattention", {"joint": 30, "heads": 4}, "not a multiple"),
        ("crossattention", {"pooling": "last"}, "neither 'first' nor 'mean'"),
        ("crossattention", {"text": {"name": "bert-base-cased"}}, "unknown entry 'name'"),
        ("concatenation", {"text": {"hidden_size": "16"}}, "not of type int"),
        ("concatenation", {"text": {"num_hidden_layers": True}}, "not of type int"),
        ("concatenation", {"text": {"hidden_size": 30, "num_attention_heads": 4}}, "cannot be built"),
        ("concatenation", {"text": {"hidden_act": "nonesuch"}}, "cannot be built"),
        ("concatenation", {"pooling": "max"}, "neither"),
        ("biomedclip", {"backbone": "test_resnet"}, "has none blocks"),
        ("biomedclip", {"unfrozen": 13}, "has 12 blocks"),
        ("biomedclip", {"hidden": [512]}, "biomedclip: "),
        ("biomedclip", {"options": {"img_size": "wide"}}, "cannot build"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(family: str, arguments: dict, message: str):
    with pytest.raises(BundleError, match=message) as caught, torch.device("meta"):
        build_network(family, outputs=2, channels=3, arguments=arguments)
    assert "\n" not in str(caught.value)


@pytest.fixture
def reading_bundle(tmp_path: Path) -> Bundle:
    """A whole bundle that reads text, free to be spoilt."""
    return write_family(tmp_path, "concatenation")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("max_length = 12\n", "", "no max_length"),
        ("pad_id = 0\n", "", "no pad_id"),
        ("max_length = 12\npad_id = 0\n", "", r"needs inputs\.max_length"),
        (
            'text = "optional"\nmax_length = 12\npad_id = 0\n',
            'text = "none"\n',
            r"unknown file tokenizer\.json",
        ),
        ("max_length = 12", "max_length = 1", r"inputs\.max_length 1 "),
        ("pad_id = 0", 'pad_id = "0"', r"inputs\.pad_id '0'"),
    ],
)
def test_a_manifest_that_does_not_say_how_text_is_cut_is_refused(
    reading_bundle: Bundle, old: str, new: str, message: str
):
    replace_text(reading_bundle.path / "bundle.toml", old, new)
    with pytest.raises(BundleError, match=message):
        read_bundle(reading_bundle.path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('text = "optional"', 'text = "none"', "is 'none', yet it reads text"),
        ("max_length = 12", "max_length = 17", "the text tower takes 27 and 16"),
        ("vocab_size = 27", "vocab_size = 26", "the text tower takes 26 and 16"),
        ("pad_id = 0", "pad_id = 99", "pad_id 99 is not in"),
        ('name = "concatenation"', 'name = "convnet"', "unexpected keyword|text"),
    ],
)
def test_a_network_that_does_not_do_what_the_manifest_says_is_refused(
    reading_bundle: Bundle, old: str, new: str, message: str
):
    replace_text(reading_bundle.path / "bundle.toml", old, new)
    with pytest.raises(BundleError, match=message):
        read_bundle(reading_bundle.path).network()


def test_a_network_that_reads_no_text_cannot_ask_for_it(tmp_path: Path):
    manifest = make_manifest("densenet", text="optional", tokens=TextFormat(12, 0))
    with pytest.raises(BundleError, match="yet it reads no text"):
        manifest.network(len(KEYS))


def test_a_tokenizer_for_a_network_without_text_tower_is_refused(tmp_path: Path):
    manifest = make_manifest("densenet", tokens=TextFormat(12, 0))
    with pytest.raises(BundleError, match="no text tower to read"):
        write_bundle(
            tmp_path / "tiny-densenet-0.0.1", manifest, KEYS, make_family(manifest), CALIBRATION,
            tokenizer=make_tokenizer(),
        )  # fmt: skip


def test_a_text_tower_without_tokenizer_is_refused(tmp_path: Path):
    manifest = make_manifest("concatenation")
    with pytest.raises(BundleError, match=r"does not name tokenizer\.json"):
        write_bundle(tmp_path / manifest.folder, manifest, KEYS, make_family(manifest), CALIBRATION)
    assert list(tmp_path.iterdir()) == []


def test_a_tokenizer_is_covered_by_its_hash_and_by_the_identity(reading_bundle: Bundle):
    before = reading_bundle.identity
    path = reading_bundle.path / "tokenizer.json"
    replace_text(path, '"cough"', '"sneeze"')
    with pytest.raises(BundleError, match=r"tokenizer\.json was altered"):
        read_bundle(reading_bundle.path)
    with pytest.raises(BundleError, match="altered after it was verified"):
        reading_bundle.tokenizer()
    reseal(reading_bundle.path)
    after = read_bundle(reading_bundle.path).identity
    assert after.weights_sha256 == before.weights_sha256
    assert after.preprocessing != before.preprocessing


def test_what_is_no_tokenizer_is_refused(reading_bundle: Bundle):
    (reading_bundle.path / "tokenizer.json").write_text("{}")
    reseal(reading_bundle.path)
    with pytest.raises(BundleError, match=r"tokenizer\.json: not a tokenizer"):
        read_bundle(reading_bundle.path).network()


def test_weights_that_are_not_numbers_are_refused(reading_bundle: Bundle):
    state = load_file(reading_bundle.path / "weights.safetensors")
    state["text.no_text"][0] = float("inf")
    save_file(state, reading_bundle.path / "weights.safetensors")
    reseal(reading_bundle.path)
    with pytest.raises(BundleError, match=r"text\.no_text holds values that are not finite"):
        read_bundle(reading_bundle.path).network()


@pytest.mark.parametrize(
    ("family", "old", "new", "message"),
    [
        ("crossattention", "size = 64\n", "size = 96\n", "cannot read films of 96 pixels"),
        ("concatenation", "embedding = 96", "embedding = 97", "not 97 numbers wide"),
    ],
)
def test_a_bundle_that_cannot_read_is_refused_when_it_is_loaded(
    tmp_path: Path, family: str, old: str, new: str, message: str
):
    bundle = write_family(tmp_path, family)
    replace_text(bundle.path / "bundle.toml", old, new)
    with pytest.raises(BundleError, match=message) as caught:
        Predictor.load(bundle.path)
    assert "\n" not in str(caught.value)


def test_a_bundle_without_text_is_served_without_the_libraries_of_text(served: dict[str, Predictor]):
    program = (
        "import sys\nfrom models.bundles.predictor import Predictor\n"
        f"Predictor.load({str(served['densenet'].bundle.path)!r})\n"
        "print(sorted({'transformers', 'open_clip'} & {name.split('.')[0] for name in sys.modules}))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_a_network_is_asked_for_what_it_is(served: dict[str, Predictor]):
    towers = {family: tuple(reader.network.towers) for family, reader in served.items()}
    assert towers == {
        "densenet": ("image",),
        "biomedclip": ("clip", "image"),
        "crossattention": ("image", "text"),
        "concatenation": ("image", "text"),
    }
    network: Network = served["crossattention"].network
    assert network.reads_text
    assert network.text_limits.length == 16
