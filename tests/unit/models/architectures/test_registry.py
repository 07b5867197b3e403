"""Networks are built from configuration, never from a hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.architectures.convnet import ConvNet
from models.architectures.efficientnet_lite import WEIGHT_PACKAGES, rename_efficientnet
from models.architectures.interface import Batch
from models.architectures.registry import build_network
from models.bundles.bundle import write_bundle
from models.bundles.predictor import Predictor
from models.errors import BundleError, RecipeError
from models.processing.types import Film, Study
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST


def test_the_logits_are_the_mean_of_a_linear_map_of_the_features():
    network = build_network(
        "convnet", outputs=3, channels=1, arguments={"backbone": "test_efficientnet"}
    ).eval()
    output = network(Batch(torch.rand(2, 1, 64, 64)))
    assert output.logits.shape == (2, 3)
    by_place = torch.einsum("kc,nchw->nkhw", network.head.weight, output.features)
    torch.testing.assert_close(
        output.logits, by_place.mean(dim=(2, 3)) + network.head.bias, atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("transformer", {}, "no architecture is called 'transformer'"),
        ("convnet", {"backbone": "nonesuch"}, "no backbone 'nonesuch'"),
        ("convnet", {"backbone": "hf-hub:timm/resnet18.a1_in1k"}, "no backbone"),
        ("convnet", {"pretrained": True}, "pretrained"),
        ("convnet", {"backbone": "test_efficientnet", "options": {"depth": 3}}, "cannot build"),
    ],
)
def test_what_cannot_be_built_is_one_sentence(name, arguments, message):
    with pytest.raises(BundleError, match=message) as caught:
        build_network(name, outputs=2, channels=3, arguments=arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("backbone", WEIGHT_PACKAGES)
def test_the_imagenet_weights_fill_the_whole_backbone_for_one_channel_as_for_three(backbone):
    film = torch.rand(1, 1, 64, 64)
    grey = ConvNet(outputs=1, channels=1, backbone=backbone).eval()
    colour = ConvNet(outputs=1, channels=3, backbone=backbone).eval()
    grey.load_imagenet()
    colour.load_imagenet()
    with torch.inference_mode():
        one = grey(Batch(film)).image_embedding
        three = colour(Batch(film.expand(-1, 3, -1, -1))).image_embedding
    torch.testing.assert_close(one, three, atol=1e-4, rtol=1e-3)
    assert float(one.std()) > 0


@pytest.mark.parametrize("backbone", WEIGHT_PACKAGES)
def test_the_imagenet_weights_recognise_what_a_random_network_does_not(backbone):
    """Renamed wrongly, the norms would not fit the convolutions and the features would explode or vanish."""
    trained = ConvNet(outputs=1, backbone=backbone).eval()
    images = torch.rand(4, 1, 64, 64).repeat(1, 1, 2, 2)
    trained.load_imagenet()
    with torch.inference_mode():
        features = trained.backbone(images)
    # The last activation is cut at 6; trained features are sparse and well below it.
    assert 0.01 < float(features.mean()) < 2
    assert 0.2 < float((features == 0).float().mean()) < 0.999


def test_the_imagenet_weights_fit_no_other_backbone():
    with pytest.raises(RecipeError, match="tf_efficientnet_lite0"):
        ConvNet(outputs=1, backbone="test_efficientnet").load_imagenet()


def test_the_classifier_of_imagenet_is_left_behind():
    names = rename_efficientnet({"_conv_stem.weight": torch.zeros(1), "_fc.weight": torch.zeros(1)}, ())
    assert list(names) == ["conv_stem.weight"]


def test_another_package_adds_a_family_by_an_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ournet.py").write_text(
        "from models.architectures.convnet import ConvNet\n\n\n"
        "def build(*, outputs, channels, arguments):\n"
        "    return ConvNet(outputs=outputs, channels=channels, backbone='test_efficientnet', **arguments)\n"
    )
    offered = tmp_path / "ournet-1.0.dist-info"
    offered.mkdir()
    (offered / "METADATA").write_text("Metadata-Version: 2.1\nName: ournet\nVersion: 1.0\n")
    (offered / "entry_points.txt").write_text(
        "[dicom_node.architectures]\nournet = ournet:build\nbroken = ournet:nothing\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    manifest = replace(MANIFEST, name="ours", architecture="ournet", arguments={"dropout": 0.1})
    network = build_network("ournet", outputs=len(KEYS), channels=3, arguments={"dropout": 0.1}).eval()
    path = write_bundle(tmp_path / "ours-0.0.1", manifest, KEYS, network, CALIBRATION).path
    film = np.random.default_rng(1).random((96, 96)).astype(np.float32)
    (prediction,) = Predictor.load(path).predict([Study((Film("film", film),))])
    assert [entry.key for entry in prediction.findings] == list(KEYS)
    with pytest.raises(BundleError, match="architecture broken of ournet:nothing: module 'ournet' has no"):
        build_network("broken", outputs=1, channels=3, arguments={})
    with pytest.raises(BundleError, match="there are: biomedclip, broken, concatenation"):
        build_network("nonesuch", outputs=1, channels=3, arguments={})
