"""Films per second of each model family at its published size, read by batch and runtime, and trained.

The baseline is the plain loop in the same process: the same network in eager float32 as torch builds it,
without channels last, as many films at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows

from models.architectures.interface import Batch, Network
from models.architectures.registry import build_network
from models.bundles.bundle import write_bundle
from models.bundles.description import Manifest
from models.bundles.onnx_graph import can_export, write_graph
from models.bundles.predictor import Predictor
from models.labels.calibration import uncalibrated
from models.labels.vocabulary import load_vocabulary
from models.processing.transforms import Preprocessing
from models.processing.types import Film, Study
from models.text.text_format import TextFormat
from tests.support.benchmarks import QUICK, Record, few, seconds_of
from tests.support.model_families import make_tokenizer
from tests.support.tiny_bundle import MANIFEST

FAMILIES = {
    "convnet": {"backbone": "tf_efficientnet_lite0"},
    "biomedclip": {},
    "densenet": {},
    "crossattention": {},
    "concatenation": {},
}
BATCHES = (1, 8) if QUICK else (1, 8, 32)
TRAINED = 8
RUNS = few(5, 1)
KEYS = load_vocabulary().keys("findings")


def per_second(work: Callable[[], object], films: int) -> list[float]:
    return [films / each for each in seconds_of(work, RUNS)]


def step(network: Network, images: torch.Tensor) -> Callable[[], None]:
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    truth = torch.zeros(len(images), len(KEYS))

    def work() -> None:
        optimizer.zero_grad()
        F.binary_cross_entropy_with_logits(network(Batch(images)).logits, truth).backward()
        optimizer.step()

    return work


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return str(request.param)


PREPROCESSING = Preprocessing(grid=256, size=224, channels=3)


def draw(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [random.random((256, 256), dtype=np.float32) for _ in range(count)]


def test_films_per_second_read(family: str, tmp_path: Path, record: Record) -> None:
    network = build_network(family, outputs=len(KEYS), channels=3, arguments=FAMILIES[family]).eval()
    manifest = manifest_of(family, network, PREPROCESSING)
    bundle = write_bundle(
        tmp_path / manifest.folder,
        manifest,
        KEYS,
        network,
        uncalibrated(KEYS, "none"),
        tokenizer=make_tokenizer() if manifest.tokens else None,
    )
    runtimes = {"torch": Predictor(bundle)}
    if can_export(manifest, network):
        runtimes["onnx"] = Predictor(write_graph(bundle), runtime="onnx")

    def plain(films: Sequence[np.ndarray]) -> None:
        images = torch.cat([PREPROCESSING([film]) for film in films]).contiguous()
        with torch.inference_mode():
            network(Batch(images)).logits.sigmoid()

    for batch in BATCHES:
        films = draw(batch)
        studies = [Study((Film(str(number), film),)) for number, film in enumerate(films)]
        eager = per_second(lambda films=films: plain(films), batch)
        for runtime, predictor in runtimes.items():
            ours = per_second(lambda studies=studies, which=predictor: which.predict(studies), batch)
            record(
                f"{family}, {runtime}, batch of {batch}",
                "films/s",
                ours,
                peer="plain eager torch",
                peer_samples=eager,
            )


def test_films_per_second_trained(family: str, record: Record) -> None:
    images = PREPROCESSING(draw(TRAINED))

    def fresh() -> Network:
        return build_network(family, outputs=len(KEYS), channels=3, arguments=FAMILIES[family]).train()

    ours = per_second(step(fresh().to(memory_format=torch.channels_last), images), TRAINED)
    plain = per_second(step(fresh(), images.contiguous()), TRAINED)
    record(
        f"{family}, training, batch of {TRAINED}",
        "films/s",
        ours,
        peer="plain eager torch",
        peer_samples=plain,
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
