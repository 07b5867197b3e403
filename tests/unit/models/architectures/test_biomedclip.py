"""BiomedCLIP: what is frozen, and what it says to prompts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows

from models.architectures.biomedclip import BiomedClip, score_prompts
from models.architectures.interface import Batch
from models.architectures.registry import build_network
from models.bundles.bundle import Bundle
from models.bundles.predictor import Predictor
from models.errors import BundleError
from models.text.text_format import TextFormat
from models.text.tokenizer import Tokenizer
from tests.support.model_families import FAMILIES, TEXT, VIT, make_tokenizer, write_family

ARGUMENTS = FAMILIES["biomedclip"][3]
PROMPTS = (
    ("a chest radiograph with effusion", "a chest radiograph without effusion"),
    ("a nodule in the lung", "normal lung"),
    ("fever", "cough"),
)


def make(**changes: object) -> BiomedClip:
    torch.manual_seed(2)
    network = build_network("biomedclip", outputs=2, channels=3, arguments={**ARGUMENTS, **changes}).eval()
    for parameter in network.clip.parameters():
        if parameter.dim() == 2:
            torch.nn.init.normal_(parameter, std=0.3)
    return network


@pytest.fixture(scope="module")
def prompted() -> BiomedClip:
    return make(prompts=TEXT)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(make_tokenizer(), TextFormat(max_length=12, pad_id=0))


def trained(network: BiomedClip) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


def test_the_last_two_blocks_are_trained_and_the_rest_of_the_towers_is_not(prompted: BiomedClip):
    names = trained(prompted)
    parts = {".".join(name.split(".")[:5]) for name in names if name.startswith("clip.visual.trunk.blocks")}
    assert parts == {"clip.visual.trunk.blocks.1", "clip.visual.trunk.blocks.2"}
    assert {name for name in names if "blocks" not in name and name.startswith("clip")} == {
        "clip.visual.trunk.norm.weight",
        "clip.visual.trunk.norm.bias",
        "clip.visual.head.proj.weight",
    }
    assert {name for name in names if not name.startswith("clip")} == {
        name for name, _ in prompted.named_parameters() if not name.startswith("clip")
    }


@pytest.mark.parametrize(("unfrozen", "blocks"), [(0, 0), (1, 1), (3, 3)])
def test_how_many_blocks_are_trained_is_configured(unfrozen: int, blocks: int):
    names = trained(make(unfrozen=unfrozen))
    found = {name.split(".")[4] for name in names if ".blocks." in name}
    assert len(found) == blocks
    assert ("clip.visual.head.proj.weight" in names) == (unfrozen > 0)
    assert not any("patch_embed" in name for name in names)


def test_the_answer_rests_on_the_joint_embedding(prompted: BiomedClip):
    images = torch.rand(2, 3, 64, 64)
    with torch.inference_mode():
        output = prompted(Batch(images))
        place = prompted.clip.visual(images)
        logits = prompted.head(prompted.hidden(F.normalize(place, dim=1) * 4))  # the square root of 16
    torch.testing.assert_close(output.image_embedding, F.normalize(place, dim=1))
    torch.testing.assert_close(output.logits, logits)
    assert output.text_embedding is None


#: Modules with weights in the bundles that were written before open_clip built the network.
WEIGHTS = {
    "clip.logit_scale",
    "clip.text.proj.0.weight",
    "clip.text.proj.2.weight",
    "clip.text.transformer.embeddings.word_embeddings.weight",
    "clip.text.transformer.encoder.layer.1.output.LayerNorm.bias",
    "clip.visual.head.proj.weight",
    "clip.visual.trunk.cls_token",
    "clip.visual.trunk.norm.bias",
    "clip.visual.trunk.patch_embed.proj.weight",
    "clip.visual.trunk.pos_embed",
    "head.weight",
    "hidden.0.weight",
}


def test_open_clip_builds_the_network_and_its_weights_keep_their_names(prompted: BiomedClip):
    from open_clip.model import CustomTextCLIP

    for network, prompts in ((prompted, True), (make(), False)):
        assert type(network.clip) is CustomTextCLIP
        names = set(network.state_dict())
        assert {name for name in WEIGHTS if prompts or "visual" in name or "clip" not in name} <= names
        assert {name.split(".")[1] for name in names if name.startswith("clip.")} == (
            {"visual", "text", "logit_scale"} if prompts else {"visual"}
        )
        assert not any("pooler" in name or "trunk.head" in name for name in names)


def test_nothing_is_downloaded_to_build_the_network(monkeypatch: pytest.MonkeyPatch):
    def refuse(*args: object, **kwargs: object):
        raise AssertionError("a connection was opened")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)
    assert make(prompts=TEXT).text_limits is not None


def test_the_backbone_keeps_timms_record_of_where_its_weights_are(prompted: BiomedClip):
    config = prompted.towers["image"].pretrained_cfg
    assert (config["architecture"], config["first_conv"]) == ("vit_base_patch16_224", "patch_embed.proj")
    assert config["hf_hub_id"].startswith("timm/")
    assert "file" not in config or config["file"] is None


def test_prompts_are_scored_by_their_likeness_to_the_film(prompted: BiomedClip, tokenizer: Tokenizer):
    images = torch.rand(3, 3, 64, 64)
    scores = score_prompts(prompted, tokenizer, images, PROMPTS)
    assert scores.shape == (3, len(PROMPTS))
    with torch.inference_mode():
        film = F.normalize(prompted.clip.encode_image(images), dim=1)
        for column, pair in enumerate(PROMPTS):
            there, absent = prompted.clip.encode_text(tokenizer(list(pair)).input_ids, normalize=True)
            cosine = torch.stack([film @ there, film @ absent], dim=1)
            expected = (cosine * prompted.clip.logit_scale.exp()).softmax(dim=1)[:, 0]
            torch.testing.assert_close(scores[:, column], expected, atol=1e-5, rtol=1e-4)
    assert float((scores - 0.5).abs().max()) > 1e-3


def test_the_contrary_prompts_give_the_contrary_scores(prompted: BiomedClip, tokenizer: Tokenizer):
    images = torch.rand(2, 3, 64, 64)
    scores = score_prompts(prompted, tokenizer, images, PROMPTS)
    turned = score_prompts(prompted, tokenizer, images, [(absent, there) for there, absent in PROMPTS])
    torch.testing.assert_close(scores, 1 - turned)


@pytest.mark.parametrize("prompts", [[], [("a nodule", " ")]])
def test_a_label_without_prompts_is_refused(prompted: BiomedClip, tokenizer: Tokenizer, prompts: list):
    with pytest.raises(ValueError, match="prompt"):
        score_prompts(prompted, tokenizer, torch.rand(1, 3, 64, 64), prompts)


def test_without_a_text_tower_there_is_no_answer_to_prompts(tokenizer: Tokenizer):
    with pytest.raises(ValueError, match="no text tower"):
        score_prompts(make(), tokenizer, torch.rand(1, 3, 64, 64), PROMPTS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"backbone": "local-dir:/etc"}, "timm has no backbone"),
        ({"options": {"depth": "three"}}, "cannot build"),
        ({"prompts": {"hidden_size": 15}}, "hidden_size|hidden size"),
    ],
)
def test_a_network_that_open_clip_cannot_build_is_refused(changes: dict, message: str):
    with pytest.raises(BundleError, match=message):
        make(**changes)


def test_a_bundle_with_prompts_carries_the_tokenizer_and_reads_no_text_of_studies(tmp_path: Path):
    bundle: Bundle = write_family(
        tmp_path,
        "biomedclip",
        arguments={**VIT, "embedding": 16, "hidden": [16, 8], "prompts": TEXT},
        tokens=TextFormat(max_length=12, pad_id=0),
    )
    predictor = Predictor.load(bundle.path)
    assert predictor.text == "none"
    network, tokenizer = predictor.network, predictor.tokenizer
    assert isinstance(network, BiomedClip)
    assert tokenizer is not None
    assert score_prompts(network, tokenizer, torch.rand(1, 3, 64, 64), PROMPTS).shape == (1, 3)
