"""Towers start from published weights and then answer as the published networks do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from safetensors.torch import load_file, save_file

from models.architectures.interface import Batch, Network
from models.architectures.registry import build_network
from models.errors import EncoderError, RecipeError
from models.pretrained.encoders import add_to_cache
from models.pretrained.weight_sources import find_encoder, load_towers, rename_bert
from models.processing.transforms import Preprocessing
from models.text.text_format import TextFormat
from models.text.tokenizer import Tokenizer
from tests.support.model_families import SWIN, TEXT
from tests.support.published_weights import (
    CLIP_MEAN,
    CLIP_STD,
    DENSE,
    EMBEDDING,
    dense,
    former_names,
    write_bert,
    write_open_clip,
    write_timm,
)

PREPROCESSING = Preprocessing(grid=96, size=64, channels=3, mean=0.5, std=0.25)


def make(family: str, channels: int = 3, **arguments: Any) -> Network:
    torch.manual_seed(9)
    return build_network(family, outputs=2, channels=channels, arguments=arguments).eval()


def films(n: int = 2, side: int = 64) -> torch.Tensor:
    """Standardised films, shape (n, 1, side, side), in [0, 1]."""
    torch.manual_seed(4)
    return torch.rand(n, 1, side, side)


def as_input(films: torch.Tensor, channels: int = 3) -> torch.Tensor:
    return ((films - PREPROCESSING.mean) / PREPROCESSING.std).expand(-1, channels, -1, -1)


def tokens():
    from tests.support.model_families import make_tokenizer

    return Tokenizer(make_tokenizer(), TextFormat(max_length=12, pad_id=0))(["chest pain", "cough, fever"])


@pytest.mark.parametrize("source", ["", "pretrained", "hf:", "dir:", "package:minilm"])
def test_a_source_that_is_none_is_refused(source: str):
    network = make("densenet", options=DENSE)
    with pytest.raises(RecipeError, match="none of random, imagenet, minilm, hf:OWNER/NAME, dir:PATH"):
        load_towers(network, {"image": source}, preprocessing=PREPROCESSING)


def test_a_tower_that_is_not_there_is_named():
    with pytest.raises(RecipeError, match="DenseNet has no text tower; it has: image"):
        load_towers(make("densenet", options=DENSE), {"text": "minilm"}, preprocessing=PREPROCESSING)


def test_an_encoder_that_was_not_pulled_is_named_with_the_command(tmp_path: Path):
    network = make("concatenation", backbone="test_resnet", text=TEXT)
    with pytest.raises(RecipeError, match=r"run `dicom-node models pull dmis-lab/biobert-base-cased-v1\.1`"):
        load_towers(
            network,
            {"text": "hf:dmis-lab/biobert-base-cased-v1.1"},
            preprocessing=PREPROCESSING,
            cache=tmp_path,
        )
    with pytest.raises(RecipeError, match="run `dicom-node models pull timm/resnet18"):
        load_towers(
            make("concatenation", text=TEXT),
            {"image": "imagenet"},
            preprocessing=PREPROCESSING,
            cache=tmp_path,
        )


def test_random_stays_as_it_was_built():
    network = make("densenet", options=DENSE)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    load_towers(network, {"image": "random"}, preprocessing=PREPROCESSING)
    load_towers(network, {}, preprocessing=PREPROCESSING)
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("pulled", [False, True])
def test_a_text_tower_answers_as_the_published_encoder(tmp_path: Path, old: bool, pulled: bool):
    bert = write_bert(tmp_path / "bert", old=old)
    source = f"dir:{tmp_path / 'bert'}"
    if pulled:
        add_to_cache(tmp_path / "bert", "someone/bert", tmp_path / "cache")
        source = "hf:someone/bert"
    network = make("crossattention", **SWIN, text=TEXT, joint=16, heads=2)
    load_towers(network, {"text": source}, preprocessing=PREPROCESSING, cache=tmp_path / "cache")
    texts = tokens()
    with torch.inference_mode():
        states, mask = network.text(texts, 2)
        expected = bert(texts.input_ids, texts.attention_mask).last_hidden_state
    torch.testing.assert_close(states[mask], expected[mask])


def test_names_of_a_head_and_of_a_pooling_layer_are_left_behind():
    renamed = rename_bert({
        "bert.embeddings.LayerNorm.gamma": torch.zeros(1),
        "bert.pooler.dense.weight": torch.zeros(1),
        "cls.predictions.bias": torch.zeros(1),
        "encoder.layer.0.output.LayerNorm.beta": torch.zeros(1),
    })  # fmt: skip
    assert list(renamed) == ["embeddings.LayerNorm.weight", "encoder.layer.0.output.LayerNorm.bias"]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vocab_size": 31}, r"word_embeddings\.weight has shape \(27, 16\) there and \(31, 16\) here"),
        ({"num_hidden_layers": 1}, r"encoder\.layer\.1\..* there and none here"),
        ({"num_hidden_layers": 3}, r"encoder\.layer\.2\..* has shape none there"),
        ({"num_attention_heads": 4}, "num_attention_heads is 4 here and 2 in"),
        ({"hidden_act": "relu"}, "hidden_act is relu here and gelu in"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps is 1e-05 here and 1e-12 in"),
    ],
)
def test_a_text_tower_of_another_shape_is_refused(tmp_path: Path, fields: dict, message: str):
    write_bert(tmp_path)
    network = make("concatenation", backbone="test_resnet", text={**TEXT, **fields})
    with pytest.raises(RecipeError, match=message) as caught:
        load_towers(network, {"text": f"dir:{tmp_path}"}, preprocessing=PREPROCESSING)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        (SWIN["backbone"], SWIN["options"]),
        ("densenet121", DENSE),
        ("test_resnet", {}),
        ("test_vit", {"img_size": 64}),
    ],
)
def test_an_image_tower_answers_as_the_published_backbone(
    tmp_path: Path, backbone: str, options: dict, channels: int
):
    published = write_timm(tmp_path, backbone, options)
    network = make("concatenation", channels, backbone=backbone, options=options, text=TEXT)
    load_towers(network, {"image": f"dir:{tmp_path}"}, preprocessing=PREPROCESSING)
    with torch.inference_mode():
        expected = published.forward_features(as_input(films()))
        found = network.image.backbone(as_input(films(), channels))
    assert float(expected.std()) > 1e-3
    torch.testing.assert_close(found, expected, atol=2e-3, rtol=1e-3)


def test_an_image_tower_of_another_shape_is_refused(tmp_path: Path):
    write_timm(tmp_path, "densenet121", DENSE)
    network = make("densenet", options={**DENSE, "growth_rate": 8})
    with pytest.raises(RecipeError, match="does not fit the tower: features"):
        load_towers(network, {"image": f"dir:{tmp_path}"}, preprocessing=PREPROCESSING)


@pytest.mark.parametrize("former", [False, True])
def test_densenet_starts_from_torchvisions_file(tmp_path: Path, former: bool):
    published = dense(3)
    state = published.state_dict()
    torch.save(former_names(state) if former else state, tmp_path / "densenet121-0123abcd.pth")
    network = make("densenet", options=DENSE)
    load_towers(network, {"image": f"dir:{tmp_path}"}, preprocessing=PREPROCESSING)
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        expected = F.relu(published.features(images))
        output = network(Batch(images))
    torch.testing.assert_close(output.features, expected, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(output.image_embedding, expected.mean(dim=(2, 3)), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("channels", [1, 3])
def test_densenet_starts_from_torchxrayvisions_weights_and_reads_films_on_their_scale(
    tmp_path: Path, channels: int
):
    published = dense(1)
    with torch.no_grad():
        published.features.conv0.weight /= 500  # as weights for values up to 1024 are
    state = {**published.state_dict(), "op_threshs": torch.ones(18)}
    torch.save(state, tmp_path / "nih.pt")
    network = make("densenet", channels, options=DENSE)
    load_towers(network, {"image": f"dir:{tmp_path / 'nih.pt'}"}, preprocessing=PREPROCESSING)
    with torch.inference_mode():
        expected = F.relu(published.features(films() * 2048 - 1024))
        output = network(Batch(as_input(films(), channels)))
    assert float(expected.std()) > 1e-3
    torch.testing.assert_close(output.features, expected, atol=2e-3, rtol=2e-3)


def test_torchxrayvisions_weights_ask_for_centred_films(tmp_path: Path):
    torch.save(dense(1).state_dict(), tmp_path / "nih.pt")
    off = Preprocessing(grid=96, size=64, channels=1, mean=0.48, std=0.25)
    with pytest.raises(RecipeError, match=r"set preprocessing\.mean to 0\.5"):
        load_towers(make("densenet", 1, options=DENSE), {"image": f"dir:{tmp_path}"}, preprocessing=off)


def test_a_whole_network_in_a_pickle_is_refused(tmp_path: Path):
    torch.save(dense(1), tmp_path / "nih.pt")
    with pytest.raises(EncoderError, match="could run code"):
        load_towers(
            make("densenet", 1, options=DENSE), {"image": f"dir:{tmp_path}"}, preprocessing=PREPROCESSING
        )


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open_clip")
    write_open_clip(folder)
    return folder


def make_clip(channels: int = 3, *, prompts: bool = True) -> Network:
    arguments = {"prompts": TEXT} if prompts else {}
    return make("biomedclip", channels, backbone="test_vit", embedding=EMBEDDING, hidden=[16, 8], **arguments)


@pytest.mark.parametrize("channels", [1, 3])
def test_biomedclip_answers_as_open_clip_does_of_the_same_folder(clip_folder: Path, channels: int):
    """open_clip normalises channel by channel, the bundle once: the first layer takes up the difference."""
    import open_clip

    theirs = open_clip.create_model(f"local-dir:{clip_folder}").eval()
    ours = make_clip(channels)
    load_towers(ours, {"clip": f"dir:{clip_folder}"}, preprocessing=PREPROCESSING)
    pictures = films(side=160)
    mean, std = (torch.tensor(values)[None, :, None, None] for values in (CLIP_MEAN, CLIP_STD))
    texts = tokens()
    with torch.inference_mode():
        image = theirs.encode_image((pictures - mean) / std, normalize=True)
        text = theirs.encode_text(texts.input_ids, normalize=True)
        output = ours(Batch(as_input(pictures, channels)))
        sentences = ours.embed_text(texts)
    torch.testing.assert_close(output.image_embedding, image, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(sentences, text, atol=1e-4, rtol=1e-3)
    assert float(ours.clip.logit_scale) == 2.5


def test_biomedclip_without_prompts_leaves_the_text_tower_behind(clip_folder: Path):
    with_text, without = make_clip(), make_clip(prompts=False)
    for network in (with_text, without):
        load_towers(network, {"clip": f"dir:{clip_folder}"}, preprocessing=PREPROCESSING)
    picture = as_input(films(1, 160))
    with torch.inference_mode():
        one, other = (network(Batch(picture)).image_embedding for network in (with_text, without))
    assert one.tolist() == other.tolist()


@pytest.mark.parametrize(
    ("config", "message"),
    [("{}", "no usable preprocess_cfg"), ('{"preprocess_cfg": {"mean": [0.5], "std": [1, 1]}}', "no usable")],
)
def test_open_clip_must_say_how_films_were_normalised(
    clip_folder: Path, tmp_path: Path, config: str, message: str
):
    shutil.copytree(clip_folder, tmp_path / "clip")
    (tmp_path / "clip" / "open_clip_config.json").write_text(config)
    with pytest.raises(RecipeError, match=message):
        load_towers(make_clip(), {"clip": f"dir:{tmp_path / 'clip'}"}, preprocessing=PREPROCESSING)


@pytest.mark.parametrize(
    ("section", "name", "value", "message"),
    [
        ("text_cfg", "hf_pooler_type", "mean_pooler", r"hf_pooler_type is 'cls_.*' here and 'mean_pooler'"),
        ("text_cfg", "hf_pooler_type", None, r"hf_pooler_type is 'cls_.*' here and 'mean_pooler'"),
        ("vision_cfg", "timm_pool", "avg", "timm_pool is '' here and 'avg' there"),
    ],
)
def test_an_open_clip_network_that_is_built_otherwise_is_refused(
    clip_folder: Path, tmp_path: Path, section: str, name: str, value: str | None, message: str
):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"][section].pop(name)
    if value is not None:
        config["model_cfg"][section][name] = value
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(RecipeError, match=message):
        load_towers(make_clip(), {"clip": f"dir:{folder}"}, preprocessing=PREPROCESSING)


def test_open_clip_must_say_how_its_network_is_built(clip_folder: Path, tmp_path: Path):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    (folder / "open_clip_config.json").write_text(json.dumps({"preprocess_cfg": config["preprocess_cfg"]}))
    with pytest.raises(RecipeError, match="no usable model_cfg"):
        load_towers(make_clip(), {"clip": f"dir:{folder}"}, preprocessing=PREPROCESSING)


def test_the_text_tower_of_a_clip_is_compared_with_the_configuration_in_its_folder(
    clip_folder: Path, tmp_path: Path
):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "text"  # a folder beside it
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    bert = json.loads((folder / "text" / "config.json").read_text())
    (folder / "text" / "config.json").write_text(json.dumps({**bert, "num_attention_heads": 4}))
    with pytest.raises(RecipeError, match="num_attention_heads is 2 here and 4"):
        load_towers(make_clip(), {"clip": f"dir:{folder}"}, preprocessing=PREPROCESSING)
    config["model_cfg"]["text_cfg"]["hf_model_name"] = "microsoft/somewhere-on-a-hub"
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    load_towers(make_clip(), {"clip": f"dir:{folder}"}, preprocessing=PREPROCESSING)


def test_open_clips_own_image_tower_is_refused(clip_folder: Path, tmp_path: Path):
    shutil.copytree(clip_folder, tmp_path / "clip")
    weights = tmp_path / "clip" / "open_clip_model.safetensors"
    save_file({name.replace("trunk.", ""): value for name, value in load_file(weights).items()}, weights)
    with pytest.raises(RecipeError, match="no ViT of timm"):
        load_towers(make_clip(), {"clip": f"dir:{tmp_path / 'clip'}"}, preprocessing=PREPROCESSING)


def test_a_tower_takes_its_own_kind_of_encoder_only(clip_folder: Path, tmp_path: Path):
    write_bert(tmp_path / "bert")
    network = make("concatenation", backbone="test_resnet", text=TEXT)
    for tower, folder, message in (
        ("image", tmp_path / "bert", "takes timm or bare, and that is bert"),
        ("text", clip_folder, "takes bert, and that is open_clip"),
    ):
        with pytest.raises(RecipeError, match=message):
            load_towers(network, {tower: f"dir:{folder}"}, preprocessing=PREPROCESSING)
    with pytest.raises(RecipeError, match="takes open_clip, and that is bert"):
        load_towers(make_clip(), {"clip": f"dir:{tmp_path / 'bert'}"}, preprocessing=PREPROCESSING)


def test_text_has_no_imagenet():
    network = make("concatenation", backbone="test_resnet", text=TEXT)
    with pytest.raises(RecipeError, match="image towers alone"):
        load_towers(network, {"text": "imagenet"}, preprocessing=PREPROCESSING)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_fused_network_starts_from_the_imagenet_weights_of_the_package(channels: int):
    from models.architectures.convnet import ConvNet

    network = make("crossattention", channels, backbone="tf_efficientnet_lite0", text=TEXT, joint=16, heads=2)
    load_towers(network, {"image": "imagenet"}, preprocessing=PREPROCESSING)
    alone = ConvNet(outputs=1, channels=channels).eval()
    alone.load_imagenet()
    images = as_input(films(1), channels)
    with torch.inference_mode():
        assert torch.equal(network.image(images), alone.backbone(images))


def test_imagenet_weights_of_other_backbones_are_those_that_timm_names(tmp_path: Path):
    write_timm(tmp_path / "resnet18", "resnet18", {})
    network = make("concatenation", text=TEXT)
    name = network.image.backbone.pretrained_cfg["hf_hub_id"]
    add_to_cache(tmp_path / "resnet18", name, tmp_path / "cache")
    load_towers(network, {"image": "imagenet"}, preprocessing=PREPROCESSING, cache=tmp_path / "cache")
    published = load_file(tmp_path / "resnet18" / "model.safetensors")
    assert torch.equal(network.image.backbone.conv1.weight, published["conv1.weight"])


def test_minilm_comes_from_its_package_and_knows_what_words_mean():
    encoder = find_encoder("minilm")
    network = make("concatenation", backbone="test_resnet", text=encoder.text_fields(), pooling="mean")
    load_towers(network, {"text": "minilm"}, preprocessing=PREPROCESSING)
    tokenizer = Tokenizer(encoder.tokenizer(), TextFormat(max_length=64, pad_id=0))
    assert tokenizer.limits.vocabulary <= network.text_limits.vocabulary == 30522
    sentences = ["The heart is enlarged.", "Cardiomegaly.", "A broken rib.", "History of cough and fever."]
    with torch.inference_mode():
        output = network(Batch(torch.rand(4, 3, 64, 64), tokenizer(sentences)))
    assert network.text.width == 384
    places = F.normalize(output.text_embedding, dim=1)
    likeness = places @ places.T
    # As the published sentence encoder places them; wrong names or a wrong pooling would not.
    assert float(likeness[0, 1]) > 0.5
    assert float(likeness[0, 1]) > 0.1 + float(likeness[0, 2:].max())
