"""Hardware of a training: device, processes, threads and numeric precision; imports torch for a GPU alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, get_args

from models.errors import UsageError

Precision = Literal["32-true", "16-mixed", "bf16-mixed"]
"""Numeric precision by its name in Lightning."""

ACCELERATORS: Final = ("cpu", "gpu", "auto")
"""Devices to choose from; ``auto`` takes a GPU where there is one."""


@dataclass(frozen=True, slots=True)
class TrainingHardware:
    """Hardware and precision of a training.

    Attributes
    ----------
    accelerator, devices, nodes, precision
        As Lightning's Trainer takes them.
    threads
        Number of torch threads; None leaves the default.

    Raises
    ------
    UsageError
        If a name is none of those to choose from, or there are fewer GPUs than asked for.
    """

    accelerator: str = "cpu"
    devices: int = 1
    nodes: int = 1
    precision: Precision = "32-true"
    threads: int | None = None

    def __post_init__(self) -> None:
        for option, value, known in (
            ("--accelerator", self.accelerator, ACCELERATORS),
            ("--precision", self.precision, get_args(Precision)),
        ):
            if value not in known:
                raise UsageError(f"{option} {value!r} is none of {', '.join(known)}")
        if self.accelerator == "gpu":
            import torch  # noqa: PLC0415 - takes seconds, and only a GPU has to be looked for

            if (there := torch.cuda.device_count()) < self.devices:
                raise UsageError(
                    f"--accelerator gpu: torch finds {there} GPUs where {self.devices} are asked for; "
                    "use --accelerator cpu, or look at the NVIDIA driver and the installed torch"
                )
