"""``explain`` and ``evaluate --explanations``: image files, figures and errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from models.bundles.bundle import Bundle, read_bundle, write_bundle
from tests.support import factories
from tests.support.model_families import write_family
from tests.support.openi_folder import write_openi
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("bundles") / "tiny-0.0.1"
    return write_bundle(folder, MANIFEST, KEYS, make_network(), CALIBRATION)


@pytest.fixture(autouse=True)
def without_gate(monkeypatch):
    """The films are drawn: to the gate they are no chest films."""
    monkeypatch.setenv("DICOM_NODE_WORKER__GATE", "")


def run(*words: object) -> Result:
    from dicom_node.cli.app import app

    return CliRunner().invoke(app, [*map(str, words)])


def refused(capsys, monkeypatch, *words: object) -> tuple[int, str]:
    """Exit code and the one line that says why."""
    from dicom_node.cli import app as root

    monkeypatch.setattr("sys.argv", ["dicom-node", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        root.main()
    (line,) = [line for line in capsys.readouterr().err.strip().splitlines() if line.startswith("error: ")]
    return int(stopped.value.code or 0), line


def films(folder: Path) -> tuple[Path, ...]:
    """The same film as DICOM of both polarities, without an ending too, and as images."""
    chest = np.array(factories.chest(120, 100))
    chest[40:60, 20:40] = 1
    found = []
    for photometric, name in (("MONOCHROME1", "one.dcm"), ("MONOCHROME2", "two")):
        ds = factories.film(pixels=chest, photometric=photometric, window=(2048, 4096))
        found.append(factories.write(ds, folder / name))
    grey = Image.fromarray((chest * 255).round().astype(np.uint8))
    for name in ("film.png", "film.jpeg"):
        grey.save(folder / name, **({"quality": 95} if name.endswith("jpeg") else {}))
        found.append(folder / name)
    return tuple(found)


def test_each_kind_of_file_gives_the_same_picture(bundle: Bundle, tmp_path: Path):
    pictures = []
    for film in films(tmp_path):
        done = run("explain", film, "-b", bundle.path, "-f", "nodule", "--out", tmp_path / "out", "--json")
        assert done.exit_code == 0, done.output
        (panel,) = json.loads(done.stdout)["panels"]
        assert (panel["finding"], panel["method"]) == ("nodule", "gradcam")
        with Image.open(panel["file"]) as picture:
            assert "RESEARCH USE ONLY" in picture.info["Comment"]
            pictures.append(np.asarray(picture, np.int16))
    for picture in pictures[1:]:
        assert picture.shape == pictures[0].shape
        assert np.abs(picture - pictures[0]).mean() < 6
    # Film, map, both, bar.
    assert pictures[0].shape[1] > 3 * (512 * 100 // 120)


def test_present_findings_are_drawn_when_none_is_named(bundle: Bundle, tmp_path: Path):
    film = films(tmp_path)[0]
    done = run("explain", film, "-b", bundle.path, "-o", tmp_path / "out", "-m", "occlusion", "--json")
    panels = json.loads(done.stdout)["panels"]
    assert panels
    assert all(panel["presence"] == "present" and panel["method"] == "occlusion" for panel in panels)
    assert {Path(panel["file"]).name for panel in panels} == {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_a_film_without_findings_is_said_to_have_none(tmp_path: Path, monkeypatch):
    from dataclasses import replace

    nothing = {key: replace(one, threshold=1.0) for key, one in CALIBRATION.labels.items()}
    quiet = write_bundle(
        tmp_path / "tiny-0.0.1", MANIFEST, KEYS, make_network(), replace(CALIBRATION, labels=nothing)
    )
    done = run("explain", films(tmp_path)[0], "-b", quiet.path, "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert "no finding is above its threshold" in done.stdout
    assert not (tmp_path / "out").exists()


def test_words_are_weighed_where_a_text_is_read(tmp_path: Path):
    reader = write_family(tmp_path, "concatenation")
    film = films(tmp_path)[2]
    done = run(
        "explain", film, "-b", reader.path, "-f", "nodule", "-o", tmp_path / "out", "--text", "Chronic cough"
    )
    assert done.exit_code == 0, done.output
    assert "nodule: " in done.stdout
    assert "Chronic " in done.stdout
    assert "cough " in done.stdout


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("-f", "mass"), 2, "--finding mass: bundle tiny has normal, cardiomegaly"),
        (("-m", "attention"), 2, "--method attention: bundle tiny has gradcam, ig, occlusion"),
        (("-m", "magic"), 2, "--method magic: bundle tiny has gradcam"),
        (("--text", "cough"), 2, "reads films alone"),
    ],
)
def test_what_the_bundle_has_not_is_wrong_usage(
    bundle: Bundle, tmp_path: Path, capsys, monkeypatch, words: tuple[str, ...], code: int, message: str
):
    film = films(tmp_path)[2]
    found = refused(capsys, monkeypatch, "explain", film, "-b", bundle.path, "-o", tmp_path / "out", *words)
    assert found[0] == code
    assert message in found[1]
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("name", "code"), [("gone.dcm", 2), ("junk.dcm", 1), ("junk.png", 1)])
def test_a_file_that_cannot_be_read_is_named(
    bundle: Bundle, tmp_path: Path, capsys, monkeypatch, name: str, code: int
):
    (tmp_path / "junk.dcm").write_bytes(b"no film")
    (tmp_path / "junk.png").write_bytes(b"no film")
    found = refused(
        capsys, monkeypatch, "explain", tmp_path / name, "-b", bundle.path, "-o", tmp_path / "out"
    )
    assert found[0] == code
    assert name in found[1]


def test_what_the_gate_refuses_is_not_explained(bundle: Bundle, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setenv("DICOM_NODE_WORKER__GATE", "gate")
    film = films(tmp_path)[2]
    code, line = refused(
        capsys, monkeypatch, "explain", film, "-b", bundle.path, "-o", tmp_path / "out", "-f", "nodule"
    )
    assert code == 1
    assert "film film.png is not explained: the " in line


# --- evaluate --explanations -------------------------------------------------------------------


def test_maps_are_measured_and_the_check_is_fitted(tmp_path: Path):
    own = write_bundle(tmp_path / "tiny-0.0.1", MANIFEST, KEYS, make_network(), CALIBRATION)
    root = write_openi(tmp_path / "openi", {"train": 1, "val": 6, "test": 6})
    out = tmp_path / "out"
    words = ("evaluate", own.path, "--data", root, "--explanations", "--method", "gradcam", "--maps", 2)
    done = run(*words, "--fit-check", "--out", out)
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("RESEARCH USE ONLY")
    assert (out / "explanations.md").read_text().strip() in done.stdout
    found = json.loads((out / "explanations.json").read_text())
    assert found["boxes"] is None
    assert found["n_maps"] == 2
    assert read_bundle(own.path).map_check.dataset == "openi"
    again = run(*words, "--json")
    assert json.loads(again.stdout) == found


def test_options_of_maps_go_with_maps(bundle: Bundle, tmp_path: Path, capsys, monkeypatch):
    code, line = refused(capsys, monkeypatch, "evaluate", bundle.path, "--data", tmp_path, "--method", "ig")
    assert (code, "--explanations" in line) == (2, True)
    root = write_openi(tmp_path / "openi", {"train": 1, "test": 4})
    code, line = refused(
        capsys,
        monkeypatch,
        "evaluate",
        bundle.path,
        "--data",
        root,
        "--explanations",
        "--method",
        "attention",
    )
    assert code == 2
    assert "--method attention: bundle tiny has gradcam, ig, occlusion" in line
