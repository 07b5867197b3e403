"""Cold commands: seconds and processor time from the shell's point of view, in a new interpreter each."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import factories
from tests.support.benchmarks import Record, Target, Use, few, use_of
from tests.support.offline_node import OfflineNode
from tests.support.peers import StoreSCP

RUNS = few(9, 3)
NODE = [sys.executable, "-m", "dicom_node"]
HALF = Target("at most", 0.5)


def uses(argv: list[str], environment: dict[str, str]) -> list[Use]:
    """Uses of several runs, after one that fills the caches of the disk."""
    use_of(argv, environment)
    return [use_of(argv, environment) for _ in range(RUNS)]


@pytest.mark.peer
def test_light_commands(tmp_path: Path, record: Record) -> None:
    OfflineNode(tmp_path / "node").close()
    environment = {"DICOM_NODE_DATA_DIR": str(tmp_path / "node")}
    with StoreSCP(tmp_path / "pacs") as pacs:
        at, port = f"{pacs.ae_title}@127.0.0.1:{pacs.port}", str(pacs.port)
        peer = uses(["echoscu", "-aec", pacs.ae_title, "127.0.0.1", port], {})
        bare = uses([sys.executable, "-c", "pass"], {})
        for words, target in (
            (["--help"], Target("at most", 0.3)),
            (["status"], HALF),
            (["echo", at], HALF),
            (["config", "check"], HALF),
        ):
            by, theirs = ("DCMTK echoscu", peer) if words[0] == "echo" else ("Python alone", bare)
            record(
                f"processor time of {' '.join(word for word in words if word != at)}",
                "s",
                [use.cpu for use in uses([*NODE, *words], environment)],
                peer=by,
                peer_samples=[use.cpu for use in theirs],
                target=target,
            )


@pytest.mark.parametrize(("runtime", "target"), [("onnx", Target("at most", 2.5)), ("torch", None)])
def test_analyze(runtime: str, target: Target | None, tmp_path: Path, record: Record) -> None:
    film = factories.write(factories.film(rows=2236, columns=2236), tmp_path / "film.dcm")
    environment = {
        "DICOM_NODE_DATA_DIR": str(tmp_path / "node"),
        "DICOM_NODE_WORKER__RUNTIME": runtime,
        "DICOM_NODE_WORKER__GATE": "",  # it rightly refuses drawn films
    }
    folders = [str(tmp_path / f"results-{number}") for number in range(1 + few(5, 1))]
    _, *runs = [use_of([*NODE, "analyze", str(film), "--out", folder], environment) for folder in folders]
    name = f"analyze one film of 10 MB, {runtime}"
    record(f"{name}, until it ends", "s", [use.wall for use in runs], target=target)
    record(f"{name}, processor time", "s", [use.cpu for use in runs])
    record(f"{name}, peak memory", "MiB", [use.peak for use in runs])
