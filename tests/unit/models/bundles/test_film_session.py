"""A bundle gives the same answers in ONNX Runtime as in torch, from the same weights."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from models.bundles.bundle import Bundle, find_bundle, read_bundle, write_bundle
from models.bundles.film_session import FilmSession
from models.bundles.manifest import GRAPH, WEIGHTS
from models.bundles.onnx_graph import write_graph
from models.bundles.predictor import Predictor
from models.errors import BundleError, UsageError
from models.explain.methods import draw_heatmaps
from models.processing.types import Film, Prediction, Study
from tests.support.drawn_studies import draw_study
from tests.support.model_families import write_family
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network

SCORES, MAPS, EMBEDDINGS = 1e-4, 1e-3, 1e-4
"""Largest differences between the runtimes."""
SHIPPED = ("openi-findings", "openi-groups", "openi-normality", "nih-findings")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("exported") / "tiny-0.0.1"
    return write_graph(write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION))


def both(bundle: Bundle) -> tuple[Predictor, Predictor]:
    return Predictor(bundle), Predictor(bundle, runtime="onnx", threads=1)


def scores(prediction: Prediction) -> np.ndarray:
    return np.array([finding.film_scores for finding in prediction.findings])


def check_agreement(predictors: tuple[Predictor, Predictor], studies: Sequence[Study], keys: int) -> None:
    """Compare every score and embedding, and the maps of the highest scores."""
    in_torch, in_onnx = (predictor.trace(studies) for predictor in predictors)
    for first, second in zip(in_torch, in_onnx, strict=True):
        np.testing.assert_allclose(scores(second.prediction), scores(first.prediction), atol=SCORES, rtol=0)
        np.testing.assert_allclose(
            second.prediction.embedding, first.prediction.embedding, atol=EMBEDDINGS, rtol=0
        )
        ranked = sorted(first.prediction.findings, key=lambda finding: -finding.score)
        wanted = [finding.key for finding in ranked[:keys]]
        drawn = (
            draw_heatmaps(predictor, traced, wanted)
            for predictor, traced in zip(predictors, (first, second), strict=True)
        )
        for one, other in zip(*drawn, strict=True):
            assert (one.key, one.film, one.method) == (other.key, other.film, other.method)
            np.testing.assert_allclose(other.preview, one.preview, atol=MAPS, rtol=0)


@pytest.mark.parametrize("family", ["convnet", "densenet"])
def test_convolutional_families_agree(tmp_path: Path, exported: Bundle, family: str) -> None:
    bundle = exported if family == "convnet" else write_graph(write_family(tmp_path, family))
    check_agreement(both(bundle), [draw_study(seed) for seed in range(10)], keys=4)


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_bundles_have_graphs_that_agree(name: str) -> None:
    bundle = read_bundle(find_bundle(name))
    assert bundle.has_graph
    check_agreement(both(bundle), [draw_study(seed) for seed in range(3)], keys=3)


def _films(root: Path, most: int) -> Iterator[Film]:
    with (root / "openi" / "index.csv").open(encoding="utf-8") as lines:
        names = [row["file"] for row in csv.DictReader(lines) if row["split"] == "test"][:most]
    for name in names:
        with Image.open(root / "openi" / "images" / name) as picture:
            yield Film(name, np.asarray(picture.convert("L"), np.float32) / 255)


@pytest.mark.films
@pytest.mark.timeout(1200)
def test_five_hundred_films_agree(films_root: Path) -> None:
    predictors = both(read_bundle(find_bundle("openi-findings")))
    films = list(_films(films_root, 500))
    assert len(films) == 500
    for start in range(0, len(films), 16):
        check_agreement(predictors, [Study((film,)) for film in films[start : start + 16]], keys=3)


def test_a_graph_says_nothing_of_where_it_was_made_and_holds_no_weights(exported: Bundle) -> None:
    graph = (exported.path / GRAPH).read_bytes()
    assert str(Path(__file__).parents[4]).encode() not in graph
    assert b"site-packages" not in graph
    assert len(graph) < (exported.path / WEIGHTS).stat().st_size
    assert WEIGHTS.encode() in graph


def test_the_same_weights_give_the_same_graph(tmp_path: Path, exported: Bundle) -> None:
    again = write_bundle(tmp_path / "tiny-0.0.1", MANIFEST, KEYS, make_network(), CALIBRATION)
    assert write_graph(again).hashes[GRAPH] == exported.hashes[GRAPH]


def test_the_graph_can_be_opened_by_its_path_alone(exported: Bundle) -> None:
    import onnx
    import onnxruntime

    path = str(exported.path / GRAPH)
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    images = np.zeros((2, 3, 64, 64), np.float32)
    found, *_ = session.run(["scores"], {"images": images})
    assert found.shape == (2, len(KEYS))


def test_a_graph_of_other_weights_is_refused(tmp_path: Path, exported: Bundle) -> None:
    network = make_network()
    network.head.weight.data.mul_(2)
    other = write_bundle(tmp_path / "tiny-0.0.2", MANIFEST, KEYS, network, CALIBRATION)
    from models.bundles.bundle import amend_bundle

    changed = amend_bundle(other, {GRAPH: (exported.path / GRAPH).read_bytes()})
    with pytest.raises(BundleError, match="exported from other weights"):
        Predictor(changed, runtime="onnx")


@pytest.mark.parametrize("name", [GRAPH, WEIGHTS])
def test_a_file_that_was_altered_after_it_was_verified_is_refused(
    tmp_path: Path, exported: Bundle, name: str
) -> None:
    folder = tmp_path / "tiny-0.0.1"
    shutil.copytree(exported.path, folder)
    whole = read_bundle(folder)
    raw = bytearray((folder / name).read_bytes())
    raw[-1] ^= 1
    (folder / name).write_bytes(raw)
    with pytest.raises(BundleError, match="altered after"):
        FilmSession(whole)
    with pytest.raises(BundleError, match=f"{name} was altered"):
        read_bundle(folder)


def test_a_graph_that_is_none_is_refused(tmp_path: Path, exported: Bundle) -> None:
    from models.bundles.bundle import amend_bundle

    folder = tmp_path / "tiny-0.0.1"
    shutil.copytree(exported.path, folder)
    with pytest.raises(BundleError, match="ONNX Runtime cannot load it"):
        FilmSession(amend_bundle(read_bundle(folder), {GRAPH: b"no graph"}))


def test_a_bundle_without_a_graph_says_how_to_write_it(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"has no ONNX graph.*dicom-node models export"):
        Predictor(bundle, runtime="onnx")
    assert Predictor.load(bundle.path, runtime="auto").runtime == "torch"


def test_a_graphics_card_is_not_for_this_runtime(exported: Bundle) -> None:
    with pytest.raises(BundleError, match="'cuda:0' in ONNX Runtime"):
        FilmSession(exported, device="cuda:0")


def test_a_family_that_needs_more_than_an_average_is_not_exported(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="of the family concatenation, which runs in torch only"):
        write_graph(write_family(tmp_path, "concatenation"))


def test_what_needs_torch_says_so(exported: Bundle) -> None:
    light = Predictor.load(exported.path, runtime="onnx")
    (traced,) = light.trace([draw_study()])
    for what in (lambda: light.network, lambda: light.batch(draw_study(), [0])):
        with pytest.raises(UsageError, match=r'set worker.runtime to "torch"'):
            what()
    with pytest.raises(UsageError, match=r"method ig: it needs torch"):
        draw_heatmaps(light, traced, ["nodule"], method="ig")
    with pytest.raises(UsageError, match=r"method magic: bundle tiny has gradcam"):
        draw_heatmaps(light, traced, ["nodule"], method="magic")
