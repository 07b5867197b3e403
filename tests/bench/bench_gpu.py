"""The default bundle's network on a GPU: eager, bf16 and compiled, by batch, and from film to heat maps.

Without CUDA it says so in one line and measures nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from dicom_node.config.sections import WorkerSettings
from models.architectures.interface import Batch, Network
from models.bundles.bundle import Bundle, find_bundle, read_bundle
from models.bundles.predictor import Predictor
from models.explain.methods import draw_heatmaps
from models.processing.types import Film, Study
from tests.support.benchmarks import Record, few, seconds_of

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="the GPU is not measured: torch finds no CUDA here"
)

DEVICE = "cuda"
BATCHES = (1, 2, 4, 8, 16, 32, 64)
RUNS = few(50, 5)
FILMS, FINDINGS = few(64, 8), 3


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return read_bundle(find_bundle(WorkerSettings().bundle))


@pytest.fixture(scope="module")
def network(bundle: Bundle) -> Network:
    return bundle.network().requires_grad_(requires_grad=False).to(DEVICE).eval()


@pytest.fixture(scope="module")
def compiled(network: Network) -> Callable[[Batch], Any]:
    return torch.compile(network, dynamic=False)


@pytest.mark.parametrize("batch", BATCHES)
def test_the_network_by_batch(
    batch: int, bundle: Bundle, network: Network, compiled: Callable[[Batch], Any], record: Record
) -> None:
    preprocessing = bundle.manifest.preprocessing
    shape = (batch, preprocessing.channels, preprocessing.size, preprocessing.size)
    images = torch.rand(shape, device=DEVICE).to(memory_format=torch.channels_last)
    plain = images.contiguous()

    def per_second(which: Callable[[Batch], Any], images: torch.Tensor, *, half: bool = False) -> list[float]:
        def work() -> None:
            with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16, enabled=half):
                which(Batch(images)).logits.sigmoid().cpu()

        return [batch / each for each in seconds_of(work, RUNS, warm_up=3)]

    eager = per_second(network, plain)
    ways = {
        "bf16": per_second(network, images, half=True),
        "compiled": per_second(compiled, images),
        "compiled, bf16": per_second(compiled, images, half=True),
    }
    for way, ours in ways.items():
        name = f"network, {way}, batch of {batch}"
        record(name, "films/s", ours, peer="eager, float32", peer_samples=eager)


def test_from_film_to_heat_maps(bundle: Bundle, record: Record) -> None:
    random = np.random.default_rng(0)
    studies = [
        Study((Film(str(number), random.random((2048, 1760), np.float32)),)) for number in range(FILMS)
    ]
    keys = [label.key for label in bundle.labels[:FINDINGS]]

    def read(predictor: Predictor) -> Callable[[], None]:
        def run() -> None:
            for traced in predictor.trace(studies):
                draw_heatmaps(predictor, traced, keys)

        return run

    rates = {
        device: [FILMS / each for each in seconds_of(read(Predictor(bundle, device=device)), few(5, 1))]
        for device in (DEVICE, "cpu")
    }
    record(
        f"from film to scores and {FINDINGS} heat maps",
        "films/s",
        rates[DEVICE],
        peer="torch on the processor",
        peer_samples=rates["cpu"],
    )
