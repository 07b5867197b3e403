"""Networks of other frameworks become bundles with the same scores; what is none is refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import densenet121, resnet18
from typer.testing import CliRunner

from dicom_node.cli.models import app
from dicom_node.errors import NodeError
from models.bundles.bundle import read_bundle
from models.bundles.predictor import Predictor
from models.errors import BundleError
from models.explain.methods import draw_heatmaps
from models.processing.types import Film, Study
from tests.support.drawn_studies import draw_film
from tests.support.peers import cli

AGREEMENT = 1e-4
LABELS = "Cardiomegaly,Pneumothorax,Pacemaker lead"
IMAGENET = (torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225]))
FILMS = [draw_film(64, 64, seed) for seed in range(3)]
"""Films of the networks' size, so that no resizing lies between the two computations."""


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(3)


def run(*words: object) -> str:
    """Output of a command of ``models``, in this process: another would import torch for each of them."""
    done = CliRunner().invoke(app, list(map(str, words)))
    if done.exception is not None:
        raise done.exception
    return done.stdout


def refusal(*words: object) -> tuple[int, str]:
    """Exit code and sentence of a command of ``models`` that refuses."""
    done = CliRunner().invoke(app, list(map(str, words)))
    if isinstance(done.exception, NodeError):
        return done.exception.exit_code, str(done.exception)
    assert isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, " ".join(done.output.split())


def own_scores(network: nn.Module, mean: torch.Tensor, std: torch.Tensor) -> np.ndarray:
    """Scores of the network in its own framework."""
    images = torch.tensor(np.stack(FILMS))[:, None]
    with torch.no_grad():
        return network.eval()((images - mean[:, None, None]) / std[:, None, None]).sigmoid().numpy()


def bundle_scores(predictor: Predictor) -> np.ndarray:
    found = predictor.predict([Study((Film("film", film),)) for film in FILMS])
    return np.array([[finding.score for finding in each.findings] for each in found])


def random_network(network: nn.Module) -> nn.Module:
    """Network whose outputs differ from film to film."""
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.05)
    return network.eval()


def onnx_of(
    path: Path, *, rank: int = 4, opset: int = 17, values: float = 0.5, end: str = "Identity"
) -> Path:
    """ONNX network of few nodes: average over the film, then a linear layer with three outputs."""
    shape = ["n", 3, 64, 64][:rank]
    weights = numpy_helper.from_array(np.full((3, 3), values, np.float32), "w")
    axes = {"axes": [2, 3], "keepdims": 0} if rank == 4 else {"axes": [2], "keepdims": 0}
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["pooled"], **axes),
        helper.make_node("MatMul", ["pooled", "w"], ["raw"]),
        helper.make_node(end, ["raw"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning")
def test_a_resnet_of_torchvision_and_its_onnx_export_give_its_scores(tmp_path: Path) -> None:
    network = random_network(resnet18(num_classes=3))
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in network.state_dict().items()}},
        tmp_path / "w.pt",
    )
    said = run(
        "import",
        tmp_path / "w.pt",
        "--architecture",
        "torchvision:resnet18",
        "--size",
        64,
        "--name",
        "own",
        "--labels",
        LABELS,
        "--out",
        tmp_path,
    )
    assert "pacemaker_lead: PACEMAKER_LEAD 99CXRBUNDLE, new" in said
    assert "heat maps: in closed form" in said
    assert "missing: calibration and thresholds" in said
    torch.onnx.export(network, (torch.zeros(1, 3, 64, 64),), str(tmp_path / "own.onnx"), dynamo=False)
    run("import", tmp_path / "own.onnx", "--name", "graph", "--labels", LABELS, "--out", tmp_path)
    wanted = own_scores(network, *IMAGENET)
    assert np.ptp(wanted, axis=0).max() > 1e-3
    for name in ("own-0.1.0", "graph-0.1.0"):
        predictor = Predictor.load(tmp_path / name)
        np.testing.assert_allclose(bundle_scores(predictor), wanted, atol=AGREEMENT, rtol=0)
        (traced,) = predictor.trace([Study((Film("film", FILMS[0]),))])
        (heat,) = draw_heatmaps(predictor, traced, ["pacemaker_lead"])
        assert heat.preview.shape == (64, 64)
    with pytest.raises(BundleError, match="runs in ONNX Runtime alone"):
        Predictor.load(tmp_path / "own-0.1.0", runtime="torch")


def test_a_network_of_timm_gives_its_scores(tmp_path: Path) -> None:
    network = random_network(timm.create_model("test_efficientnet", num_classes=3, in_chans=1))
    save_file(network.state_dict(), tmp_path / "w.safetensors")
    run(
        "import",
        tmp_path / "w.safetensors",
        "--architecture",
        "timm:test_efficientnet",
        "--size",
        64,
        "--name",
        "own",
        "--labels",
        LABELS,
        "--mean",
        "0.5",
        "--std",
        "0.25",
        "--out",
        tmp_path,
    )
    wanted = own_scores(network, torch.tensor([0.5]), torch.tensor([0.25]))
    np.testing.assert_allclose(
        bundle_scores(Predictor.load(tmp_path / "own-0.1.0")), wanted, atol=AGREEMENT, rtol=0
    )


def test_a_checkpoint_of_torchxrayvision_gives_its_scores_at_its_operating_points(tmp_path: Path) -> None:
    network = densenet121(num_classes=3)
    network.features.conv0 = nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    network = random_network(network)
    with torch.no_grad():
        network.features.conv0.weight.mul_(1 / 1024)
    points = torch.tensor([0.2, float("nan"), 0.7])
    torch.save({**network.state_dict(), "op_threshs": points}, tmp_path / "w.pth")
    run(
        "import",
        tmp_path / "w.pth",
        "--architecture",
        "torchxrayvision:densenet121",
        "--size",
        64,
        "--name",
        "own",
        "--labels",
        "Effusion,-,Mass",
        "--out",
        tmp_path,
    )
    raw = own_scores(network, torch.tensor([0.5]), torch.tensor([1 / 2048]))
    at = points.numpy()
    wanted = np.where(raw < at, raw / (2 * at), 1 - (1 - raw) / (2 * (1 - at)))[:, [0, 2]]
    bundle = read_bundle(tmp_path / "own-0.1.0")
    assert [label.key for label in bundle.labels] == ["effusion", "mass"]
    np.testing.assert_allclose(bundle_scores(Predictor(bundle)), wanted, atol=AGREEMENT, rtol=0)


def test_a_fixed_batch_and_probabilities_are_served(tmp_path: Path) -> None:
    path = onnx_of(tmp_path / "net.onnx", end="Sigmoid")
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
    onnx.save(model, path)
    said = run(
        "import",
        path,
        "--name",
        "own",
        "--labels",
        "mass,nodule,-",
        "--preprocessing",
        "plain",
        "--out",
        tmp_path,
    )
    assert "output: probabilities" in said
    wanted = 1 / (1 + np.exp(-np.array([1.5 * film.mean() for film in FILMS])))
    found = bundle_scores(Predictor.load(tmp_path / "own-0.1.0"))
    np.testing.assert_allclose(found, np.repeat(wanted[:, None], 2, axis=1), atol=AGREEMENT, rtol=0)


@pytest.mark.parametrize("fit", ["pad", "crop"])
def test_a_film_that_is_not_square_is_padded_or_cropped(tmp_path: Path, fit: str) -> None:
    path = onnx_of(tmp_path / "net.onnx")
    run(
        "import",
        path,
        "--name",
        "own",
        "--labels",
        "mass,nodule,edema",
        "--preprocessing",
        "plain",
        "--fit",
        fit,
        "--out",
        tmp_path,
    )
    film = np.zeros((128, 64), np.float32)
    film[32:96] = 1
    (found,) = Predictor.load(tmp_path / "own-0.1.0").predict([Study((Film("film", film),))])
    level = 1.0 if fit == "crop" else 0.25
    assert found.findings[0].score == pytest.approx(1 / (1 + np.exp(-1.5 * level)), abs=1e-5)


def test_calibration_on_a_table_of_films_writes_the_next_version(tmp_path: Path) -> None:
    run("import", onnx_of(tmp_path / "net.onnx"), "--name", "own", "--labels", LABELS, "--out", tmp_path)
    random = np.random.default_rng(5)
    with (tmp_path / "films.csv").open("w", newline="") as lines:
        table = csv.writer(lines)
        table.writerow(["path", "Cardiomegaly", "pacemaker_lead", "age"])
        for number in range(24):
            level = 80 + 60 * (number % 2) + random.integers(40)
            Image.fromarray(np.full((64, 64), level, np.uint8)).save(tmp_path / f"{number}.png")
            table.writerow([f"{number}.png", number % 2, "" if number else 1, 50])
    said = run("calibrate", tmp_path / "own-0.1.0", "--csv", tmp_path / "films.csv", "--out", tmp_path)
    assert "not calibrated, for fewer than 5 films with or without it: pneumothorax, pacemaker_lead" in said
    labels = read_bundle(tmp_path / "own-0.1.1").calibration.labels
    assert (labels["cardiomegaly"].method, labels["cardiomegaly"].n_positive) == ("platt", 12)
    assert labels["pneumothorax"].threshold == 0.5
    shown = json.loads(run("show", tmp_path / "own-0.1.1", "--json"))
    assert shown["calibrated_on"] == "24 studies of films.csv val"
    (tmp_path / "films.csv").write_text("path,Cardiomegaly\n0.png,maybe\n")
    code, said = refusal(
        "calibrate", tmp_path / "own-0.1.0", "--csv", tmp_path / "films.csv", "--out", tmp_path / "b"
    )
    assert (code, "line 2: Cardiomegaly is 'maybe'; write 1, 0 or nothing" in said) == (1, True)


LABELS_FILE = """
keys = ["Cardiomegaly", "-", "pacemaker_lead"]

[labels.pacemaker_lead]
name = "Pacemaker Lead"
code = { value = "LEAD", scheme = "99MYSITE", meaning = "Pacemaker lead" }
site = { value = "816094009", scheme = "SCT", meaning = "Thorax" }
"""


def test_labels_of_a_file_and_the_choices_of_a_person_stand_in_the_bundle(tmp_path: Path) -> None:
    (tmp_path / "labels.toml").write_text(LABELS_FILE)
    words = ["import", onnx_of(tmp_path / "net.onnx"), "--name", "own", "--labels", tmp_path / "labels.toml"]
    words += ["--window", "percentiles", "--heat-map-layer", "none", "--out", tmp_path]
    run(*words, "--output-name", "y")
    bundle = read_bundle(tmp_path / "own-0.1.0")
    assert [label.key for label in bundle.labels] == ["cardiomegaly", "pacemaker_lead"]
    code, site = bundle.labels[1].code, bundle.labels[1].site
    assert (code.value, code.scheme, site and site.value) == ("LEAD", "99MYSITE", "816094009")
    assert (bundle.manifest.preprocessing.window, bundle.manifest.explanation) == ("percentiles", "none")
    dim = [Film("film", film * 0.1 + 0.3) for film in FILMS]
    (bright,), (faint,) = (
        Predictor(bundle).predict([Study((film,))]) for film in (Film("film", FILMS[0]), dim[0])
    )
    assert faint.findings[0].score == pytest.approx(bright.findings[0].score, abs=1e-3)
    for wrong, said in (
        (["--output-name", "z", "--version", "0.2.0"], "'z'"),
        (["--heat-map-layer", "z", "--version", "0.2.0"], "'z'"),
        (["--version", "0.1.0"], "exists: choose another --version or --out"),
    ):
        found, error = refusal(*words, *wrong)
        assert found in (1, 2)
        assert said in error, error


def _external(path: Path) -> Path:
    model = onnx.load(onnx_of(path))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret.bin")
    (path.parent.parent / "secret.bin").write_bytes(bytes(36))
    path.write_bytes(model.SerializeToString())
    return path


def _huge(path: Path) -> Path:
    with path.open("wb") as file:
        file.truncate(3 * 1024**3)
    return path


def _damaged(path: Path) -> Path:
    path.write_bytes(onnx_of(path).read_bytes()[:-90])
    return path


@pytest.mark.parametrize(
    ("make", "labels", "said"),
    [
        (lambda path: onnx_of(path, rank=3), LABELS, "its input has rank 3, not 4"),
        (lambda path: onnx_of(path, opset=999), LABELS, "its opset 999 is not supported"),
        (lambda path: onnx_of(path, values=float("nan")), LABELS, "values that are not finite"),
        (onnx_of, "Mass,Nodule", "gives 3 outputs for a film, and 2 labels are named"),
        (onnx_of, "Mass,mass,Nodule", "two of the labels mean mass"),
        (_external, LABELS, "external data '../secret.bin' lies outside of its folder"),
        (_huge, LABELS, "more than the 2147483647 that are taken"),
        (_damaged, LABELS, "is no ONNX file, or it is damaged"),
    ],
)
def test_a_file_that_is_no_such_network_is_refused_in_a_sentence(
    tmp_path: Path, make, labels: str, said: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    code, error = refusal(
        "import", make(folder / "net.onnx"), "--name", "own", "--labels", labels, "--out", tmp_path
    )
    assert (code, said in error) == (1, True), error
    assert not list(tmp_path.glob("own-*"))


def test_a_refusal_is_one_line_and_no_traceback(tmp_path: Path) -> None:
    path = _damaged(tmp_path / "net.onnx")
    done = cli("models", "import", str(path), "--name", "own", "--labels", LABELS, "--out", str(tmp_path))
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert done.stderr.startswith(f"error: {path} is no ONNX file, or it is damaged")


def test_weights_that_are_more_or_of_another_network_are_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "whole.pt")
    save_file(timm.create_model("test_efficientnet", num_classes=4).state_dict(), tmp_path / "w.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"none")
    known = "timm:test_efficientnet"
    for file, architecture, code, said in (
        ("whole.pt", known, 1, "holds more than weights, and is not opened"),
        ("w.safetensors", known, 1, "gives 4 outputs for a film, and 3 labels are named"),
        ("bad.safetensors", known, 1, "is no safetensors file"),
        ("w.safetensors", "timm:no_such_network", 2, "timm has no backbone 'no_such_network'"),
        ("w.safetensors", "keras:x", 2, "write timm:NAME, torchvision:NAME"),
        ("w.safetensors", "", 2, "say by --architecture"),
    ):
        found = refusal(
            "import",
            tmp_path / file,
            "--architecture",
            architecture,
            "--name",
            "own",
            "--labels",
            LABELS,
            "--out",
            tmp_path,
        )
        assert (found[0], said in found[1]) == (code, True), found
