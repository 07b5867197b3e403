"""``models``: bundles are listed, shown and verified; encoders are downloaded or copied by hand."""

from __future__ import annotations

import hashlib
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner, Result

from dicom_node.cli.models import app
from dicom_node.errors import NodeError
from models.pretrained.encoder_cache import recommended_encoders
from models.pretrained.encoders import read_encoder
from tests.support.model_families import write_family
from tests.support.peers import cli, free_port
from tests.support.published_weights import dense, write_bert
from tests.support.tiny_bundle import replace_text, reseal

CLINICAL = "emilyalsentzer/Bio_ClinicalBERT"


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encoder as it is published, with a file that nobody needs; not to be changed."""
    folder = tmp_path_factory.mktemp("published") / "bert"
    write_bert(folder)
    (folder / "README.md").write_text("terms")
    return folder


@pytest.fixture
def cache(tmp_path: Path, bert: Path) -> Path:
    """A cache with one encoder."""
    done = run("pull", CLINICAL, "--from", bert, "--cache", tmp_path / "cache")
    assert done.exit_code == 0, done.output
    return tmp_path / "cache"


def test_bundles_and_encoders_are_listed(cache: Path):
    listed = json.loads(run("list", "--cache", cache, "--json").stdout)
    bundles = {row["bundle"]: row for row in listed["bundles"]}
    row = bundles["openi-findings-0.2.0"]
    assert (row["architecture"], row["labels"], row["text"], row["problem"]) == ("convnet", 35, "none", "")
    assert 0.5 < row["test_auc"] < 1
    assert row["bytes"] == sum(file.stat().st_size for file in Path(row["path"]).iterdir())
    encoders = {row["encoder"]: row for row in listed["encoders"]}
    assert encoders.keys() == recommended_encoders().keys()
    assert {name for name, row in encoders.items() if row["pulled"]} == {CLINICAL}
    assert encoders[CLINICAL]["kind"] == "bert"
    assert encoders[CLINICAL]["recipe"] == "crossattention: text"


def test_the_list_is_read_by_a_person(cache: Path, bert: Path):
    run("pull", "someone/else", "--from", bert, "--cache", cache)
    (cache / "someone--else" / "config.json").write_text("{}")
    text = run("list", "--cache", cache).stdout
    assert "openi-findings-0.2.0" in text
    assert [
        line for line in text.splitlines() if line.startswith(CLINICAL) and line.rstrip().endswith("whole")
    ]
    assert "config.json was altered" in " ".join(text.split())
    assert "Research use only" in text


def test_a_bundle_is_shown_with_labels_calibration_and_figures():
    shown = json.loads(run("show", "openi-findings", "--json").stdout)
    assert shown["bundle"].startswith("openi-findings-")
    assert shown["arguments"]["backbone"] == "tf_efficientnet_lite0"
    low, high = shown["test_auc_interval"]
    assert low < shown["test_auc"] < high
    (heart,) = [label for label in shown["labels"] if label["key"] == "cardiomegaly"]
    assert (heart["name"], heart["code"], heart["curve"]) == ("Cardiomegaly", "8186001 SCT", "platt")
    assert 0 < heart["threshold"] < 1
    text = run("show", "openi-findings").stdout
    for words in (shown["weights_sha256"], "cardiomegaly", f"{heart['threshold']:.3f}", "Research use only"):
        assert words in text


def test_a_bundle_without_figures_is_shown_all_the_same(tmp_path: Path):
    bundle = write_family(tmp_path, "crossattention")
    shown = json.loads(run("show", bundle.path, "--json").stdout)
    assert shown["test_auc"] is None
    assert shown["text"] == "optional"
    assert [label["test_auc"] for label in shown["labels"]] == [None] * 4
    assert "crossattention" in run("show", bundle.path).stdout


def test_what_is_whole_passes(cache: Path):
    done = run("verify", "--cache", cache)
    assert done.exit_code == 0, done.output
    assert f"{CLINICAL}: whole" in done.stdout
    assert "openi-findings-0.2.0: whole" in done.stdout
    assert "biobert" not in done.stdout  # what was never pulled is not missed


def test_a_damaged_encoder_is_named_and_ends_with_1(cache: Path):
    weights = cache / "emilyalsentzer--Bio_ClinicalBERT" / "model.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(bytes(raw))
    done = run("verify", CLINICAL, "openi-findings", "--cache", cache, "--json")
    assert done.exit_code == 1
    results = json.loads(done.stdout)
    assert "model.safetensors was altered" in results[CLINICAL]
    assert results["openi-findings"] == ""


def spoil_hash(folder: Path) -> None:
    (folder / "labels.toml").write_text('keys = ["normal"]\n')


def spoil_order(folder: Path) -> None:
    replace_text(folder / "labels.toml", '"cardiomegaly"', '"mass"')
    reseal(folder)


def spoil_number(folder: Path) -> None:
    state = load_file(folder / "weights.safetensors")
    state["head.bias"][0] = float("nan")
    save_file(state, folder / "weights.safetensors")
    reseal(folder)


def spoil_width(folder: Path) -> None:
    state = load_file(folder / "weights.safetensors")
    state["head.bias"] = torch.zeros(5)
    save_file(state, folder / "weights.safetensors")
    reseal(folder)


def spoil_with_pickle(folder: Path) -> None:
    torch.save(dense(3).state_dict(), folder / "weights.pt")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (spoil_hash, "labels.toml was altered"),
        (spoil_order, "calibration.json and labels.toml differ in cardiomegaly, mass"),
        (spoil_number, "head.bias holds values that are not finite"),
        (spoil_width, "head.bias has shape (5,), the architecture and the labels ask for (4,)"),
        (spoil_with_pickle, "does not name weights.pt"),
    ],
)
def test_each_damage_of_a_bundle_has_its_own_sentence(tmp_path: Path, spoil, message: str):
    bundle = write_family(tmp_path, "densenet")
    spoil(bundle.path)
    done = run("verify", bundle.path)
    assert done.exit_code == 1
    assert message in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_name_that_nobody_has_is_a_problem():
    done = run("verify", "nonesuch")
    assert done.exit_code == 1
    assert "no bundle 'nonesuch'" in done.stdout
    with pytest.raises(NodeError, match="no bundle 'nonesuch'"):
        CliRunner().invoke(app, ["show", "nonesuch"], catch_exceptions=False)


def test_an_encoder_that_was_brought_by_hand_is_kept_with_its_hashes(cache: Path, bert: Path):
    folder = cache / "emilyalsentzer--Bio_ClinicalBERT"
    names = {file.name for file in folder.iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "SHA256SUMS"}
    digest = hashlib.sha256((bert / "model.safetensors").read_bytes()).hexdigest()
    assert f"{digest}  model.safetensors" in (folder / "SHA256SUMS").read_text()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda folder: (folder / "model.safetensors").unlink(),
            "neither model.safetensors nor pytorch_model.bin",
        ),
        (
            lambda folder: (folder / "config.json").unlink(),
            "no encoder in a known layout: for clip open_clip",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(b"half"), "no weights that can be read"),
        (shutil.rmtree, "No such file"),
    ],
)
def test_a_folder_that_is_no_encoder_is_not_kept(tmp_path: Path, bert: Path, change, message: str):
    folder = Path(shutil.copytree(bert, tmp_path / "bert"))
    change(folder)
    done = run("pull", CLINICAL, "--from", folder, "--cache", tmp_path / "cache")
    assert isinstance(done.exception, NodeError)
    assert message in str(done.exception)
    assert not (tmp_path / "cache" / "emilyalsentzer--Bio_ClinicalBERT").exists()


def test_a_pickle_of_a_whole_network_is_not_kept(tmp_path: Path):
    (tmp_path / "brought").mkdir()
    torch.save(dense(1), tmp_path / "brought" / "nih.pt")
    done = run("pull", "mlmed/nih", "--from", tmp_path / "brought", "--cache", tmp_path / "cache")
    assert isinstance(done.exception, NodeError)
    assert "could run code" in str(done.exception)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as a download needs, over one folder."""

    folder: ClassVar[Path]
    commit = "0123456789abcdef0123456789abcdef01234567"
    asked: ClassVar[list[str]]

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if path.startswith(f"/api/models/{CLINICAL}"):
            self.api(path.removeprefix(f"/api/models/{CLINICAL}"))
        elif path.startswith(f"/{CLINICAL}/resolve/{self.commit}/"):
            name = path.rpartition("/")[2]
            if self.command == "GET":
                self.asked.append(name)
            body = (self.folder / name).read_bytes()
            self.send(
                200, body, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": self.commit}
            )
        elif "gated" in path:
            self.send(403, b"{}", {"X-Error-Code": "GatedRepo"})
        else:
            self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"})

    def api(self, rest: str) -> None:
        files = sorted(self.folder.iterdir())
        if rest.startswith("/tree/"):
            found: object = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
                for file in files
            ]
        elif rest in ("", "/revision/main", f"/revision/{self.commit}"):
            siblings = [{"rfilename": file.name} for file in files]
            found = {"id": CLINICAL, "modelId": CLINICAL, "sha": self.commit, "siblings": siblings}
        else:
            self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
            return
        self.send(200, json.dumps(found).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextmanager
def hub(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Address of a hub that holds one encoder, and the files that were asked of it."""
    asked: list[str] = []
    handler = type("OneHub", (Hub,), {"folder": folder, "asked": asked})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


def environment(address: str, home: Path) -> dict[str, str]:
    return {"HF_ENDPOINT": address, "HF_HOME": str(home / "hf"), "HOME": str(home), "HF_HUB_DISABLE_XET": "1"}


@pytest.mark.peer
def test_an_encoder_is_pulled_from_a_hub_and_only_what_it_needs(tmp_path: Path, bert: Path):
    with hub(bert) as (address, asked):
        done = cli("models", "pull", CLINICAL, environment=environment(address, tmp_path))
    assert done.returncode == 0, done.stderr
    folder = tmp_path / ".cache" / "dicom-node" / "encoders" / "emilyalsentzer--Bio_ClinicalBERT"
    assert str(folder) in done.stdout
    assert f"hf:{CLINICAL}" in done.stdout
    assert sorted(asked) == ["config.json", "model.safetensors", "tokenizer.json"]
    encoder = read_encoder(folder)
    assert {file.name for file in folder.iterdir()} == {*encoder.files, "SHA256SUMS"}
    for name in encoder.files:
        assert (folder / name).read_bytes() == (bert / name).read_bytes()


@pytest.mark.peer
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["someone/unknown"], 1, "the hub has no public model someone/unknown"),
        (["someone/gated"], 1, "hf auth login"),
        ([CLINICAL, "--revision", "v9"], 1, "no revision 'v9'"),
        (["clinicalbert"], 1, "like OWNER/NAME"),
        ([CLINICAL, "--revision", "v9", "--from", "."], 2, "--revision"),
    ],
)
def test_what_a_hub_does_not_give_is_one_sentence(
    tmp_path: Path, bert: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, sentence: str
):
    with hub(bert) as (address, _):
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", address)
        done = run("pull", *words, "--cache", tmp_path)
    assert isinstance(done.exception, NodeError)
    assert done.exception.exit_code == code
    assert sentence in str(done.exception)
    assert "\n" not in str(done.exception)
    assert list(tmp_path.iterdir()) == []


def test_without_a_network_the_files_to_bring_and_their_place_are_named(tmp_path: Path):
    nobody = f"http://127.0.0.1:{free_port()}"
    done = cli("models", "pull", CLINICAL, environment=environment(nobody, tmp_path))
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stderr.startswith("error: ")
    place = tmp_path / ".cache" / "dicom-node" / "encoders" / "emilyalsentzer--Bio_ClinicalBERT"
    for words in (
        "cannot be reached",
        "config.json",
        "model.safetensors",
        "vocab.txt",
        "--from DIR",
        str(place),
    ):
        assert words in done.stderr


def test_a_host_that_is_told_to_stay_offline_says_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    done = run("pull", CLINICAL, "--cache", tmp_path)
    assert isinstance(done.exception, NodeError)
    assert "cannot be reached" in str(done.exception)


def test_the_help_names_the_four_commands():
    text = run("--help").stdout
    assert all(command in text for command in ("list", "show", "verify", "pull"))
