"""The gate: what it lets through, what it turns away, and that it is the gate that it says it is."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from pydicom.data import get_testdata_file

from dicom_node.imaging.pixels import read_film as read_dicom
from dicom_node.results.codes import REFUSALS
from models.data import openi
from models.data.readers import read_dataset
from models.errors import BundleError, DatasetError
from models.gate.augmentation import invert, turn, vary
from models.gate.card import write_gate_card
from models.gate.evaluate import measure_gate, share
from models.gate.fit import fit_gate
from models.gate.model import MANIFEST, Gate, GateManifest, RefusalReason, Thresholds, write_gate
from models.gate.negatives import Negatives, read_negatives
from models.gate.network import GateNetwork
from models.gate.synthetic_negatives import FITTED, HELD_OUT, draw
from models.labels.vocabulary import load_vocabulary
from models.processing.transforms import Preprocessing
from models.processing.types import Film, FloatArray
from models.training.recipe import GateRecipe
from models.training.recipe_file import read_any_recipe
from tests.support.openi_folder import write_openi

TINY = GateManifest(
    name="tiny",
    version="0.0.1",
    summary="A gate of some kilobytes",
    fitted_to=("nothing",),
    backbone="test_efficientnet",
    preprocessing=Preprocessing(grid=64, size=32, channels=3),
    thresholds=Thresholds(chest=0.5, inverted=0.5, rotated=0.5, distance=2.0),
)


@pytest.fixture(scope="module")
def gate() -> Gate:
    """The gate that comes with the package."""
    return Gate.load()


@pytest.fixture
def tiny(tmp_path: Path) -> Gate:
    return write_gate(tmp_path / "tiny-0.0.1", TINY, GateNetwork(backbone=TINY.backbone, channels=3))


def reasons(gate: Gate, pictures: list[FloatArray]) -> list[RefusalReason | None]:
    films = [Film(str(number), np.ascontiguousarray(picture)) for number, picture in enumerate(pictures)]
    return [verdict.reason for verdict in gate.judge(films)]


# --- the shipped gate -------------------------------------------------------------------------------


def test_the_card_is_the_one_that_the_figures_give_and_the_figures_are_of_these_weights(gate: Gate):
    metrics = json.loads((gate.path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["weights_sha256"] == gate.hashes["weights.safetensors"]
    card = write_gate_card(gate, metrics)
    assert (gate.path / "README.md").read_text(encoding="utf-8") == card
    assert "Research use only" in card
    assert not set(metrics["fitted_to"]) & set(metrics["others"])
    assert sum(file.stat().st_size for file in gate.path.iterdir()) < 8_000_000


def test_the_measured_rates_are_what_is_promised(gate: Gate):
    metrics = json.loads((gate.path / "metrics.json").read_text(encoding="utf-8"))
    films = metrics["films"]["openi"]
    assert films["kept"]["share"] >= 0.99
    assert films["view"]["share"] >= 0.99
    assert metrics["others_in_all"]["refused"]["share"] >= 0.95


@pytest.mark.parametrize("family", [*FITTED, *HELD_OUT])
def test_drawn_pictures_are_turned_away(gate: Gate, family: str):
    drawing = {**FITTED, **HELD_OUT}[family]
    found = reasons(gate, draw({family: drawing}, 20, seed=99))
    assert found.count(None) == 0, found


@pytest.mark.parametrize("shade", [0.0, 0.5, 1.0])
def test_an_even_picture_is_blank(gate: Gate, shade: float):
    assert reasons(gate, [np.full((512, 300), shade, np.float32)]) == [RefusalReason.BLANK]


def test_every_objection_has_a_code():
    assert {str(objection) for objection in RefusalReason} <= set(REFUSALS)


def test_many_films_get_the_verdicts_that_each_gets_alone(gate: Gate):
    films = [Film(str(n), picture) for n, picture in enumerate(draw(FITTED, 20, seed=4))]
    together = gate.judge(films)
    assert [verdict.film for verdict in together] == [film.identifier for film in films]
    for film, verdict in zip(films, together, strict=True):
        (alone,) = gate.judge([film])
        assert alone.chest_score == pytest.approx(verdict.chest_score, abs=1e-3)
        assert alone.reason == verdict.reason
    assert gate.judge([]) == []


# --- real films -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def chests(films_root: Path) -> list[tuple[str, FloatArray]]:
    """View and film of 200 test films."""
    studies = read_dataset(openi.NAME, films_root / "openi", load_vocabulary()).split("test")
    listed = [
        (view, path, study.read)
        for study in studies
        for path, view in zip(study.films, study.views, strict=True)
    ]
    return [(view, read(path)) for view, path, read in listed[:: len(listed) // 200][:200]]


@pytest.mark.films
def test_chest_films_pass_with_their_view(gate: Gate, chests: list[tuple[str, FloatArray]]):
    verdicts = gate.judge([Film(str(n), film) for n, (_, film) in enumerate(chests)])
    assert sum(verdict.reason is None for verdict in verdicts) >= 198
    right = sum(verdict.view == view for verdict, (view, _) in zip(verdicts, chests, strict=True))
    assert right >= 198
    assert all(0.5 <= verdict.view_score <= 1 for verdict in verdicts)


@pytest.mark.films
def test_mirrored_and_varied_films_pass(gate: Gate, chests: list[tuple[str, FloatArray]]):
    generator = np.random.default_rng(7)
    assert reasons(gate, [film[:, ::-1] for _, film in chests]).count(None) >= 197
    assert reasons(gate, [vary(film, generator) for _, film in chests]).count(None) >= 192


@pytest.mark.films
def test_inverted_and_turned_films_are_found(gate: Gate, chests: list[tuple[str, FloatArray]]):
    assert reasons(gate, [invert(film) for _, film in chests]).count(RefusalReason.INVERTED) >= 190
    turned = reasons(gate, [turn(film, 1 + n % 3) for n, (_, film) in enumerate(chests)])
    assert turned.count(RefusalReason.ROTATED) >= 180


@pytest.mark.films
def test_the_verdict_does_not_depend_on_the_number_of_pixels(
    gate: Gate, chests: list[tuple[str, FloatArray]]
):
    for _, film in chests[:10]:
        small, large = gate.judge(
            [Film("small", film), Film("large", np.kron(film, np.ones((9, 9), np.float32)))]
        )
        assert large.reason == small.reason
        assert large.distance == pytest.approx(small.distance, rel=0.35)


@pytest.mark.films
def test_the_false_monochrome1_is_found_inverted_and_its_true_twin_passes(gate: Gate, films_root: Path):
    def reason(name: str) -> RefusalReason | None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return reasons(gate, [read_dicom(films_root / "dicom" / name, max_pixels=10**8).pixels])[0]

    names = sorted(path.name for path in (films_root / "dicom").glob("*.dcm"))
    assert {name for name in names if reason(name) is not None} == {"Fake_MONOHR1.dcm"}
    assert reason("Fake_MONOHR1.dcm") is RefusalReason.INVERTED


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "passes"),
    [("RG1_UNCR.dcm", True), ("RG3_UNCR.dcm", False), ("693_UNCR.dcm", False), ("CT_small.dcm", False),
     ("MR_small.dcm", False), ("MR2_UNCR.dcm", False), ("JPEG2000_UNC.dcm", False)],
)  # fmt: skip
def test_a_chest_passes_and_a_leg_a_head_and_other_slices_do_not(gate: Gate, name: str, *, passes: bool):
    path = get_testdata_file(name, download=False)
    assert path is not None
    (reason,) = reasons(gate, [read_dicom(Path(str(path)), max_pixels=10**8).pixels])
    assert (reason is None) == passes, reason


# --- a gate on disk ---------------------------------------------------------------------------------


def test_a_gate_that_is_written_is_the_one_that_is_read(tiny: Gate):
    again = Gate(tiny.path)
    assert again.manifest == TINY
    assert again.identity == tiny.identity
    film = Film("film", draw(FITTED, 1, seed=1)[0])
    assert again.judge([film]) == tiny.judge([film])


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("distance = 2.0", "", "distance"),
        ("distance = 2.0", "distance = 0.0", "distance"),
        ("chest = 0.5", "chest = 1.5", "chest"),
        ("chest = 0.5", "chest = true", "chest"),
        ("fitted_to", "fitted", "fitted_to"),
        ("test_efficientnet", "no_such_network", "no_such_network"),
        ("test_efficientnet", "hf-hub:someone/else", "hf-hub"),
        ("size = 32", "size = 320", "size"),
        ("[thresholds]", "[thresholds]\nother = 0.1", "other"),
        ("summary =", "sumary =", "sumary"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(tiny: Gate, old: str, new: str, sentence: str):
    manifest = tiny.path / MANIFEST
    text = manifest.read_text(encoding="utf-8")
    assert old in text
    manifest.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(BundleError, match=sentence):
        Gate(tiny.path)


def test_an_altered_a_missing_and_a_superfluous_file_are_refused(tiny: Gate, tmp_path: Path):
    extra = shutil.copytree(tiny.path, tmp_path / "extra")
    (extra / "notes.txt").write_text("")
    with pytest.raises(BundleError, match=r"notes\.txt"):
        Gate(extra)
    weights = tiny.path / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BundleError, match="altered"):
        Gate(tiny.path)
    weights.unlink()
    with pytest.raises(BundleError, match="cannot be read"):
        Gate(tiny.path)


def test_a_bundle_of_findings_is_no_gate():
    with pytest.raises(BundleError, match=r"no bundle 'openi-findings'.*gate-"):
        Gate.load("openi-findings")


def test_a_device_that_is_not_there_is_one_sentence(tiny: Gate):
    with pytest.raises(BundleError, match="nowhere"):
        Gate(tiny.path, device="nowhere")


# --- fitting and measuring --------------------------------------------------------------------------

RECIPE = """
kind = "gate"
name = "tiny-gate"
version = "0.0.1"
summary = "Tells drawn films from drawn noise"
dataset = "openi"
kept = 0.9

[negatives]
folder = "../negatives"
held_out = ["elsewhere"]
drawings = 3

[architecture]
backbone = "test_efficientnet"
start = "random"

[preprocessing]
grid = 64
low = 0.5
high = 99.5
size = 32
channels = 3
mean = 0.5
std = 0.5
"""


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Drawn films with views, and other drawn pictures beside them; the folder of the films."""
    from PIL import Image

    root = write_openi(tmp_path / "openi", {"train": 16, "val": 4, "test": 4})
    index = root / "index.csv"
    header, *rows = index.read_text(encoding="utf-8").splitlines()
    views = [f"{row},{'Lateral' if '-1.png' in row else 'Frontal'}" for row in rows]
    index.write_text("\n".join([f"{header},projection", *views]) + "\n", encoding="utf-8")
    for source, seed in (("here", 1), ("elsewhere", 2)):
        folder = tmp_path / "negatives" / source
        folder.mkdir(parents=True)
        for number, picture in enumerate(draw({"noise": FITTED["noise"]}, 6, seed=seed)):
            Image.fromarray((picture * 255).astype(np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "gate.toml").write_text(RECIPE, encoding="utf-8")
    return root


def test_a_gate_is_fitted_to_one_half_and_measured_on_the_other(collection: Path, tmp_path: Path):
    recipe = read_any_recipe(tmp_path / "gate.toml")
    assert isinstance(recipe, GateRecipe)
    films = read_dataset("openi", collection, load_vocabulary())
    fitted, held_out = read_negatives(tmp_path / "negatives").split(recipe.negatives.held_out)
    gate = fit_gate(recipe, (films,), fitted, path=tmp_path / "out" / "tiny-gate-0.0.1")
    assert gate.manifest.fitted_to == ("openi", "here", *FITTED)
    metrics = measure_gate(gate, [films], held_out)
    assert metrics["films"]["openi"]["kept"]["n"] == sum(len(s.films) for s in films.split("test"))
    assert metrics["others"]["elsewhere"]["refused"] == share(6, 6)
    # The same recipe gives the same gate.
    again = fit_gate(recipe, (films,), fitted, path=tmp_path / "again")
    assert again.hashes["weights.safetensors"] == gate.hashes["weights.safetensors"]


def test_the_commands_fit_a_gate_and_measure_it(collection: Path, tmp_path: Path):
    from typer.testing import CliRunner

    from dicom_node.cli.app import app

    out = tmp_path / "tiny-gate-0.0.1"
    words = [
        "train",
        str(tmp_path / "gate.toml"),
        "--data",
        str(collection),
        "--out",
        str(out),
        "--threads",
        "1",
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    gate = Gate(out)
    metrics = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
    assert (out / "README.md").read_text(encoding="utf-8") == write_gate_card(gate, metrics)
    done = CliRunner().invoke(app, ["evaluate", str(out), "--data", str(collection), "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert answer["films"] == metrics["films"]
    assert answer["others"] == metrics["others"]


def test_a_source_that_is_to_be_held_out_must_be_there():
    with pytest.raises(DatasetError, match="called elsewhere; there are: here"):
        Negatives({"here": (Path("a.png"),)}).split(("elsewhere",))


def test_a_folder_without_pictures_is_one_sentence(tmp_path: Path):
    with pytest.raises(DatasetError, match="holds no folder with pictures"):
        read_negatives(tmp_path)
    with pytest.raises(DatasetError, match="No such file"):
        read_negatives(tmp_path / "nowhere")


def test_the_interval_is_wilsons():
    # Of 10 out of 10 the lower end is n / (n + z^2).
    assert share(10, 10)["low"] == pytest.approx(10 / (10 + 1.959964**2))
    assert share(10, 10)["high"] == pytest.approx(1)
    assert share(0, 0)["share"] is None
