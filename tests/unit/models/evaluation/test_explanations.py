"""Figures of heat maps: boxes, agreement, deletion and insertion, randomised weights."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.bundles.bundle import write_bundle
from models.bundles.predictor import Predictor
from models.data.boxes import Box
from models.data.readers import read_dataset
from models.evaluation import card, faithfulness
from models.evaluation.explanations import explanations_markdown, fit_bundle_map_check, measure_explanations
from models.evaluation.localization import (
    box_mask,
    boxed_findings,
    compare_with_mask,
    highest_pixels,
    measure_localization,
)
from models.explain.methods import draw_heatmaps
from models.labels.vocabulary import load_vocabulary
from tests.support.drawn_studies import draw_study
from tests.support.factories import chest
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network

VOCABULARY = load_vocabulary()


@pytest.fixture(scope="module")
def nih(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight films, one with two boxes of one finding, one with a box of a finding that the bundle has not."""
    root = tmp_path_factory.mktemp("nih")
    (root / "images").mkdir()
    boxes = [
        ("1.png", "Cardiomegaly", 40, 40, 30, 20),
        ("1.png", "Cardiomegaly", 10, 10, 5, 5),
        ("2.png", "Nodule", 20, 60, 8, 8),
        ("3.png", "Mass", 20, 60, 8, 8),
    ]
    with (root / "index.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "patient", "split", "labels", "view", "source_width", "source_height"))
        for number in range(8):
            film = chest(100, 100, seed=number)
            Image.fromarray((film * 255).astype(np.uint8)).save(root / "images" / f"{number}.png")
            label = {1: "Cardiomegaly", 2: "Nodule", 3: "Mass"}.get(number, "No Finding")
            split = "train" if number == 1 else "val" if number == 7 else "test"
            rows.writerow((f"{number}.png", number, split, label, "PA", 100, 100))
    with (root / "bbox.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("file", "label", "x", "y", "w", "h"))
        rows.writerows(boxes)
    return root


@pytest.fixture
def own(tmp_path: Path) -> Predictor:
    """A bundle that may be amended."""
    return Predictor(write_bundle(tmp_path / "tiny-0.0.1", MANIFEST, KEYS, make_network(), CALIBRATION))


def test_a_mask_holds_the_boxes_pixels_and_at_least_one():
    mask = box_mask([Box("nodule", 0.1, 0.2, 0.3, 0.4)], (50, 20))
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max() + 1, columns.min(), columns.max() + 1) == (10, 30, 2, 8)
    assert box_mask([Box("nodule", 0.501, 0.501, 1e-6, 1e-6)], (10, 10)).sum() == 1


def test_a_map_points_overlaps_and_holds_its_energy_as_counted_by_hand():
    values = np.zeros((10, 10), np.float32)
    values[2:4, 2:4] = 1
    values[2, 2] = 2
    values[9, 9] = 3
    mask = np.zeros((10, 10), bool)
    mask[2:4, 2:6] = True
    found = compare_with_mask(values, mask)
    assert found == {"pointing": 0, "iou": pytest.approx(4 / 9), "inside": pytest.approx(5 / 8)}
    assert compare_with_mask(values * (np.arange(100).reshape(10, 10) < 99), mask)["pointing"] == 1
    assert compare_with_mask(np.zeros((10, 10), np.float32), np.ones((10, 10), bool)) == {
        "pointing": 0, "iou": 0, "inside": 0
    }  # fmt: skip


def test_the_highest_pixels_are_so_many_and_never_zeros():
    values = np.array([[0, 3, 1], [1, 0, 2]], np.float32)
    assert highest_pixels(values, 2).tolist() == [[False, True, False], [False, False, True]]
    assert highest_pixels(values, 3).sum() == 3
    assert highest_pixels(values, 6).sum() == 4


def test_findings_with_boxes_are_measured_by_split_beside_what_needs_no_model(
    predictor: Predictor, nih: Path
):
    dataset = read_dataset("nih", nih, VOCABULARY)
    found = measure_localization(predictor, boxed_findings(dataset, nih), ["gradcam", "occlusion"])
    assert (found["n_boxes"], found["n_cases"], found["without_label"]) == (3, 2, 1)
    assert {split: part["n"] for split, part in found["splits"].items()} == {"train": 1, "test": 1, "all": 2}
    methods = found["splits"]["all"]["methods"]
    assert list(methods) == ["gradcam", "occlusion", "centre of the film", "lung mask"]
    # The middle of the film lies in the first box of the first finding, and in none of the second.
    assert methods["centre of the film"]["pointing"]["mean"] == 0.5
    assert methods["centre of the film"]["pointing"]["low"] == 0
    assert 0 < methods["lung mask"]["pointing"]["mean"] < 0.5
    (traced,) = predictor.trace([dataset.split("test")[1].load()])
    assert traced.study.films[0].identifier == "2.png"
    (one,) = draw_heatmaps(predictor, traced, ["nodule"], method="gradcam")
    by_hand = compare_with_mask(one.values, box_mask([Box("nodule", 0.2, 0.6, 0.08, 0.08)], (100, 100)))
    measured = found["splits"]["test"]["methods"]["gradcam"]
    assert {metric: figures["mean"] for metric, figures in measured.items()} == by_hand


def test_maps_agree_with_themselves_and_not_with_their_contrary():
    y, x = np.mgrid[0:1:90j, 0:1:80j]
    one = (x * y).astype(np.float32)
    found = faithfulness.compare_maps({"a": one, "b": one / 2, "c": 1 - one})
    assert found["a / b"] == {"pearson": pytest.approx(1), "iou_5": 1, "iou_20": 1}
    assert found["a / c"] == {"pearson": pytest.approx(-1), "iou_5": 0, "iou_20": 0}
    assert np.isnan(faithfulness.pearson(one, np.zeros_like(one)))


def test_what_decides_goes_first_in_a_good_order(predictor: Predictor):
    """The order that occlusion finds deletes faster and inserts sooner than its reverse."""
    (traced,) = predictor.trace([draw_study(2)])
    (one,) = draw_heatmaps(predictor, traced, ["nodule"], films=[0], method="occlusion")
    good = faithfulness.deletion_insertion(predictor, traced, 3, 0, one.values)
    bad = faithfulness.deletion_insertion(predictor, traced, 3, 0, 1 - one.values)
    assert good["deletion"] < bad["deletion"]
    assert good["insertion"] > bad["insertion"]


def test_the_curves_begin_and_end_with_film_and_blur(predictor: Predictor):
    (traced,) = predictor.trace([draw_study(2)])
    order = faithfulness.random_order(1)
    first, second = (
        faithfulness.deletion_insertion(predictor, traced, 3, 0, some) for some in (order, 1 - order)
    )
    # Deleting in one order is inserting in the reverse one, read backwards.
    assert first["deletion"] == pytest.approx(second["insertion"], abs=1e-4)


def test_randomised_weights_change_the_map_and_leave_the_bundle_alone(predictor: Predictor):
    (traced,) = predictor.trace([draw_study(2)])
    (before,) = draw_heatmaps(predictor, traced, ["nodule"], films=[0])
    total, unchanged = len(list(predictor.network.parameters())), []
    for stage in faithfulness.STAGES:
        spoilt = faithfulness.randomise_weights(predictor, stage)
        pairs = zip(predictor.network.parameters(), spoilt.network.parameters(), strict=True)
        unchanged.append(sum(bool((own == other).all()) for own, other in pairs))
        assert (
            abs(faithfulness.similarity_after_randomising(predictor, spoilt, traced, "nodule", 0, "gradcam"))
            < 0.99
        )
    # A norm that was never trained is the same in any order.
    assert unchanged[0] >= total - 2 > unchanged[1] > unchanged[2]
    (after,) = draw_heatmaps(predictor, traced, ["nodule"], films=[0])
    assert np.array_equal(before.values, after.values)


def test_everything_is_measured_and_said_and_the_check_is_kept(own: Predictor, nih: Path):
    dataset = read_dataset("nih", nih, VOCABULARY)
    own.bundle = fit_bundle_map_check(own, dataset)
    assert own.bundle.map_check.split == "val"
    steps = []
    found = measure_explanations(
        own,
        dataset,
        nih,
        split="test",
        methods=["gradcam", "ig"],
        maps=3,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert found == json.loads(json.dumps(found)), "it can be written"
    assert 0 < found["n_maps"] <= 3
    assert steps[-1] == (2 + found["n_maps"], 2 + found["n_maps"])
    assert set(found["agreement"]) == {"gradcam / ig"}
    assert set(found["faithfulness"]) == {"gradcam", "ig", "random order"}
    assert set(found["lungs"]) == {"gradcam", "ig", "even map"}
    assert set(found["randomised"]) == {"head", "last half", "all"}
    assert found["check"]["n"] == found["n_maps"]
    text = explanations_markdown(found)
    assert text.rstrip("\n") in card.heatmap_section(found)
    for words in (
        "pointing game",
        "deletion (low is good)",
        "on the chest",
        "withheld",
        "`tiny 0.0.1` on nih",
    ):
        assert words in text
