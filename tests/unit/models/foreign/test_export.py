"""Bundles leave as an ONNX file or a MONAI bundle, and give the same scores there."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from dicom_node.cli.models import app
from dicom_node.errors import ConfigurationError
from models.bundles.bundle import Bundle, find_bundle, read_bundle, write_bundle
from models.bundles.onnx_graph import write_graph
from models.bundles.predictor import Predictor
from models.errors import ForeignModelError, UsageError
from models.explain.methods import draw_heatmaps
from models.foreign.exported_bundle import read_exported
from models.foreign.monai_export import export_monai
from models.foreign.onnx_export import export_onnx
from models.processing.array_transforms import network_input, standardise
from models.processing.transforms import Preprocessing
from models.processing.types import Film, Study
from tests.support.drawn_studies import draw_film, draw_study
from tests.support.model_families import write_family
from tests.support.peers import cli
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network

AGREEMENT = 1e-4
STUDIES = [draw_study(seed) for seed in range(3)]
SHAPES = ((300, 400), (120, 500), (50, 60))
"""Rows and columns: larger than the network's square, larger on one side, smaller."""


def scores(predictor: Predictor, studies: list[Study] = STUDIES) -> np.ndarray:
    return np.array([[each.score for each in read.findings] for read in predictor.predict(studies)])


def run(*words: object) -> None:
    """Run a command of ``models`` in this process; its errors are raised."""
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception is not None:
        raise done.exception


@pytest.fixture(scope="module")
def torch_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Tiny bundle of torch, without a graph."""
    folder = tmp_path_factory.mktemp("torch") / "tiny-0.0.1"
    return write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION)


@pytest.fixture(scope="module")
def graph_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Tiny bundle with a graph."""
    folder = tmp_path_factory.mktemp("graph") / "tiny-0.0.1"
    return write_graph(write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION))


@pytest.fixture(scope="module")
def exported(graph_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_onnx(graph_bundle, tmp_path_factory.mktemp("exported"))


@pytest.fixture(scope="module")
def monai_bundle(torch_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export_monai(torch_bundle, tmp_path_factory.mktemp("monai"))


def test_onnx_runtime_alone_computes_the_file(graph_bundle: Bundle, exported: Path) -> None:
    assert exported.name == "tiny-0.0.1.onnx"
    assert [file.name for file in exported.parent.iterdir()] == [exported.name]
    onnx.checker.check_model(onnx.load(exported), full_check=True)
    session = onnxruntime.InferenceSession(exported, providers=["CPUExecutionProvider"])
    said = session.get_modelmeta().custom_metadata_map
    preprocessing = Preprocessing.from_table(json.loads(said["preprocessing"]))
    assert preprocessing == MANIFEST.preprocessing
    assert json.loads(said["labels"])["keys"] == list(KEYS)
    thresholds = {key: label["threshold"] for key, label in json.loads(said["calibration"])["labels"].items()}
    assert thresholds == {key: label.threshold for key, label in CALIBRATION.labels.items()}
    assert "Research use only" in said["use"]
    grey = replace(preprocessing, channels=1, mean=0.0, std=1.0)
    films = [film for study in STUDIES for film in study.films]
    images = network_input(grey, [standardise(grey, film.pixels) for film in films])
    assert images.min() >= 0
    assert images.max() < 1.001
    (found,) = session.run(["scores"], {"films": images})
    wanted = scores(Predictor(graph_bundle, runtime="onnx"), [Study((film,)) for film in films])
    assert np.abs(found - wanted).max() < AGREEMENT


def test_a_bundle_without_a_graph_is_exported_too(
    torch_bundle: Bundle, exported: Path, tmp_path: Path
) -> None:
    made = export_onnx(torch_bundle, tmp_path)
    assert not torch_bundle.has_graph  # nothing was written into it
    image = np.full((1, 1, 64, 64), 0.25, np.float32)
    runs = [
        onnxruntime.InferenceSession(path).run(["scores"], {"films": image})[0] for path in (made, exported)
    ]
    assert np.abs(runs[0] - runs[1]).max() < AGREEMENT


def test_an_exported_file_is_imported_again(graph_bundle: Bundle, exported: Path, tmp_path: Path) -> None:
    done = cli("models", "import", str(exported), "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "calibrate" not in done.stdout  # it brought its calibration
    back = read_bundle(tmp_path / "tiny-0.0.1")
    assert [label.key for label in back.labels] == list(KEYS)
    assert back.calibration == graph_bundle.calibration
    assert back.manifest.summary == MANIFEST.summary
    now, then = Predictor(back), Predictor(graph_bundle, runtime="onnx")
    assert np.abs(scores(now) - scores(then)).max() < AGREEMENT
    for one, two in zip(now.predict(STUDIES), then.predict(STUDIES), strict=True):
        assert [each.present for each in one.findings] == [each.present for each in two.findings]
    study = STUDIES[0]
    maps = [draw_heatmaps(each, each.trace([study])[0], ["nodule"]) for each in (now, then)]
    assert np.abs(maps[0][0].grid - maps[1][0].grid).max() < 1e-2
    with pytest.raises(ConfigurationError, match="exists"):
        run("import", exported, "--out", tmp_path)
    run("import", exported, "--out", tmp_path, "--name", "other", "--version", "2.0.0")
    assert (tmp_path / "other-2.0.0").is_dir()
    # What was imported can be exported.
    assert export_onnx(back, tmp_path / "second").is_file()


def test_a_file_without_metadata_has_to_be_named(tmp_path: Path, exported: Path) -> None:
    model = onnx.load(exported)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "plain.onnx")
    with pytest.raises(ConfigurationError, match="say by --name and --labels what it is"):
        run("import", tmp_path / "plain.onnx", "--out", tmp_path)


@pytest.mark.parametrize(
    ("entry", "text"),
    [
        ("labels", "{"),
        ("labels", '{"keys": ["gloom"]}'),
        ("preprocessing", '{"grid": 1}'),
        ("preprocessing", "[]"),
        ("calibration", "{}"),
        ("name", None),
    ],
)
def test_damaged_metadata_are_refused(exported: Path, entry: str, text: str | None) -> None:
    said = {each.key: each.value for each in onnx.load(exported).metadata_props}
    assert read_exported(said, exported) is not None
    damaged = {key: value for key, value in said.items() if key != entry}
    if text is not None:
        damaged[entry] = text
    with pytest.raises(ForeignModelError, match="its metadata are damaged"):
        read_exported(damaged, exported)


def run_monai(bundle: Path, films: Path, out: Path) -> dict[str, list[float]]:
    """Run the inference of a MONAI bundle in a process that knows nothing of this project."""
    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "from monai.bundle import run\n"
        f"run(config_file={str(bundle / 'configs' / 'inference.json')!r}, bundle_root={str(bundle)!r}, "
        f"meta_file={str(bundle / 'configs' / 'metadata.json')!r}, "
        f"dataset_dir={str(films)!r}, output_file={str(out)!r})\n"
        "import sys; assert not {'models', 'dicom_node'} & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=films, env={}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[float]] = json.loads(out.read_text())
    return found


def test_monai_runs_the_bundle_with_the_same_scores(
    torch_bundle: Bundle, monai_bundle: Path, tmp_path: Path
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    studies = {}
    for number, (rows, columns) in enumerate(SHAPES):
        grey = np.rint(255 * draw_film(rows, columns, number)).astype(np.uint8)
        Image.fromarray(grey).save(films / f"{number}.png")
        studies[str(films / f"{number}.png")] = Study((Film("x", grey.astype(np.float32) / np.float32(255)),))
    found: Any = run_monai(monai_bundle, films, tmp_path / "scores.json")
    assert found.keys() == studies.keys()
    assert all(list(row) == list(KEYS) for row in found.values())
    wanted = scores(Predictor(torch_bundle), list(studies.values()))
    assert np.abs(np.array([list(row.values()) for row in found.values()]) - wanted).max() < AGREEMENT
    assert np.ptp(wanted, axis=0).max() > 10 * AGREEMENT  # the films differ


def test_the_weights_of_a_monai_bundle_are_those_of_its_script(
    torch_bundle: Bundle, monai_bundle: Path
) -> None:
    state = torch.load(monai_bundle / "models" / "model.pt", weights_only=True)
    wanted = torch_bundle.network().state_dict()
    assert {name.removeprefix("network.") for name in state} == set(wanted)
    for name, value in state.items():
        assert torch.equal(value, wanted[name.removeprefix("network.")])


def test_a_monai_bundle_says_what_it_is(monai_bundle: Path) -> None:
    said = json.loads((monai_bundle / "configs" / "metadata.json").read_text())
    # Fields of the MONAI Bundle Specification that every bundle has.
    required = {
        "version": str,
        "changelog": dict,
        "monai_version": str,
        "pytorch_version": str,
        "numpy_version": str,
        "required_packages_version": dict,
        "task": str,
        "description": str,
        "authors": str,
        "copyright": str,
        "network_data_format": dict,
    }
    assert {name: type(said.get(name)) for name in required} == required
    tensor = {
        "type",
        "format",
        "num_channels",
        "spatial_shape",
        "dtype",
        "value_range",
        "is_patch_data",
        "channel_def",
    }
    (image,) = said["network_data_format"]["inputs"].values()
    (pred,) = said["network_data_format"]["outputs"].values()
    assert tensor <= set(image)
    assert tensor <= set(pred)
    assert (image["num_channels"], image["spatial_shape"]) == (3, [64, 64])
    assert list(pred["channel_def"].values()) == ["Normal", "Cardiomegaly", "Pleural Effusion", "Nodule"]
    assert said["bundle"]["calibration"]["labels"]["nodule"]["threshold"] == 0.55
    for name in ("docs/README.md", "LICENSE", "configs/metadata.json"):
        assert "Research use only" in (monai_bundle / name).read_text()
    assert not list(monai_bundle.parent.glob(".*"))


def test_families_that_cannot_be_exported_are_refused(tmp_path: Path, exported: Path) -> None:
    texts = write_family(tmp_path, "crossattention")
    with pytest.raises(UsageError, match="reads text beside the films"):
        export_monai(texts, tmp_path / "out")
    with pytest.raises(UsageError, match="runs in torch only"):
        export_onnx(texts, tmp_path / "out")
    run("import", exported, "--out", tmp_path)
    with pytest.raises(UsageError, match="is an ONNX graph, which is no network of torch"):
        export_monai(read_bundle(tmp_path / "tiny-0.0.1"), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(tmp_path: Path, graph_bundle: Bundle) -> None:
    bundle = str(graph_bundle.path)
    for form, made in (("onnx", "tiny-0.0.1.onnx"), ("monai", "tiny-0.0.1")):
        done = cli("models", "export", bundle, "--format", form, "--out", str(tmp_path))
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"wrote {tmp_path / made}\n"
        with pytest.raises(ConfigurationError, match="exists: choose another --out"):
            run("export", bundle, "--format", form, "--out", tmp_path)
    for words, said in (
        (("--format", "onnx"), "--format and --out go together"),
        (("--out", str(tmp_path)), "--format and --out go together"),
        (("--format", "pickle", "--out", str(tmp_path)), "use onnx or monai"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            run("export", bundle, *words)


def test_a_shipped_bundle_is_exported(tmp_path: Path) -> None:
    bundle = read_bundle(find_bundle("openi-normality"))
    assert (
        export_onnx(bundle, tmp_path).stat().st_size
        > bundle.path.joinpath("weights.safetensors").stat().st_size
    )
