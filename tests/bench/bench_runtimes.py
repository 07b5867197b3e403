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

FILMS, FINDINGS, ROUNDS = 16, 3, 5


def test_reading_a_film() -> None:
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

    ways = {"plain eager torch": plain, **{name: read(each) for name, each in predictors.items()}}
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    # One after another in each round, so that other work on the machine slows all of them alike.
    for _ in range(ROUNDS):
        for name, run in ways.items():
            before = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - before)
    plainly = float(np.median(seconds["plain eager torch"]))
    print(f"\nreading a film with {FINDINGS} heat maps, {bundle.manifest.folder}, {threads} threads:")
    for name, taken in seconds.items():
        median = float(np.median(taken))
        print(
            f"  {name:18} {1e3 * median / FILMS:6.1f} ms a film, {plainly / median:.2f} times the plain loop"
        )
