"""Stable names of ``dicom_node``: light to import, typed, documented, and they do what they say."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import (
    Comprehensive3DSRStorage,
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    SecondaryCaptureImageStorage,
)
from pynetdicom import AE, evt

import dicom_node
from dicom_node.errors import ConfigurationError, NodeError, PeerUnavailable
from models.bundles.bundle import write_bundle
from models.retrieval.index import CaseIndex, EmbeddingOrigin, ReferenceCase, write_index
from tests.support import factories
from tests.support.drawn_index import LABELS, REPORTS, unit
from tests.support.peers import ROOT, cli, free_port
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network

DOCUMENT = ROOT / "docs" / "python.md"
HEAVY = {"torch", "pydicom", "sqlalchemy", "numpy", "pandas", "pydantic", "typer", "rich", "models", "worker"}
SECONDS = 0.2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a bundle and one drawn film in three forms."""
    here = tmp_path_factory.mktemp("notebook")
    write_bundle(here / "tiny-0.0.1", MANIFEST, KEYS, make_network(), CALIBRATION)
    chest = factories.chest(90, 80)
    factories.write(factories.film(pixels=chest, window=(2048, 4096), PatientID="PAT-7"), here / "film.dcm")
    Image.fromarray((chest * 255).round().astype(np.uint8)).save(here / "film.png")
    return here


@pytest.fixture(scope="module")
def bundle(folder: Path) -> dicom_node.LoadedBundle:
    return dicom_node.load_bundle(folder / "tiny-0.0.1", gate="", device="cpu")


@contextmanager
def archive() -> Iterator[tuple[str, list[str]]]:
    """Archive that takes every object; its address, and the UIDs of what it took."""
    stored: list[str] = []

    def store(event: evt.Event) -> int:
        stored.append(str(event.request.AffectedSOPInstanceUID))
        return 0

    entity = AE("ARCHIVE")
    for sop_class in (
        Comprehensive3DSRStorage,
        SecondaryCaptureImageStorage,
        ComputedRadiographyImageStorage,
    ):
        entity.add_supported_context(sop_class, [ExplicitVRLittleEndian, JPEGBaseline8Bit])
    port = free_port()
    server = entity.start_server(("127.0.0.1", port), block=False, evt_handlers=[(evt.EVT_C_STORE, store)])
    try:
        yield f"ARCHIVE@127.0.0.1:{port}", stored
    finally:
        server.shutdown()
        entity.shutdown()


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    return done.stdout


def test_to_import_is_light() -> None:
    code = (
        "import sys, time\nbefore = set(sys.modules)\nstart = time.process_time()\nimport dicom_node\n"
        "spent = time.process_time() - start\nnames = {each.partition('.')[0] for each in sys.modules}\n"
        "ours = {each for each in set(sys.modules) - before if each.startswith('dicom_node')}\n"
        "print(spent)\nprint(*sorted(names))\nprint(*sorted(ours))"
    )
    spent, names, ours = run(code).splitlines()
    assert float(spent) < SECONDS
    assert HEAVY.isdisjoint(names.split())
    assert ours.split() == ["dicom_node"]


@pytest.mark.parametrize("name", ["NodeError", "ConfigurationError", "PeerError"])
def test_an_error_is_imported_alone(name: str) -> None:
    names = run(f"import sys, dicom_node\ndicom_node.{name}\nprint(*sys.modules)").split()
    assert HEAVY.isdisjoint(each.partition(".")[0] for each in names)


def test_every_name_is_there_typed_and_documented() -> None:
    stub = ast.parse((ROOT / "dicom_node" / "__init__.pyi").read_text(encoding="utf-8"))
    typed = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in stub.body
        if isinstance(node, ast.ImportFrom) and node.module != "typing"
        for alias in node.names
    }
    assert set(typed) == set(dicom_node.__all__)
    assert set(dicom_node.__all__) <= set(dir(dicom_node))
    for name, home in typed.items():
        module, _, inner = home.rpartition(".")
        assert getattr(importlib.import_module(module), inner) is getattr(dicom_node, name)
        documentation = inspect.getdoc(getattr(dicom_node, name))
        assert documentation
    headings = re.findall(r"^### `(\w+)[(`]", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(headings) == sorted(dicom_node.__all__)


@pytest.mark.parametrize("name", [name for name in dicom_node.__all__ if name[0].islower()])
def test_a_function_is_documented_with_its_parameters(name: str) -> None:
    document = DOCUMENT.read_text(encoding="utf-8")
    heading = re.search(rf"^### `{name}\((.*)\)`$", document, re.MULTILINE)
    assert heading is not None
    function = getattr(dicom_node, name)
    asked = inspect.signature(function).parameters.values()
    said = ast.parse(f"def f({heading[1]}): ...").body[0]
    assert isinstance(said, ast.FunctionDef)
    assert [each.arg for each in (*said.args.args, *said.args.kwonlyargs)] == [each.name for each in asked]
    keywords = [each.name for each in asked if each.kind is each.KEYWORD_ONLY]
    assert [each.arg for each in said.args.kwonlyargs] == keywords
    defaults = [ast.unparse(each) for each in (*said.args.defaults, *said.args.kw_defaults) if each]
    assert defaults == [repr(each.default) for each in asked if each.default is not each.empty]
    numpydoc = inspect.getdoc(function) or ""
    assert all(re.search(rf"^{each.name}$", numpydoc, re.MULTILINE) for each in asked)


def test_the_code_of_the_document_is_python_and_its_names_exist() -> None:
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "dn":
                assert node.attr in dicom_node.__all__


def test_another_name_is_no_attribute() -> None:
    with pytest.raises(AttributeError, match="module 'dicom_node' has no attribute 'nothing'"):
        dicom_node.nothing  # type: ignore[attr-defined]  # noqa: B018


def test_scores_are_those_of_analyze(bundle: dicom_node.LoadedBundle, folder: Path, tmp_path: Path) -> None:
    pandas = importlib.import_module("pandas")
    paths = [folder / "film.dcm", folder / "film.png"]
    scores = dicom_node.score(bundle, paths)
    words = ("--csv", str(tmp_path / "a.csv"), "--bundle", str(bundle.path), "--device", "cpu")
    done = cli("analyze", *map(str, paths), *words, environment={"DICOM_NODE_WORKER__GATE": ""})
    assert done.returncode == 0, done.stderr
    said = pandas.read_csv(tmp_path / "a.csv", dtype=dict(scores.dtypes))
    pandas.testing.assert_frame_equal(scores, said)
    assert list(scores.groupby("film", sort=False)["patient_id"].count()) == [len(KEYS), 0]
    assert set(scores["model"] + " " + scores["model_version"]) == {"tiny 0.0.1"}
    assert list(scores["finding"]) == [*bundle.labels] * 2
    assert (scores["above"] == (scores["certainty"].fillna(scores["score"]) >= scores["threshold"])).all()


def test_an_array_scores_as_its_file(bundle: dicom_node.LoadedBundle, folder: Path) -> None:
    film = dicom_node.read_film(folder / "film.png")
    scores = dicom_node.score(bundle, {"mine": film})
    as_file = dicom_node.score(bundle, folder / "film.png")
    assert list(scores["film"]) == ["mine"] * len(KEYS)
    assert np.abs(scores["score"] - as_file["score"]).max() < 1e-6


def test_what_is_no_film_is_named_beside_the_scores(
    bundle: dicom_node.LoadedBundle, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    (tmp_path / "note").write_text("no film")
    scores = dicom_node.score(bundle, [folder / "film.png", tmp_path])
    assert {Path(name).name for name in scores.attrs["unreadable"]} == {"broken.png", "note"}
    assert len(scores[scores["state"] == "REPORTED"]) == len(KEYS)
    odd = scores[scores["state"] == "UNREADABLE"]
    assert dict(zip(odd["film"], odd["reason"], strict=True)) == scores.attrs["unreadable"]


def test_the_gate_refuses_what_is_no_chest_film(folder: Path) -> None:
    gated = dicom_node.load_bundle(folder / "tiny-0.0.1", device="cpu")
    (row,) = dicom_node.score(gated, np.zeros((64, 64))).to_dict("records")
    assert row["state"] == "SKIPPED"
    assert row["reason"]
    with pytest.raises(NodeError, match="is not explained"):
        dicom_node.draw_heat_maps(gated, np.zeros((64, 64)))


def test_heat_maps_have_the_shape_of_the_film(bundle: dicom_node.LoadedBundle, folder: Path) -> None:
    maps = dicom_node.draw_heat_maps(bundle, folder / "film.dcm", ["nodule", "cardiomegaly"])
    assert [each.finding for each in maps] == ["nodule", "cardiomegaly"]
    scores = dicom_node.score(bundle, folder / "film.dcm").set_index("finding")
    for each in maps:
        assert each.values.shape == (90, 80)
        assert 0 <= each.values.min() <= each.values.max() <= 1
        assert each.score == pytest.approx(scores.loc[each.finding, "score"])
        assert each.above == scores.loc[each.finding, "above"]
    present = [each.finding for each in dicom_node.draw_heat_maps(bundle, folder / "film.dcm")]
    assert set(present) == set(scores.index[scores["above"]]) - {"normal"}


def test_similar_cases_come_from_an_index(
    bundle: dicom_node.LoadedBundle, folder: Path, tmp_path: Path
) -> None:
    cases = tuple(ReferenceCase(f"drawn:{n}", LABELS[n % 3], REPORTS[n % 3]) for n in range(9))
    origin = EmbeddingOrigin.of(bundle.predictor.identity, "")
    width = MANIFEST.embedding + len(KEYS)  # what the search compares: embedding and scores
    write_index(tmp_path, CaseIndex("drawn", origin, cases, unit(9, width, 1), unit(9, width, 3), None))
    found = dicom_node.find_similar_cases(bundle, folder / "film.dcm", 3, index=tmp_path)
    assert list(found.columns) == ["case", "similarity", "labels", "report"]
    assert len(found) == 3
    assert found["similarity"].is_monotonic_decreasing
    with pytest.raises(ConfigurationError, match=r"there is no index; `dicom-node cases build tiny"):
        dicom_node.find_similar_cases(bundle, folder / "film.dcm", index=folder)


def test_a_report_is_built_and_sent(bundle: dicom_node.LoadedBundle, folder: Path) -> None:
    report = dicom_node.build_report(bundle, folder / "film.dcm")
    assert report.Modality == "SR"
    assert report.PatientID == "PAT-7"
    results = dicom_node.build_results(bundle, folder / "film.png", ["sc"])
    assert {ds.Modality for ds in results} == {"SR", "OT"}
    with archive() as (to, uids):
        assert dicom_node.send([report, *results, folder / "film.dcm"], to) == len(results) + 2
    film = dcmread(folder / "film.dcm")
    assert uids == [ds.SOPInstanceUID for ds in (report, *results, film)]
    with pytest.raises(PeerUnavailable):
        dicom_node.send(report, f"ANY@127.0.0.1:{free_port()}")
    with pytest.raises(ConfigurationError, match="give the peer as AE@HOST:PORT"):
        dicom_node.send(report, "nowhere")
    with pytest.raises(NodeError, match="data set 1 cannot be written as DICOM"):
        dicom_node.send(Dataset(), to)


def test_a_labelled_table_is_evaluated(bundle: dicom_node.LoadedBundle, tmp_path: Path) -> None:
    pandas = importlib.import_module("pandas")
    rows = []
    for number in range(16):
        grey = (factories.chest(70, 60, seed=number) * 255).round().astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"{number}.png")
        truth = {"nodule": number % 2, "cardiomegaly": "" if number == 3 else int(number > 8)}
        rows.append({"path": str(tmp_path / f"{number}.png"), "patient": f"P{number}", **truth})
    table = pandas.DataFrame(rows)
    table.to_csv(tmp_path / "films.csv", index=False)
    figures = dicom_node.evaluate(bundle, tmp_path / "films.csv")
    assert figures["bundle"] == "tiny 0.0.1"
    same = dicom_node.evaluate(bundle, table)
    assert {**same, "dataset": ""} == {**figures, "dataset": ""}
    with pytest.raises(NodeError, match="a column path"):
        dicom_node.evaluate(bundle, pandas.DataFrame({"nodule": [1]}))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"name": "nothing"}, "no bundle 'nothing'"),
        ({"device": "gpu"}, "device gpu"),
        ({"runtime": "tensorflow"}, "runtime tensorflow"),
        ({"gate": "nothing"}, r"worker\.gate nothing"),
        ({"config": "nowhere.toml"}, "No such file"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_choice_is_one_sentence(given: dict[str, str], sentence: str, folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=sentence) as error:
        dicom_node.load_bundle(**{"name": folder / "tiny-0.0.1", **given})  # type: ignore[arg-type]
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["models", "worker"])
def test_a_package_of_the_user_that_hides_ours_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    code = (
        f"import sys\nsys.path.insert(0, {str(tmp_path)!r})\nimport dicom_node as dn\n"
        "try:\n    print(dn.list_bundles())\nexcept dn.ConfigurationError as error:\n    print(error)\n"
    )
    assert "openi-findings" in run(code)  # a folder of plain files hides nothing
    (tmp_path / name / "__init__.py").touch()
    said = run(code)
    assert f"your own folder or file is called {name}" in said
    assert str(tmp_path / name) in said
