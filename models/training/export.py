"""Export of a trained network as a bundle: drop auxiliary outputs, calibrate on ``val``, measure on ``test``.

The check of heat maps is fitted to ``val`` too.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from models.architectures.interface import Network
from models.bundles.bundle import Bundle, amend_bundle, write_bundle
from models.bundles.description import Manifest
from models.bundles.manifest import CARD, METRICS
from models.bundles.onnx_graph import can_export, write_graph
from models.bundles.predictor import Predictor
from models.bundles.study_predictions import predict_studies
from models.data.dataset import FilmDataset, targets
from models.evaluation.card import write_card
from models.evaluation.evaluate import evaluate
from models.evaluation.explanations import fit_bundle_map_check
from models.labels.calibration import calibrate, uncalibrated
from models.labels.vocabulary import load_vocabulary
from models.training.fit import Trained
from models.training.recipe import ExtraBundle, Recipe

#: Splits in ``metrics.json``: the one that thresholds were chosen on, and the one kept for measuring only.
MEASURED = ("val", "test")


def export_bundle(
    recipe: Recipe,
    trained: Trained,
    dataset: FilmDataset,
    *,
    path: Path,
    also: ExtraBundle | None = None,
    calibration_set: FilmDataset | None = None,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Bundle:
    """Write a bundle of a finished training, with metrics and model card.

    Calibration and figures come from the bundle as it is on disk, rounded weights included.

    Parameters
    ----------
    dataset
        Data set for the metrics, and for the calibration where it has a ``val``.
    path
        Folder of the bundle; an existing one is replaced.
    also
        One of the recipe's bundles; the first when absent.
    calibration_set
        Data set whose ``val`` is used when `dataset` has none; it must cover the same labels.

    Raises
    ------
    ModelError
        If the bundle would not load, or a film cannot be read.
    """
    chosen = also or recipe.bundles[0]
    keys = load_vocabulary().keys(chosen.list)
    network = narrowed(trained.network, trained.outputs.places(keys))
    tokenizer = trained.tokenizer
    manifest = Manifest(
        name=chosen.name,
        version=recipe.version,
        summary=chosen.summary,
        architecture=recipe.architecture.name,
        arguments=recipe.architecture.arguments,
        text="optional" if network.reads_text else "none",
        preprocessing=recipe.preprocessing.build(),
        embedding=network.embedding_width,
        explanation="gradcam",
        tokens=tokenizer.layout if tokenizer else None,
    )
    definition = tokenizer.definition if tokenizer else None
    draft = Predictor(
        write_bundle(path, manifest, keys, network, uncalibrated(keys, dataset.name), tokenizer=definition)
    )
    asked = dataset if dataset.studies.get("val") else calibration_set or dataset
    val = asked.split("val")
    predictions = predict_studies(draft, val, progress)
    scores = np.array([[finding.score for finding in prediction.findings] for prediction in predictions])
    known = np.array([[study.knows(key) for key in keys] for study in val], bool)
    calibration = calibrate(keys, targets(val, keys), scores, dataset=asked.name, split="val", known=known)
    predictor = Predictor(write_bundle(path, manifest, keys, network, calibration, tokenizer=definition))
    predictor.bundle = fit_bundle_map_check(predictor, asked, progress=progress)
    if can_export(predictor.bundle.manifest, network):
        predictor.bundle = write_graph(predictor.bundle)
    return measure(predictor, dataset, recipe, progress=progress)


def measure(
    predictor: Predictor,
    dataset: FilmDataset,
    recipe: Recipe | None = None,
    *,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Bundle:
    """Write ``metrics.json`` and the model card of a bundle that is already calibrated.

    A bundle that reads text is calibrated and measured without, as a node serves it; what its text adds is
    measured on ``test`` beside it.
    """
    there = [split for split in MEASURED if dataset.studies.get(split)]
    metrics: dict[str, Any] = {
        split: evaluate(predictor, dataset, split=split, progress=progress) for split in there
    }
    if recipe is not None and predictor.text != "none":
        metrics[f"test {recipe.text}"] = evaluate(
            predictor, dataset, split="test", text=recipe.text, progress=progress
        )
    if recipe is not None and predictor.identity.name != recipe.name:
        metrics["recipe"] = recipe.name
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


def narrowed(network: Network, outputs: list[int]) -> Network:
    """Copy of a network with selected outputs of the head, in that order."""
    copied = copy.deepcopy(network)
    wide = network.head
    copied.head = nn.Linear(wide.in_features, len(outputs))
    with torch.no_grad():
        copied.head.weight.copy_(wide.weight[outputs])
        copied.head.bias.copy_(wide.bias[outputs])
    return copied
