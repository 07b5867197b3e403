"""From a trained network to a bundle: drop auxiliary outputs, calibrate on ``val``, measure on ``test``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn

from models.architectures import Network
from models.bundle import CARD, METRICS, Bundle, Manifest, amend_bundle, write_bundle
from models.calibration import Calibration, LabelCalibration, calibrate
from models.evaluation.card import write_card
from models.evaluation.evaluate import evaluate, predict_all
from models.predictor import Predictor
from models.training.dataset import FilmDataset, targets
from models.training.fit import Trained
from models.training.recipe import Recipe

#: Splits in ``metrics.json``: the one that thresholds were chosen on, and the one that no choice has seen.
MEASURED = ("val", "test")


def release(
    recipe: Recipe,
    trained: Trained,
    dataset: FilmDataset,
    *,
    path: Path,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Bundle:
    """Write the bundle of a finished training, with metrics and model card.

    Calibration and figures come from the bundle as it is on disk, rounded weights included.

    Parameters
    ----------
    path
        Folder of the bundle; one that is there is replaced.

    Raises
    ------
    ModelError
        If the bundle would not load, or a film cannot be read.
    """
    keys, network = trained.outputs.keys, trained.network
    shorten(network, len(keys))
    tokenizer = trained.tokenizer
    manifest = Manifest(
        name=recipe.name,
        version=recipe.version,
        summary=recipe.summary,
        architecture=recipe.architecture.name,
        arguments=recipe.architecture.arguments,
        text="optional" if network.reads_text else "none",
        preprocessing=recipe.preprocessing.build(),
        embedding=network.embedding_width,
        explanation="gradcam" if network.closed_form else "none",
        tokens=tokenizer.layout if tokenizer else None,
    )
    definition = tokenizer.definition if tokenizer else None
    draft = Predictor(
        write_bundle(path, manifest, keys, network, uncalibrated(keys, dataset.name), tokenizer=definition)
    )
    val = dataset.split("val")
    predictions = predict_all(draft, val, progress)
    scores = np.array([[finding.score for finding in prediction.findings] for prediction in predictions])
    calibration = calibrate(keys, targets(val, keys), scores, dataset=dataset.name, split="val")
    predictor = Predictor(write_bundle(path, manifest, keys, network, calibration, tokenizer=definition))
    return measure(predictor, dataset, progress=progress)


def measure(
    predictor: Predictor,
    dataset: FilmDataset,
    *,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Bundle:
    """Write ``metrics.json`` and the model card of a bundle that is already calibrated."""
    metrics = {split: evaluate(predictor, dataset, split=split, progress=progress) for split in MEASURED}
    metrics["dataset"] = {
        "name": dataset.name,
        "title": dataset.title,
        "terms": dataset.terms,
        "n_studies": {split: len(studies) for split, studies in dataset.studies.items()},
        "n_films": {
            split: sum(len(study.films) for study in studies) for split, studies in dataset.studies.items()
        },
    }
    card = write_card(predictor.bundle, metrics)
    return amend_bundle(predictor.bundle, {METRICS: json.dumps(metrics, indent=2) + "\n", CARD: card})


def shorten(network: Network, outputs: int) -> None:
    """Keep the first outputs of the head."""
    long = network.head
    network.head = nn.Linear(long.in_features, outputs)
    with torch.no_grad():
        network.head.weight.copy_(long.weight[:outputs])
        network.head.bias.copy_(long.bias[:outputs])


def uncalibrated(keys: tuple[str, ...], dataset: str) -> Calibration:
    """No probabilities, and a threshold in the middle: what a bundle has before its calibration."""
    middle = LabelCalibration("none", 1.0, 0.0, 0.5, 0)
    return Calibration(dataset, "val", 0, dict.fromkeys(keys, middle))
