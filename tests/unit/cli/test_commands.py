"""Commands: in either environment of ``make serve`` each works, or says in one line what to install."""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.runtime import extras
from dicom_node.store.states import StudyState
from models.bundles.bundle import read_bundle, write_bundle
from models.bundles.onnx_graph import write_graph
from tests.support import factories
from tests.support.drawn_index import REPORTS, write_joint
from tests.support.offline_node import OfflineNode
from tests.support.openi_folder import write_openi
from tests.support.peers import Node, free_port
from tests.support.serve_environment import Answer, hiding, run_commands
from tests.support.tiny_bundle import CALIBRATION, KEYS, MANIFEST, make_network

RUNNING = {"serve", "scp", "worker", "sender", "web"}
"""Commands that run until they are stopped; serve starts the processes of all of them."""

USELESS = {"zero-shot": {2}, "restore": {2}}
"""Commands that find nothing to do, after they have imported all that they need.

The tiny bundles have no tower for text, and a data directory that is not empty takes no backup.
"""

TORCH = {"zero-shot", "train", "explain, captum", "models pull", "models export", "models export, monai"}
"""Commands that need torch, whatever else they need."""

EXTRAS = (
    "worker-light",
    "worker",
    "train",
    "import",
    "explain",
    "retrieval",
    "tables",
    "embedded",
    "postgresql",
    "oidc",
)

STUDY = factories.uid("study", 1)

COMMANDS: dict[str, tuple[str, str]] = {
    "status": ("status --studies --audit", ""),
    "retry": ("retry", ""),
    "analyze": ("analyze film.dcm --out read-{runtime} --bundle tiny", ""),
    "zero-shot": ("zero-shot film.dcm --bundle tiny -f nodule", ""),
    "retract": (f"retract {STUDY} --reason mistake", ""),
    "replay": (f"replay {STUDY}", ""),
    "validate": ("validate film.dcm", ""),
    "purge": ("purge --dry-run", ""),
    "pin": (f"pin {STUDY}", ""),
    "unpin": (f"unpin {STUDY}", ""),
    "audit list": ("audit list", ""),
    "audit verify": ("audit verify", ""),
    "audit purge": ("audit purge --older-than 365", ""),
    "audit export": ("audit export trail-{runtime}.jsonl", ""),
    "backup": ("backup made", ""),
    "verify": ("verify made", ""),
    "restore": ("restore made", ""),
    "deidentify": ("deidentify film.dcm --unknown-is-clean", ""),
    "export": ("export --out tables-{runtime}", ""),
    "analyze, parquet": ("analyze film.dcm --parquet {runtime}.parquet --bundle tiny", "tables"),
    "export, parquet": ("export --out parquet-{runtime} --format parquet", "tables"),
    "send": ("send film.dcm --to PACS@127.0.0.1:{port}", ""),
    "echo": ("echo PACS@127.0.0.1:{port}", ""),
    "doctor": ("doctor", ""),
    "conformance": ("conformance", ""),
    "train": ("train {recipes}/densenet.toml --data openi", "train"),
    "evaluate": ("evaluate tiny --data openi", "train"),
    "evaluate, heat maps": ("evaluate tiny --data openi --explanations --method ig", "train"),
    "evaluate, plots": ("evaluate tiny --data openi --out figures", "train"),
    "explain": ("explain film.dcm --out maps --bundle tiny", ""),
    "explain, captum": ("explain film.dcm --out maps --bundle tiny --method ig", "explain"),
    "dataset": ("dataset openi --data openi", "train"),
    "config show": ("config show", ""),
    "config check": ("config check", ""),
    "models list": ("models list", ""),
    "models show": ("models show tiny", ""),
    "models verify": ("models verify tiny", ""),
    "models export": ("models export tiny", "train"),
    "models export, onnx": ("models export tiny --format onnx --out exported-{runtime}", "import"),
    "models export, monai": ("models export tiny --format monai --out exported-{runtime}", ""),
    "models import": ("models import net.onnx --name own --labels nodule,mass", "import"),
    "models calibrate": ("models calibrate tiny --csv films.csv", "import"),
    "models promote": ("--config models-{runtime}.toml models promote next", ""),
    "models check": ("models check http://127.0.0.1:{port}", ""),
    "models pull": ("models pull OWNER/NAME --from nowhere", ""),
    "rules test": ("rules test film.dcm", ""),
    "users add": ("users add anna-{runtime} --no-password", ""),
    "cases build": ("cases build joint --data openi --out index", "train"),
    "cases add": ("cases add index --data openi --split val --bundle joint", "train"),
    "cases verify": ("cases verify index --bundle joint", ""),
    "cases query": ("cases query index --film film.dcm --bundle joint", ""),
    "cases learn": ("cases learn --data openi --out labeler", "train"),
    "cases evaluate": ("cases evaluate joint --data openi --queries test", "train"),
    "rebuild": ("rebuild", ""),
}
"""Command, or a use of one that needs more: its words, and the extra that it needs beside worker."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with what the commands work on."""
    here = tmp_path_factory.mktemp("commands")
    factories.write(factories.film(), here / "film.dcm")
    write_graph(write_bundle(here / "tiny", MANIFEST, KEYS, make_network(), CALIBRATION))
    write_graph(read_bundle(write_joint(here / "joint")))
    (here / "net.onnx").write_bytes(b"opened only where onnx is installed")
    root = write_openi(here / "openi", {"train": 12, "val": 4, "test": 8})
    with tarfile.open(root / "NLMCXR_reports.tgz", "w:gz") as archive:
        for number in range(1, 25):
            xml = root / f"{number}.xml"
            findings = f'<AbstractText Label="FINDINGS">{REPORTS[number % 3]}</AbstractText>'
            xml.write_text(f"<eCitation><Abstract>{findings}</Abstract></eCitation>")
            archive.add(xml, f"ecgen-radiology/{number}.xml")
            xml.unlink()
    for runtime in ("torch", "light"):
        (here / f"models-{runtime}.toml").write_text(
            '[[models]]\nname = "now"\nbundle = "tiny"\n'
            '[[models]]\nname = "next"\nbundle = "tiny"\nrole = "shadow"\n'
        )
    words = ("cases", "build", here / "joint", "--data", root, "--out", here / "index")
    built = CliRunner().invoke(app, list(map(str, words)))
    assert built.exit_code == 0, built.output
    node = OfflineNode(here / "node")
    node.finish(1, StudyState.REPORTED)
    node.close()
    return here


@pytest.fixture(scope="module", params=["torch", "light"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def environment(folder: Path, runtime: str) -> dict[str, str]:
    return {
        **hiding(folder / f"site-{runtime}", runtime),
        "DICOM_NODE_DATA_DIR": str(folder / "node"),
        "DICOM_NODE_DICOM__PORT": "0",
        "DICOM_NODE_DICOM__MIN_FREE_BYTES": "0",
        "DICOM_NODE_WEB__PORT": "0",
        "DICOM_NODE_WORKER__GATE": "",
    }


@pytest.fixture(scope="module")
def answers(folder: Path, environment: dict[str, str], runtime: str) -> dict[str, Answer]:
    words = {
        "runtime": runtime,
        "port": free_port(),
        "recipes": Path(__file__).parents[3] / "models" / "recipes",
    }
    lines = [shlex.split(line.format(**words)) for line, _ in COMMANDS.values()]
    return dict(zip(COMMANDS, run_commands(lines, environment, folder), strict=True))


def leaves(command: Any, name: str = "") -> Iterator[str]:
    """Names of the commands, those of a group with its name before them."""
    if not hasattr(command, "list_commands"):
        yield name
        return
    for part in command.list_commands(None):
        inner = command.get_command(None, part)
        if not inner.hidden and part != "child":
            yield from leaves(inner, f"{name} {part}".strip())


def test_every_command_is_tried() -> None:
    tried = {name.partition(",")[0] for name in COMMANDS}
    listed = set(leaves(typer.main.get_command(app)))
    others = {
        f"users {name}" for name in ("list", "change", "remove", "token", "tokens", "revoke")
    }  # as users add
    assert listed - others == tried | RUNNING


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_works_or_says_what_to_install(answers: dict[str, Answer], runtime: str, name: str) -> None:
    answer, (_, extra) = answers[name], COMMANDS[name]
    if runtime == "light" and (extra or name in TORCH) and f"[{extra}]" not in answer.stderr:
        extra = "worker"  # torch is missed first
    assert "Traceback" not in answer.stderr, answer.stderr
    if extra:
        (line,) = answer.stderr.splitlines()
        assert answer.code == 2
        assert line.startswith("error: ")
        assert line.endswith(f"install it by: {extras.install_command(extra)}")
    else:
        assert answer.code in USELESS.get(name, {0, 1}), answer.stderr
        assert "is not installed; install it by" not in answer.stderr


@pytest.mark.peer
def test_the_node_runs(folder: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    bundle = str(folder / "tiny")
    with Node(folder / "running", worker__bundle=bundle) as node:
        sent = node.cli("send", str(folder / "film.dcm"), "--to", f"DICOM_NODE@127.0.0.1:{node.port}")
        assert sent.returncode == 0, sent.stderr
        assert node.settled(1)["studies"]["REPORTED"] == 1
        assert node.output.count("running as root") == (os.geteuid() == 0)
        processes = [node.process.pid, *itertools.chain(*node.children().values())]
        assert len(processes) > 6
        for each in processes:
            assert "NoNewPrivs:\t1" in Path(f"/proc/{each}/status").read_text(), each


def test_the_printed_command_can_be_run() -> None:
    command = shlex.split(extras.install_command("all"))
    assert command[0] == sys.executable
    # Everything is installed here, so that pip finds it without an index.
    done = subprocess.run(
        [*command, "--dry-run", "--no-index", "--quiet"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_package_of_an_extra_is_known_by_its_modules() -> None:
    holders = importlib.metadata.packages_distributions()
    for extra in EXTRAS:
        found, missing = extras.packages(extra)
        assert found
        assert not missing
        for package in found:
            plain = package.replace("_", "-").casefold()
            modules = [
                module
                for module, packages in holders.items()
                if plain in {each.replace("_", "-").casefold() for each in packages}
            ]
            said = [extras.missing_package(ModuleNotFoundError(name=module)) for module in modules]
            assert any(f"the package {plain} " in line.replace("_", "-").casefold() for line in said), package


def test_a_module_of_our_own_is_no_missing_package() -> None:
    assert extras.missing_package(ModuleNotFoundError(name="dicom_node.nothing")) == ""
    assert extras.missing_package(ValueError("no")) == extras.missing_package(None) == ""
