"""The SCP, the sender and the page start without what only a worker needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
