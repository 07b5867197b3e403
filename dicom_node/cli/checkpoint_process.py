"""Checkpoint process: opens a pickle of weights, confined, and writes its tensors as a safetensors file.

It reads the checkpoint from standard input and answers on standard output. Only tensors are unpickled
(``weights_only``), and the process could reach nothing if that were not enough.
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

from dicom_node.errors import ConfigurationError, NodeError

_SECONDS = 300
_MEMORY = 16 * 1024**3
_FAILED = 3


def read_checkpoint(path: Path) -> bytes:
    """Return the tensors of a ``.pt`` or ``.pth`` file as a safetensors file.

    Raises
    ------
    ConfigurationError
        If the file has another suffix.
    NodeError
        If it holds anything but tensors, or cannot be read.
    """
    if path.suffix not in (".pt", ".pth"):
        raise ConfigurationError(f"{path}: weights come as .safetensors, .pt or .pth")
    command = [sys.executable, "-m", "dicom_node.cli.checkpoint_process"]
    try:
        with path.open("rb") as checkpoint:
            done = subprocess.run(
                command, stdin=checkpoint, capture_output=True, timeout=_SECONDS, check=False
            )
    except OSError as error:
        raise NodeError(f"{path} cannot be read: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise NodeError(f"{path} was not read within {_SECONDS} seconds") from error
    if done.returncode == _FAILED:
        reason = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1]
        raise NodeError(
            f"{path} is damaged, or holds more than weights, and is not opened ({reason}); if you trust "
            "it, save its weights alone: torch.save(network.state_dict(), FILE)"
        )
    if done.returncode:
        raise NodeError(f"{path}: the process that reads it ended with {done.returncode}")
    return done.stdout


def main() -> int:
    """Answer the parent: the safetensors file, or a reason on standard error and the exit code 3."""
    import torch
    from safetensors.torch import save

    from dicom_node.imaging.confinement import confine, limit_cpu
    from models.foreign.state_dict import plain_state

    raw = sys.stdin.buffer.read()
    confine(_MEMORY, os.getppid(), [Path(torch.__file__).parent])
    limit_cpu(_SECONDS)
    try:
        answer = save(plain_state(torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)))
    except Exception as error:  # noqa: BLE001 - a damaged or hostile pickle may raise anything
        sys.stderr.write(f"{type(error).__name__}: {' '.join(str(error).split())[:200]}\n")
        return _FAILED
    sys.stdout.buffer.write(answer)
    return 0


if __name__ == "__main__":
    sys.exit(main())
