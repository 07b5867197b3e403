"""A bundle is exactly what it says, or it is refused."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.bundles.bundle import Bundle, amend_bundle, find_bundle, read_bundle, write_bundle, write_files
from models.bundles.lookup import shipped_folder
from models.errors import BundleError
from models.evaluation.card import main_evaluation, write_card
from models.processing.map_check import MapCheck
from tests.support.model_families import make_tokenizer, write_family
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network, replace_text, reseal


def test_a_bundle_comes_back_as_it_was_written(bundle: Bundle):
    again = read_bundle(bundle.path)
    assert again.manifest == MANIFEST
    assert again.calibration == CALIBRATION
    assert tuple(label.key for label in again.labels) == KEYS
    assert again.identity == bundle.identity
    assert (
        again.identity.weights_sha256
        == hashlib.sha256((bundle.path / "weights.safetensors").read_bytes()).hexdigest()
    )


def test_the_tiny_bundle_is_tiny(bundle: Bundle):
    assert sum(file.stat().st_size for file in bundle.path.iterdir()) < 1_000_000


def test_an_older_bundle_in_the_same_place_is_replaced_whole(bundle: Bundle):
    (bundle.path / "README.md").write_text("old")
    again = write_bundle(bundle.path, MANIFEST, KEYS, make_network(), CALIBRATION)
    assert not (again.path / "README.md").exists()
    assert [path for path in bundle.path.parent.iterdir() if path.name.startswith(".")] == []


def test_a_bundle_is_written_beside_its_place_and_moved_there_when_it_is_whole(
    bundle: Bundle, tmp_path: Path
):
    place = tmp_path / "new" / "folder" / "tiny-0.0.1"
    files = {path.name: path.read_bytes() for path in bundle.path.iterdir() if path.name != "bundle.toml"}

    def refuse(draft: Bundle) -> None:
        assert not place.exists()
        assert draft.path.parent.parent == place.parent  # the same disk: it can be moved
        assert draft.path.parent.name.startswith(".tiny-0.0.1-")  # hidden from who lists bundles
        assert draft.identity == bundle.identity
        raise BundleError("not this one")

    with pytest.raises(BundleError, match="not this one"):
        write_files(place, MANIFEST, files, refuse)
    assert list(place.parent.iterdir()) == []
    assert write_files(place, MANIFEST, files, Bundle.network).identity == bundle.identity
    assert list(place.parent.iterdir()) == [place]


def test_what_reads_the_text_is_part_of_the_preprocessing(bundle: Bundle, tmp_path: Path):
    reader = write_family(tmp_path, "concatenation")
    assert reader.manifest.tokens is not None
    assert reader.manifest == read_bundle(reader.path).manifest
    assert bundle.identity.preprocessing == bundle.manifest.preprocessing.digest()
    others = {reader.identity.preprocessing, reader.manifest.preprocessing.digest()}
    longer = replace(reader.manifest, tokens=replace(reader.manifest.tokens, max_length=9))
    files = {path.name: path.read_bytes() for path in reader.path.iterdir() if path.name != "bundle.toml"}
    others.add(write_files(tmp_path / "longer", longer, files, Bundle.network).identity.preprocessing)
    other_words = make_tokenizer().replace("effusion", "effusions").encode()
    files |= {"tokenizer.json": other_words}
    others.add(write_files(tmp_path / "words", longer, files, Bundle.network).identity.preprocessing)
    assert len(others) == 4
    assert {len(each) for each in others} == {16}


def test_card_and_metrics_are_covered_by_the_manifest(bundle: Bundle):
    amended = amend_bundle(bundle, {"README.md": "# card\n"})
    assert amended.identity == bundle.identity
    (bundle.path / "README.md").write_text("# another card\n")
    with pytest.raises(BundleError, match=r"README\.md was altered"):
        read_bundle(bundle.path)


def test_the_check_of_heat_maps_comes_back_as_it_was_added(bundle: Bundle):
    fitted = MapCheck("openi", "val", 30, 20, 0.4, 0.3)
    assert read_bundle(bundle.path).map_check == MapCheck()
    amended = amend_bundle(bundle, {"maps.json": fitted.dump()})
    assert (amended.map_check, read_bundle(bundle.path).map_check) == (fitted, fitted)


def test_only_card_and_metrics_can_be_added(bundle: Bundle):
    with pytest.raises(BundleError, match=r"run\.py"):
        amend_bundle(bundle, {"run.py": "print()"})


@pytest.mark.parametrize("name", ["labels.toml", "calibration.json", "weights.safetensors", "bundle.toml"])
def test_a_missing_file_is_named(bundle: Bundle, name: str):
    (bundle.path / name).unlink()
    with pytest.raises(BundleError, match=name):
        read_bundle(bundle.path)


@pytest.mark.parametrize("name", ["extra.txt", "weights.pt", "sub/folder.py"])
def test_an_extra_file_is_named(bundle: Bundle, name: str):
    (bundle.path / name).parent.mkdir(exist_ok=True)
    (bundle.path / name).write_bytes(pickle.dumps({}))
    with pytest.raises(BundleError, match=name):
        read_bundle(bundle.path)


@pytest.mark.parametrize("name", ["labels.toml", "calibration.json", "weights.safetensors"])
def test_one_changed_byte_is_noticed(bundle: Bundle, name: str):
    raw = bytearray((bundle.path / name).read_bytes())
    raw[len(raw) // 2] ^= 1
    (bundle.path / name).write_bytes(bytes(raw))
    with pytest.raises(BundleError, match=f"{name} was altered"):
        read_bundle(bundle.path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "tiny"', 'nome = "tiny"', "no name|nome"),
        ('version = "0.0.1"', 'version = "newest"', "version"),
        ('name = "tiny"', 'name = "../tiny"', "name"),
        ('text = "none"', 'text = "some"', "inputs.text"),
        ('text = "none"', 'text = "none"\naudio = "none"', "audio"),
        ('explanation = "gradcam"', 'explanation = "magic"', "outputs.explanation"),
        ("size = 64", "size = 64\nflip = true", "unknown flip"),
        ("size = 64", "", "missing or unknown size"),
        ("std = 0.5", "std = 0", "not positive"),
        ("[outputs]", "[output]", "no outputs"),
        ('name = "convnet"', 'name = "convnet"\npretrained = true', "pretrained"),
    ],
)
def test_a_wrong_manifest_is_refused_in_one_sentence(bundle: Bundle, old: str, new: str, message: str):
    replace_text(bundle.path / "bundle.toml", old, new)
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(bundle.path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "convnet"', 'name = "gan"', "no architecture is called 'gan'"),
        ('backbone = "test_efficientnet"', 'backbone = "hf-hub:someone/something"', "no backbone"),
        ('backbone = "test_efficientnet"', 'backbone = "nonesuch"', "no backbone"),
        ("dropout = 0.1", "dropout = 0.1\npretrained = true", "pretrained"),
        ("channels = 3", "channels = 1", "conv_stem.weight"),
    ],
)
def test_an_architecture_that_does_not_fit_is_refused(bundle: Bundle, old: str, new: str, message: str):
    replace_text(bundle.path / "bundle.toml", old, new)
    with pytest.raises(BundleError, match=message):
        read_bundle(bundle.path).network()


def test_a_bundle_is_found_by_its_folder_and_a_shipped_one_by_its_name(bundle: Bundle):
    assert find_bundle(str(bundle.path)) == bundle.path
    assert read_bundle(find_bundle("openi-findings")).manifest.name == "openi-findings"


def test_an_imported_graph_is_nothing_without_its_graph(bundle: Bundle):
    replace_text(bundle.path / "bundle.toml", 'name = "convnet"', 'name = "onnx"')
    reseal(bundle.path)
    with pytest.raises(BundleError, match=r"graph\.onnx"):
        read_bundle(bundle.path)


def test_an_unknown_label_is_refused(bundle: Bundle):
    replace_text(bundle.path / "labels.toml", "nodule", "noodle")
    reseal(bundle.path)
    with pytest.raises(BundleError, match="'noodle'"):
        read_bundle(bundle.path)


@pytest.mark.parametrize("name", ["calibration.json", "maps.json", "tokenizer.json", "labels.toml"])
def test_bytes_that_are_no_text_are_one_sentence_that_names_the_file(tmp_path: Path, name: str):
    reader = amend_bundle(write_family(tmp_path, "concatenation"), {"maps.json": MapCheck().dump()})
    (reader.path / name).write_bytes(b"\xff\xfe{")
    reseal(reader.path)
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        read_bundle(reader.path).tokenizer()


def test_a_tower_takes_what_its_tokenizer_gives_and_no_more(tmp_path: Path):
    reader = write_family(tmp_path, "concatenation")
    assert reader.network().text_limits is not None
    files = {path.name: path.read_bytes() for path in reader.path.iterdir() if path.name != "bundle.toml"}
    most = reader.network().text_limits
    assert most is not None
    assert reader.manifest.tokens is not None
    for length, fits in ((most.length, True), (most.length + 1, False)):
        tokens = replace(reader.manifest.tokens, max_length=length)
        folder = tmp_path / f"length-{length}"
        if fits:
            write_files(folder, replace(reader.manifest, tokens=tokens), files, Bundle.network)
        else:
            with pytest.raises(BundleError, match=rf"{length} tokens, .* \d+ and {most.length}"):
                write_files(folder, replace(reader.manifest, tokens=tokens), files, Bundle.network)


def test_a_tokenizer_without_a_tower_that_reads_what_it_gives_is_refused(tmp_path: Path, bundle: Bundle):
    reader = write_family(tmp_path, "concatenation")
    files = {path.name: path.read_bytes() for path in bundle.path.iterdir() if path.name != "bundle.toml"}
    files |= {"tokenizer.json": (reader.path / "tokenizer.json").read_bytes()}
    manifest = replace(bundle.manifest, tokens=reader.manifest.tokens)
    with pytest.raises(BundleError, match=r"no text tower to read what tokenizer\.json gives"):
        write_files(tmp_path / "mute", manifest, files, Bundle.network)


def test_a_head_of_another_width_is_refused(bundle: Bundle):
    replace_text(bundle.path / "labels.toml", '"nodule"', '"nodule", "mass"')
    replace_text(bundle.path / "calibration.json", '"nodule"', '"mass": {"method": "none", "slope": 1.0, '
         '"intercept": 0.0, "threshold": 0.5, "n_positive": 0}, "nodule"')  # fmt: skip
    reseal(bundle.path)
    with pytest.raises(BundleError, match=r"head\.bias has shape \(4,\)"):
        read_bundle(bundle.path).network()


def test_a_network_that_half_precision_cannot_hold_is_not_written(tmp_path: Path):
    network = make_network()
    with torch.no_grad():
        network.head.weight[0, 0] = 1e6
    with pytest.raises(BundleError, match="not finite"):
        write_bundle(tmp_path / "tiny-0.0.1", MANIFEST, KEYS, network, CALIBRATION)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture(scope="module")
def shipped() -> list[Path]:
    return sorted(path.parent for path in shipped_folder().glob("*/bundle.toml"))


def test_every_shipped_bundle_loads_and_its_card_is_the_one_its_figures_give(shipped: list[Path]):
    import json

    names = {path.name.rsplit("-", 1)[0] for path in shipped}
    assert names >= {"openi-findings", "openi-groups", "openi-normality", "nih-findings"}
    weights = [(path / "weights.safetensors").stat().st_size for path in shipped]
    assert max(weights) <= 25_000_000
    assert sum(weights) <= 60_000_000
    for path in shipped:
        if path.name.startswith("gate-"):  # has labels of its own: tests/unit/models/test_gate.py
            continue
        found = read_bundle(path)
        assert path.name == found.manifest.folder
        found.network()
        metrics = json.loads((path / "metrics.json").read_text(encoding="utf-8"))
        assert main_evaluation(metrics)["weights_sha256"] == found.weights_sha256
        card = (path / "README.md").read_text(encoding="utf-8")
        assert card == write_card(found, metrics)
        assert "Research use only" in card


def test_a_folder_that_is_copied_is_the_same_bundle(bundle: Bundle, tmp_path: Path):
    copy = tmp_path / "elsewhere"
    shutil.copytree(bundle.path, copy)
    assert read_bundle(copy).identity == bundle.identity
