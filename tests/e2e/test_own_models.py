"""A group's own models in a running node, by the documents: weights, an ONNX file, a server."""

from __future__ import annotations

import re
import socket
import subprocess
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from torchvision.models import resnet18
from typer.testing import CliRunner

from dicom_node.cli.models import app
from dicom_node.imaging.pixels import read_film
from dicom_node.results.validation import dciodvfy
from tests.support.dicom_tools import storescu
from tests.support.film_file import write_films
from tests.support.peers import Node, StoreSCP, cli, until
from tests.support.remote_model import Answer, reference_server, scripted
from tests.support.sr_content import scores, text_of

LABELS = "Cardiomegaly,Pneumothorax,Pacemaker lead"


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(3)
    return resnet18(num_classes=3).eval()


def node_file(folder: Path, *entries: str) -> Path:
    """Configuration file with these models, each as lines of its table."""
    path = folder / "node.toml"
    path.write_text("".join(f"[[models]]\n{entry}\n" for entry in entries))
    return path


@pytest.mark.timeout(400)
@pytest.mark.filterwarnings("ignore:You are using the legacy TorchScript:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The feature will be removed:DeprecationWarning")
def test_weights_an_onnx_file_and_a_server_read_side_by_side(
    tmp_path: Path, network: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save(network.state_dict(), tmp_path / "weights.pt")
    torch.onnx.export(network, (torch.zeros(1, 3, 224, 224),), str(tmp_path / "net.onnx"), dynamo=False)
    made = (
        ("weights.pt", "own-weights", ("--architecture", "torchvision:resnet18")),
        ("net.onnx", "own-onnx", ()),
    )
    for file, name, options in made:
        # In this process: another takes ten seconds of processor time to import torch.
        done = CliRunner().invoke(app, ["import", file, *options, "--name", name, "--labels", LABELS])
        assert done.exit_code == 0, done.output
    with reference_server() as url:
        checked = until(lambda: check(url), 60, "a server that passes the check")
        assert "predict: 3 films" in checked.stdout
        config = node_file(
            tmp_path,
            'name = "weights"\nbundle = "own-weights-0.1.0"',
            'name = "onnx"\nbundle = "own-onnx-0.1.0"',
            f'name = "server"\nurl = "{url}"',
        )
        films = write_films(tmp_path / "films", 2, rows=224, columns=224)
        with (
            StoreSCP(tmp_path / "pacs") as pacs,
            Node(tmp_path / "node", [pacs.destination], config=config, ready_seconds=150) as node,
        ):
            assert storescu(node.port, films).returncode == 0
            status = node.settled(2, seconds=120)
            assert status["audit"]["conserved"]
            assert status["studies"]["REPORTED"] == 2
            page = read(f"{node.page}studies/1")
            assert all(f'id="model-{number}"' in page for number in range(3))
            assert "not calibrated" in page
            assert 'SR <span class="label">own-onnx, ' in page
            assert "Remote model at" in read(f"{node.page}models/brightness-1.0.0")
        reports = [ds for ds in map(dcmread, pacs.files()) if ds.Modality == "SR"]
        assert len(reports) == 6
        assert [path for path in pacs.files() if dciodvfy(path)] == []
    for path in films:
        pixels = read_film(path, max_pixels=10**8).pixels
        uid = dcmread(path, stop_before_pixels=True).StudyInstanceUID
        said = {}
        for ds in (ds for ds in reports if uid == ds.StudyInstanceUID):
            said |= scores(ds)
        wanted = probabilities(network, pixels)
        for name in ("own-weights", "own-onnx"):
            found = [said[f"{name}/{key}"] for key in ("cardiomegaly", "pneumothorax", "pacemaker_lead")]
            np.testing.assert_allclose(found, wanted, atol=1e-4)
        assert said["brightness/bright"] == pytest.approx(100 * pixels.mean(), abs=0.1)


def check(url: str) -> subprocess.CompletedProcess[str] | None:
    """Return what `models check` says of a server that passes it."""
    done = cli("models", "check", url)
    return None if done.returncode else done


def probabilities(network: torch.nn.Module, pixels: np.ndarray) -> list[float]:
    """Scores of a network of torchvision, by its own framework, for a film of its own size."""
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colours = torch.from_numpy(pixels).repeat(3, 1, 1)
    entered = (colours - mean[:, None, None]) / deviation[:, None, None]
    with torch.inference_mode():
        return [float(score) for score in network(entered[None]).sigmoid()[0]]


def read(address: str) -> str:
    with urllib.request.urlopen(address) as answer:
        return re.sub(r"\s+", " ", answer.read().decode())


def entry(url: str) -> str:
    return f'name = "server"\nurl = "{url}"\nretries = 0\ntimeout_seconds = 5'


@pytest.mark.timeout(300)
def test_a_study_waits_for_a_server_that_is_away(tmp_path: Path) -> None:
    films = write_films(tmp_path / "films", 1, rows=96, columns=96)
    settings = {"study__requeue_seconds": "2", "worker__max_attempts": "50"}
    held = socket.socket()
    held.bind(
        ("127.0.0.1", 0)
    )  # without listening: whoever connects is refused, and no other server takes it
    port = held.getsockname()[1]
    config = node_file(tmp_path, entry(f"http://127.0.0.1:{port}"))
    with (
        held,
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [pacs.destination], config=config, **settings) as node,
    ):
        assert storescu(node.port, films).returncode == 0
        until(lambda: "put back: " in node.output, 60, "a try that found no server")
        assert pacs.files() == []
        held.close()
        with reference_server(port):
            assert node.settled(1, seconds=90)["studies"]["REPORTED"] == 1
        assert any("brightness" in text_of(ds) for ds in map(dcmread, pacs.files()) if ds.Modality == "SR")
        assert node.stop() == 0
    assert "Traceback" not in node.output


@pytest.mark.timeout(300)
def test_a_server_that_answers_wrongly_fails_the_study_with_a_reason_and_another_model_still_reports(
    tmp_path: Path,
) -> None:
    first, second = write_films(tmp_path / "films", 2, rows=96, columns=96)
    html = Answer(b"<html>busy</html>", headers={"Content-Type": "text/html"})
    with (
        scripted(lambda _: html) as wrong,
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [pacs.destination], config=node_file(tmp_path, entry(wrong.url))) as node,
    ):
        assert storescu(node.port, [first]).returncode == 0
        assert node.settled(1, seconds=90)["studies"]["FAILED"] == 1
        (refusal,) = map(dcmread, pacs.files())
        assert "it answers 'text/html' and not application/json" in text_of(refusal)
        workers = set(node.children()["worker"])
        node_file(tmp_path, 'name = "bundle"\nbundle = "openi-findings"', entry(wrong.url))
        until(lambda: not workers & set(node.children().get("worker", [])), 60, "workers that started again")
        assert storescu(node.port, [second]).returncode == 0
        status = node.settled(2, seconds=120)
        assert (status["studies"]["FAILED"], status["studies"]["REPORTED"]) == (1, 1)
        assert "model server: " in node.cli("status", "--studies").stdout
        assert node.stop() == 0
    assert "Traceback" not in node.output
