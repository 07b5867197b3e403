"""Reading films, heat maps included: the plain eager loop of torch, the worker's torch, ONNX Runtime."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import torch

from dicom_node.config.sections import WorkerSettings
from models.architectures.interface import Batch
from models.bundles.bundle import find_bundle, read_bundle
from models.bundles.predictor import Predictor
from models.explain.methods import draw_heatmaps
from models.processing.types import Film, Study
from tests.support.benchmarks import Record, Target, few

FILMS, FINDINGS, ROUNDS = few(16, 4), 3, few(5, 3)
PLAIN = "plain eager torch"


def test_reading_a_film(record: Record) -> None:
    threads = len(os.sched_getaffinity(0))
    torch.set_num_threads(threads)
    bundle = read_bundle(find_bundle(WorkerSettings().bundle))
    predictors = {name: Predictor(bundle, runtime=name, threads=threads) for name in ("torch", "onnx")}
    network = bundle.network().requires_grad_(requires_grad=False)
    generator = np.random.default_rng(0)
    films = [Film(str(number), generator.random((2048, 1760), np.float32)) for number in range(FILMS)]
    keys = [label.key for label in bundle.labels[:FINDINGS]]

    def plain() -> None:
        for film in films:
            with torch.inference_mode():
                images = bundle.manifest.preprocessing([film.pixels]).contiguous()
                output = network(Batch(images))
                output.logits.sigmoid()
                for row in network.head.weight[:FINDINGS]:
                    (output.features * row[None, :, None, None]).sum(1).relu()

    def read(predictor: Predictor) -> Callable[[], None]:
        def run() -> None:
            for film in films:
                (traced,) = predictor.trace([Study((film,))])
                draw_heatmaps(predictor, traced, keys)

        return run

    ways = {PLAIN: plain, **{name: read(each) for name, each in predictors.items()}}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    # One after another in each round, so that other work on the machine slows all of them alike.
    for _ in range(ROUNDS):
        for name, run in ways.items():
            before = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - before)
    rates = {name: [FILMS / each for each in taken] for name, taken in seconds.items()}
    for name, target in (("torch", None), ("onnx", Target("at least", 3, "ratio"))):
        record(
            f"{bundle.manifest.folder} with {FINDINGS} heat maps, {name}",
            "films/s",
            rates[name],
            peer=PLAIN,
            peer_samples=rates[PLAIN],
            target=target,
        )
