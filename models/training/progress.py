"""One moving bar for the steps of an epoch, one line that stays for each epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightning
from rich.progress import Progress, TaskID


class EpochLine(lightning.Callback):
    """Shows a training on a terminal.

    Parameters
    ----------
    progress
        Holds the bar.
    say
        Prints a line.
    """

    def __init__(self, progress: Progress, say: Callable[[str], None]) -> None:
        self.progress = progress
        self.say = say
        self.task: TaskID | None = None

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Start a new bar."""
        text = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        self.task = self.progress.add_task(text, total=int(trainer.num_training_batches))

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,  # noqa: ARG002
        pl_module: lightning.LightningModule,  # noqa: ARG002
        outputs: Any,  # noqa: ARG002
        batch: Any,  # noqa: ARG002
        batch_idx: int,
    ) -> None:
        """Move the bar."""
        if self.task is not None:
            self.progress.update(self.task, completed=batch_idx + 1)

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Say how it went."""
        if self.task is not None:
            self.progress.remove_task(self.task)
        known = {name: float(value) for name, value in trainer.callback_metrics.items()}
        figures = ", ".join(
            f"{text} {known[name]:.3f}"
            for name, text in (("loss", "loss"), ("val_loss", "val loss"), ("val_auc", "val AUC"))
            if name in known
        )
        self.say(f"epoch {trainer.current_epoch + 1}: {figures}")
