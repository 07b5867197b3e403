from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from models.errors import UsageError
from models.training.hardware import TrainingHardware
from tests.support.peers import ROOT


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"accelerator": "cuda"}, r"--accelerator 'cuda' is none of cpu, gpu, auto"),
        ({"precision": "fp16"}, r"--precision 'fp16' is none of 32-true"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(values: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        TrainingHardware(**values)  # type: ignore[arg-type]


def test_a_gpu_that_is_not_there_is_said_before_a_film_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UsageError, match=r"torch finds 0 GPUs where 1 are asked for; use --accelerator cpu"):
        TrainingHardware("gpu")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert TrainingHardware("gpu").accelerator == "gpu"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_the_command_says_so_in_one_sentence(tmp_path: Path) -> None:
    said = subprocess.run(
        [sys.executable, "-m", "dicom_node", "train", ROOT / "models/recipes/openi-findings.toml",
         "--data", tmp_path / "nowhere", "--accelerator", "gpu"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert said.returncode == 2
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("error: --accelerator gpu: torch finds 0 GPUs")
