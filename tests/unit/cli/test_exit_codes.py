"""Exit codes: one meaning each, over all commands."""

from __future__ import annotations

import functools
import inspect
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from dicom_node import errors
from dicom_node.cli import app as root
from dicom_node.config.data_dir import DataDir
from dicom_node.config.settings import Settings
from tests.support import factories
from tests.support.peers import free_port, until
from tests.support.serve_environment import Answer, run_commands

RECIPES = Path(root.__file__).parents[2] / "models" / "recipes"
DONE, WRONG, NOT_BEGUN, IN_USE, DAMAGED, INTERRUPTED = 0, 1, 2, 3, 4, 130

COMMANDS = {
    DONE: (
        "-h", "--help", "status -h", "cases -h", "cases query -h", "--version", "config show", "config check",
        "conformance", "models list", "validate film.dcm", "rules test film.dcm",
        "users add anna --no-password", "users list", "backup made", "verify made", "export --out tables",
    ),
    WRONG: (
        "validate words.txt",
        "rules test words.txt",
        "send words.txt --to PACS@127.0.0.1:{port}",
        "send film.dcm --to PACS@127.0.0.1:{port}",
        "echo PACS@127.0.0.1:{port}",
        "models verify broken",
        "users remove nobody",
        "retract 1.2.3 --reason mistake",
        "replay 1.2.3",
        "retry 1.2.3",
        "deidentify film.dcm",
        "analyze words.txt",
        "analyze film.dcm --csv .",
    ),
    NOT_BEGUN: (
        "nothing",
        "status --nothing",
        "send",
        "--config nothing.toml config check",
        "--config wrong.toml serve",
        "--config broken.toml config check",
        "--config broken.toml doctor",
        "analyze nothing.dcm",
        "validate nothing.dcm",
        "rules test nothing.dcm",
        "rules test film.dcm --finding nothing",
        "send nothing.dcm --to PACS@127.0.0.1:{port}",
        "send film.dcm --to PACS",
        "echo PACS@pacs..example:104",
        "echo SEVENTEEN_LETTERS@127.0.0.1:104",
        "explain nothing.dcm --out maps",
        "explain film.dcm --out maps --bundle nothing",
        "analyze film.dcm --bundle nothing",
        "zero-shot film.dcm --bundle nothing",
        "models show nothing",
        "cases verify nothing",
        "cases build nothing --data .",
        "cases build openi-findings --data nothing",
        "evaluate openi-findings --data nothing",
        "train {recipes}/densenet.toml --data nothing",
        "dataset nothing",
        "users add anna --role nothing --no-password",
        "verify nothing",
        "verify broken",
        "restore nothing",
        "backup node/inside",
        "deidentify",
        "deidentify nothing.dcm",
        "deidentify film.dcm --retain nothing",
        "deidentify film.dcm --mask 1,2,3",
        "deidentify --study 1.2.3",
        "worker",
        "export --since yesterday",
        "export --out .",
        "export --retain nothing",
        "evaluate openi-findings --csv nothing.csv",
        "evaluate openi-findings --csv films.csv --split tset",
        "evaluate openi-findings --data empty",
        "evaluate openi-findings --data empty --dataset nih",
        "evaluate openi-findings --data empty --dataset collections",
        "train unknown_list.toml --data empty",
        "train unknown_network.toml --data empty",
        "models import nothing.onnx --name a --labels nodule",
        "models import film.dcm --name a --architecture timm:resnet18 --labels nothing.toml",
        "models calibrate openi-findings --csv nothing.csv",
        "analyze film.dcm --resume",
        "analyze film.dcm --device gpu",
        "evaluate openi-findings --data . --device gpu",
    ),
    IN_USE: ("serve", "scp", "restore made"),
}  # fmt: skip
LINES = {line: code for code, lines in COMMANDS.items() for line in lines}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    folder = tmp_path_factory.mktemp("codes")
    factories.write(factories.film(), folder / "film.dcm")
    (folder / "words.txt").write_text("no DICOM")
    (folder / "broken").mkdir()
    (folder / "broken" / "bundle.toml").write_text("name = 3")
    (folder / "empty").mkdir()
    (folder / "films.csv").write_text("path,nodule,split\nfilm.dcm,1,val\n")
    recipe = (RECIPES / "densenet.toml").read_text(encoding="utf-8")
    for name, entry in (("list", 'list = "nih"'), ("network", 'name = "densenet"')):
        changed = recipe.replace(f"\n{entry}\n", f'\n{entry[:-1]}x"\n')
        assert changed != recipe
        (folder / f"unknown_{name}.toml").write_text(changed, encoding="utf-8")
    (folder / "wrong.toml").write_text("[study]\nforced_seconds = 0\n")
    (folder / "broken.toml").write_text('[worker]\nbundle = "nothing"\ndevice = "gpu"\n')
    settings = Settings(data_dir=folder / "node")
    environment = {
        "DICOM_NODE_DATA_DIR": str(settings.data_dir),
        "DICOM_NODE_DICOM__PORT": "0",
        "DICOM_NODE_WEB__PORT": "0",
    }
    words = {"port": free_port(), "recipes": RECIPES}
    # The accounts of `users` are in the database, which the commands below look into.
    ordered = sorted(LINES, key=lambda line: LINES[line])
    with DataDir(settings).locked(shared=False):
        found = run_commands([shlex.split(line.format(**words)) for line in ordered], environment, folder)
    return dict(zip(ordered, found, strict=True))


@pytest.mark.parametrize("line", LINES)
def test_an_exit_code_has_one_meaning(answers: dict[str, Answer], line: str) -> None:
    answer = answers[line]
    assert answer.code == LINES[line], answer.stdout + answer.stderr
    assert "Traceback" not in answer.stderr
    if answer.stderr.startswith("error: "):
        assert all(each.startswith("error: ") for each in answer.stderr.splitlines())


def test_every_error_of_the_node_has_a_code_with_a_meaning() -> None:
    classes = [
        each for _, each in inspect.getmembers(errors, inspect.isclass) if issubclass(each, errors.NodeError)
    ]
    codes = {each.__name__: each.exit_code for each in classes}
    assert set(codes.values()) == {WRONG, NOT_BEGUN, IN_USE, DAMAGED, INTERRUPTED}
    assert [name for name, code in codes.items() if code == INTERRUPTED] == ["StoppedByUser"]
    assert [name for name, code in codes.items() if code == NOT_BEGUN] == ["ConfigurationError"]
    assert [name for name, code in codes.items() if code == IN_USE] == ["AlreadyRunning"]
    assert [name for name, code in codes.items() if code == DAMAGED] == ["IndexDamaged"]
    said = re.findall(r"^(\d+) {2,}\S", root.__doc__ or "", re.MULTILINE)
    assert [int(code) for code in said] == [DONE, WRONG, NOT_BEGUN, IN_USE, DAMAGED, INTERRUPTED]


def test_a_command_that_is_interrupted_says_so(tmp_path: Path) -> None:
    factories.write(factories.film(), tmp_path / "film.dcm")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(60)
        to = f"PACS@127.0.0.1:{silent.getsockname()[1]}"
        words = [sys.executable, "-m", "dicom_node", "echo", to]
        # A shell starts what it runs in the background deaf to the signal, and so would this program be.
        hear = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=hear) as process:  # noqa: PLW1509
            connection, _ = silent.accept()  # it waits for an answer now
            os.kill(process.pid, signal.SIGINT)
            code = until(process.poll, 30, "the command has ended")
            connection.close()
            assert process.stderr is not None
            assert process.stderr.read() == "error: interrupted\n"
    assert code == INTERRUPTED
