"""Images per second of each model family at its published size, in training and in inference.

The baseline is the plain loop in the same process: the same network in eager float32 as torch builds it,
without channels last, one film at a time for inference, one batch at a time for training.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows

from models.architectures.interface import Batch, Network
from models.architectures.registry import build_network
from models.bundles.bundle import Manifest, write_bundle
from models.bundles.predictor import Predictor
from models.labels.vocabulary import load_vocabulary
from models.processing.transforms import Preprocessing
from models.processing.types import Film, Study
from models.text.text_format import TextFormat
from models.training.export import uncalibrated
from tests.support.model_families import make_tokenizer
from tests.support.tiny_bundle import MANIFEST

FAMILIES = {
    "convnet": {"backbone": "tf_efficientnet_lite0"},
    "biomedclip": {},
    "densenet": {},
    "crossattention": {},
    "concatenation": {},
}
FILMS = 16
TRAINED = 8
RUNS = 3
KEYS = load_vocabulary().keys("findings")


def best(work: Callable[[], object]) -> float:
    """Seconds of the fastest of several runs, after one warm-up run."""
    work()
    seconds = []
    for _ in range(RUNS):
        before = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - before)
    return min(seconds)


def step(network: Network, images: torch.Tensor) -> Callable[[], None]:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    truth = torch.zeros(len(images), len(KEYS))

    def work() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(Batch(images)).logits, truth).backward()
        optimizer.step()

    return work


@pytest.mark.parametrize("family", FAMILIES)
def test_images_per_second(family: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    preprocessing = Preprocessing(grid=256, size=224, channels=3)
    network = build_network(family, outputs=len(KEYS), channels=3, arguments=FAMILIES[family]).eval()
    random = np.random.default_rng(0)
    films = [random.random((256, 256), dtype=np.float32) for _ in range(FILMS)]
    manifest = manifest_of(family, network, preprocessing)
    bundle = write_bundle(
        tmp_path / manifest.folder,
        manifest,
        KEYS,
        network,
        uncalibrated(KEYS, "none"),
        tokenizer=make_tokenizer() if manifest.tokens else None,
    )
    predictor = Predictor(bundle)
    studies = [Study((Film(str(number), film),)) for number, film in enumerate(films)]

    def plain() -> None:
        for film in films:
            images = preprocessing([film]).contiguous()
            with torch.no_grad():
                network(Batch(images)).logits.sigmoid()

    ours, theirs = FILMS / best(lambda: predictor.predict(studies)), FILMS / best(plain)
    images = preprocessing(films[:TRAINED])
    quick = build_network(family, outputs=len(KEYS), channels=3, arguments=FAMILIES[family]).train()
    trained = TRAINED / best(step(quick.to(memory_format=torch.channels_last), images))
    slow = TRAINED / best(step(network.train(), images.contiguous()))
    print(
        f"\n{family:16}read {ours:7.1f}/s, plain {theirs:7.1f}/s, ratio {ours / theirs:5.2f};"
        f"  train {trained:6.1f}/s, plain {slow:6.1f}/s, ratio {trained / slow:5.2f}"
    )


def manifest_of(family: str, network: Network, preprocessing: Preprocessing) -> Manifest:
    return replace(
        MANIFEST,
        name=family,
        architecture=family,
        arguments=FAMILIES[family],
        preprocessing=preprocessing,
        embedding=network.embedding_width,
        explanation="gradcam",
        text="optional" if network.reads_text else "none",
        tokens=TextFormat(12, 0) if network.reads_text else None,
    )
