"""Cost of MONAI: its import, and the time to prepare and to augment a film.

``python -m tests.bench.film_preparation`` prints what docs/decisions/0020 quotes; one thread, CPU time.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from models.bundles.bundle import find_bundle, read_bundle
from models.training.film_batches import Augmentation
from models.training.recipe import AugmentationTable

FILMS = 8
REPEATS = 20

_IMPORT = """
import sys, time, worker.study_reader
from pathlib import Path
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
before, start = resident(), time.process_time()
if sys.argv[1] == "whole":
    import monai.transforms
else:
    from models.processing.monai_loading import load_monai
    load_monai()
print(time.process_time() - start, resident() - before)
"""


def milliseconds(run: Callable[[], object]) -> float:
    """Median CPU time of a call, for each of the films."""
    taken = []
    for _ in range(REPEATS):
        start = time.process_time()
        run()
        taken.append(1000 * (time.process_time() - start) / FILMS)
    return float(np.median(taken))


def main() -> None:
    """Print the figures."""
    for name in ("whole", "as loaded here"):
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT, name], check=True, capture_output=True, text=True
        )
        seconds, mebibytes = map(float, done.stdout.split())
        print(f"import of MONAI, {name}: {seconds:.1f} s CPU, {mebibytes:.0f} MiB")
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    films = [rng.random((256, 256), dtype=np.float32) for _ in range(FILMS)]
    preprocessing = read_bundle(find_bundle("openi-findings")).manifest.preprocessing
    preprocessing(films)
    print(f"preparing a film: {milliseconds(lambda: preprocessing(films)):.1f} ms CPU")
    augmentation = Augmentation(AugmentationTable())
    augmentation.seed(0)
    batch = torch.rand(FILMS, 224, 224)
    augmentation(batch)
    print(f"augmenting a film of 224 pixels: {milliseconds(lambda: augmentation(batch)):.1f} ms CPU")


if __name__ == "__main__":
    main()
