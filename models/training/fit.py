"""Train a recipe: read, cache, fit with checkpoints, and hand back the averaged network."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from models.architectures.interface import Network
from models.data.dataset import FilmDataset
from models.errors import Interrupted, RecipeError, TrainingError
from models.labels.vocabulary import Vocabulary
from models.text.tokenizer import Tokenizer
from models.training.film_batches import Augmentation, CachedFilms, StudyBatches, seed_everything
from models.training.hardware import TrainingHardware
from models.training.history import History
from models.training.initial_weights import initial_network
from models.training.label_plan import LabelPlan, plan_labels, tokens_of, training_targets
from models.training.module import FindingsModule
from models.training.recipe import Recipe

logger = logging.getLogger(__name__)

_CHECKPOINT = "last.ckpt"
_BEST = "best.ckpt"
_PLAN = "plan.json"


class _SeededEpochs(lightning.Callback):
    """Seed dropout and augmentation by epoch, so that a resumed run draws what it would have drawn."""

    def __init__(self, augmentation: Augmentation, seed: int) -> None:
        self.augmentation = augmentation
        self.first = seed

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        seed = epoch_seed(self.first, trainer.current_epoch)
        torch.manual_seed(seed)
        self.augmentation.seed(seed)


def epoch_seed(seed: int, epoch: int) -> int:
    """Seed of one epoch, counted from 0."""
    return seed * 1000 + epoch


@dataclass(frozen=True, slots=True)
class Trained:
    """Result of a training.

    Attributes
    ----------
    network
        Network on the CPU in evaluation mode, with the averaged or best weights and all auxiliary outputs.
    outputs
        Label plan of the outputs.
    tokenizer
        Tokenizer of the texts; None for a network that reads none.
    """

    network: Network
    outputs: LabelPlan
    tokenizer: Tokenizer | None = None


def fit(
    recipe: Recipe,
    dataset: FilmDataset,
    vocabulary: Vocabulary,
    *,
    run: Path,
    further: tuple[FilmDataset, ...] = (),
    engine: TrainingHardware | None = None,
    callbacks: list[lightning.Callback] | None = None,
    caching: Callable[[int, int], None] = lambda _done, _all: None,
) -> Trained:
    """Train, or resume what is in the run folder.

    Parameters
    ----------
    run
        Folder for the checkpoint and the logs of the losses (CSV and TensorBoard); made when it is not there.
    further
        Data sets named by the recipe's ``further``; their ``train`` is used too.
    engine
        Hardware; one process on the CPU when absent.
    callbacks
        Further Lightning callbacks, such as a progress bar.
    caching
        Function called with the number of films read and the total.

    Raises
    ------
    RecipeError
        If the folder holds a run of another recipe.
    DatasetError
        If a film cannot be read.
    TrainingError
        If a checkpoint cannot be written; the one before stays.
    Interrupted
        On Ctrl-C; the checkpoint of the last whole epoch stays.
    """
    engine = engine or TrainingHardware()
    if engine.threads:
        torch.set_num_threads(engine.threads)
    seed_everything(recipe.seed)
    outputs = plan_labels(recipe, dataset, vocabulary)
    _claim(run, recipe, outputs)
    started = initial_network(recipe, outputs.width)
    augmentation = Augmentation(recipe.augmentation)
    val = dataset.split("val")
    learnt = tuple(study for each in (dataset, *further) for study in each.split("train"))
    module = FindingsModule(
        started.network,
        recipe,
        targets=training_targets(recipe, outputs, learnt, started.tokenizer),
        truth_val=outputs.truth(val),
        tokens_val=tokens_of(recipe, val, started.tokenizer),
        findings=len(outputs.keys),
        augment=augmentation,
    )
    preprocessing, size = recipe.preprocessing.build(), recipe.optimizer.batch_size
    films = CachedFilms(learnt, preprocessing, progress=caching)
    trainer = _trainer(recipe, engine, run, [_SeededEpochs(augmentation, recipe.seed), *(callbacks or [])])
    batches = StudyBatches(
        films.study_of,
        size,
        seed=lambda: epoch_seed(recipe.seed, trainer.current_epoch),
        rank=trainer.global_rank,
        world=trainer.world_size,
    )
    checkpoint = run / _CHECKPOINT
    try:
        trainer.fit(
            module,
            # A loader draws a number for its workers; not from the stream that dropout draws from.
            DataLoader(films, batch_sampler=batches, generator=torch.Generator()),
            DataLoader(CachedFilms(val, preprocessing), batch_size=size),
            ckpt_path=checkpoint if checkpoint.exists() else None,
            weights_only=True,
        )
    except SystemExit as error:
        # Lightning's answer to Ctrl-C, which would end the program without a word.
        raise Interrupted(
            f"training stopped in epoch {trainer.current_epoch + 1}; the same command resumes it"
        ) from error
    except (OSError, RuntimeError) as error:
        if not isinstance(error, OSError) and "PytorchStreamWriter" not in str(error):
            raise
        raise TrainingError(
            f"run folder {run}: the checkpoint of epoch {trainer.current_epoch + 1} cannot be written: "
            f"{error}; make room, and the same command goes on from the epoch before"
        ) from error
    # A checkpoint holds the averaged weights; the module has them only behind a run that went to its end.
    kept = torch.load(
        run / (_BEST if recipe.patience else _CHECKPOINT), map_location="cpu", weights_only=True
    )
    module.load_state_dict(kept["state_dict"])
    return Trained(module.network.to("cpu").eval(), outputs, started.tokenizer)


def _trainer(
    recipe: Recipe, engine: TrainingHardware, run: Path, callbacks: list[lightning.Callback]
) -> lightning.Trainer:
    # Without a measure to watch, the one checkpoint that is kept is that of the last whole epoch.
    last = ModelCheckpoint(dirpath=run, filename=Path(_CHECKPOINT).stem, enable_version_counter=False)
    callbacks = [History(run), last, *callbacks]
    if recipe.optimizer.average_decay:
        # All tensors at once: EMAWeightAveraging takes them one by one, for a tenth of a step.
        callbacks.insert(
            0, WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(recipe.optimizer.average_decay))
        )
    if recipe.patience:
        callbacks += [
            ModelCheckpoint(
                dirpath=run, filename=Path(_BEST).stem, monitor="val_auc", mode="max",
                enable_version_counter=False,
            ),
            EarlyStopping(monitor="val_auc", mode="max", patience=recipe.patience),
        ]  # fmt: skip
    return lightning.Trainer(
        accelerator=engine.accelerator,
        devices=engine.devices,
        num_nodes=engine.nodes,
        precision=engine.precision,
        max_epochs=recipe.epochs,
        gradient_clip_val=recipe.optimizer.clip or None,
        default_root_dir=run,
        logger=[CSVLogger(run, name="log"), TensorBoardLogger(run, name="tensorboard")],
        callbacks=callbacks,
        plugins=[WholeCheckpoints()],
        # StudyBatches gives each process its own batches.
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )


class WholeCheckpoints(TorchCheckpointIO):
    """Writes a checkpoint beside the one before and then renames it: a full disk or a kill spoils neither."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Write a checkpoint whole or not at all."""
        part = Path(f"{path}.part")
        try:
            super().save_checkpoint(checkpoint, part, storage_options)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _claim(run: Path, recipe: Recipe, outputs: LabelPlan) -> None:
    """Write down what the run folder holds, or check that it is the same."""
    wanted = json.dumps(
        {
            "recipe": recipe.model_dump(mode="json"),
            "keys": outputs.keys,
            "beside": outputs.beside,
            "auxiliary": outputs.auxiliary,
        },
        indent=2,
    )
    path = run / _PLAN
    try:
        run.mkdir(parents=True, exist_ok=True)
        # A run that failed before its first epoch ended has left nothing that a corrected recipe could spoil.
        if not path.exists() or not (run / _CHECKPOINT).exists():
            path.write_text(wanted, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != wanted:
            raise RecipeError(f"{run} holds a run of another recipe or data set; choose another run folder")
    except OSError as error:
        raise RecipeError(f"run folder {run} cannot be used: {error.strerror}") from error
