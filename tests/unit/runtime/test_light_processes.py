"""The SCP, the sender and the page start without what only a worker needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import factories

HEAVY = (
    "torch",
    "timm",
    "monai",
    "transformers",
    "open_clip",
    "lightning",
    "highdicom",
    "sklearn",
    "matplotlib",
)


@pytest.mark.parametrize(
    ("module", "also"),
    [
        ("dicom_node.cli.app", ("celery", "fastapi", "alembic")),
        ("dicom_node.dimse.server.scp", ("celery", "fastapi", "alembic")),
        ("dicom_node.delivery.sender", ("celery", "fastapi", "alembic")),
        ("dicom_node.web.app", ("celery", "alembic")),
        ("worker.sweep", ("fastapi", "alembic")),
        ("worker.tasks", ()),
    ],
)
def test_a_light_process_imports_nothing_heavy(module: str, also: tuple[str, ...]) -> None:
    heavy = {*HEAVY, *also} - ({"torch", "timm"} if module == "worker.tasks" else set())
    code = f"import sys, {module}; print(*sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_the_process_whose_copies_are_the_parts_has_nothing_heavy() -> None:
    heavy = {*HEAVY, "fastapi", "onnxruntime"}
    code = (
        "import sys; from dicom_node.cli import node; from dicom_node.runtime.supervisor import ChildProcess;"
        "node._import_parts([ChildProcess(name) for name in ('scp-1', 'sweep', 'sender', 'web')]);"
        f"print(*sorted({heavy!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize(
    ("words", "without"),
    [
        (["--help"], {"pydantic_settings", "sqlalchemy", "pydicom", "pynetdicom", "numpy"}),
        (["--version"], {"pydantic_settings", "sqlalchemy", "pydicom", "pynetdicom", "numpy"}),
        (["nothing"], {"pydantic_settings", "sqlalchemy", "pydicom", "pynetdicom", "numpy"}),
        (["status", "--nothing"], {"pydicom", "pynetdicom", "numpy"}),
        (["config", "show"], {"sqlalchemy", "pydicom", "pynetdicom", "numpy"}),
        (["status"], {"pydicom", "pynetdicom", "numpy"}),
        (["echo", "PEER@127.0.0.1:9"], {"sqlalchemy"}),
        (["send", "/etc/hostname", "--to", "PEER@127.0.0.1:9"], {"sqlalchemy"}),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_light_command_imports_no_library_that_it_does_not_need(
    tmp_path: Path, words: list[str], without: set[str]
) -> None:
    code = (
        f"import sys\nfrom dicom_node.cli.app import main\nsys.argv[1:] = {words!r}\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', *sorted({without!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "DICOM_NODE_DATA_DIR": str(tmp_path)},
    )
    assert done.stdout.splitlines()[-1] == "LOADED"


def test_analyze_in_the_light_runtime_imports_no_library_that_it_does_not_need(
    tmp_path: Path,
) -> None:
    factories.write(factories.film(), tmp_path / "film.dcm")
    without = {*HEAVY, "celery", "sqlalchemy", "reportlab", "pynetdicom", "scipy", "skimage", "pandas"}
    code = (
        "import sys\nfrom dicom_node.cli.app import main\n"
        f"sys.argv[1:] = ['analyze', {str(tmp_path / 'film.dcm')!r}, '--out', {str(tmp_path / 'out')!r}]\n"
        "try:\n    main()\nexcept SystemExit as error:\n    print('EXIT', error.code)\n"
        f"print('LOADED', *sorted({without!r} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={
            **os.environ,
            "DICOM_NODE_DATA_DIR": str(tmp_path / "node"),
            "DICOM_NODE_WORKER__GATE": "",  # it rightly refuses drawn films
            "DICOM_NODE_WORKER__RUNTIME": "onnx",
        },
    )
    assert done.stdout.splitlines()[-1] == "LOADED", done.stdout + done.stderr
    assert list((tmp_path / "out").rglob("*-sr.dcm"))
