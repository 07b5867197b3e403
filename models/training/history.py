"""History of a run: losses and AUC of each epoch, stored beside its checkpoint."""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import lightning

FILE = "history.csv"


@dataclass(frozen=True, slots=True)
class Epoch:
    """One row.

    Attributes
    ----------
    epoch
        From 1.
    loss
        Training loss of the last batch.
    val_loss, val_auc
        On ``val``, with the averaged weights.
    """

    epoch: int
    loss: float
    val_loss: float
    val_auc: float


def read_history(run: Path) -> list[Epoch]:
    """Epochs of a run, in order; none before the first has ended."""
    path = run / FILE
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [
            Epoch(int(row["epoch"]), *(float(row[field.name]) for field in fields(Epoch)[1:]))
            for row in csv.DictReader(file)
        ]


class History(lightning.Callback):
    """Writes the file as the run goes; an epoch that is done again after a resume replaces its row.

    Parameters
    ----------
    run
        Folder of the run.
    """

    def __init__(self, run: Path) -> None:
        self.run = run

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        """Add the epoch."""
        if not trainer.is_global_zero:
            return
        found = {name: float(value) for name, value in trainer.callback_metrics.items()}
        row = Epoch(trainer.current_epoch + 1, found["loss"], found["val_loss"], found["val_auc"])
        rows = [*(known for known in read_history(self.run) if known.epoch < row.epoch), row]
        with (self.run / FILE).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [field.name for field in fields(Epoch)])
            writer.writeheader()
            writer.writerows(asdict(known) for known in rows)
