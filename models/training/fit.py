"""Train a recipe: read, cache, fit with checkpoints, and hand back the averaged network."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from models.architectures import Network, build
from models.errors import ModelError, RecipeError
from models.training.dataset import FilmDataset, LabelledStudy
from models.training.films import Augmentation, CachedFilms, seed_everything
from models.training.module import FindingsModule
from models.training.recipe import Recipe
from models.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

_CHECKPOINT = "last.ckpt"
_PLAN = "plan.json"


class Interrupted(ModelError):
    """The training was stopped by the user; the same command resumes it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run learns: the order of its outputs.

    Attributes
    ----------
    keys
        Findings, in the order of the vocabulary's list.
    auxiliary
        Headings that are learnt beside, most frequent first.
    """

    keys: tuple[str, ...]
    auxiliary: tuple[str, ...]

    @property
    def width(self) -> int:
        """Of the head while training."""
        return len(self.keys) + len(self.auxiliary)

    def truth(self, studies: tuple[LabelledStudy, ...]) -> Tensor:
        """0 or 1, float32, shape (studies, width)."""
        rows = [
            [key in study.keys for key in self.keys]
            + [heading in study.headings for heading in self.auxiliary]
            for study in studies
        ]
        return torch.tensor(rows, dtype=torch.float32)


def plan(recipe: Recipe, dataset: FilmDataset, vocabulary: Vocabulary) -> Plan:
    """Choose the outputs; the headings are counted in ``train`` only."""
    counts = Counter(heading for study in dataset.split("train") for heading in study.headings)
    enough = recipe.auxiliary_reports or len(dataset.split("train")) + 1
    auxiliary = sorted(
        (name for name, count in counts.items() if count >= enough), key=lambda n: (-counts[n], n)
    )
    return Plan(vocabulary.keys(recipe.list), tuple(auxiliary))


class _SeededEpochs(lightning.Callback):
    """Seed order and augmentation by epoch, so that a resumed run sees what it would have seen."""

    def __init__(self, augmentation: Augmentation, order: torch.Generator, seed: int) -> None:
        self.augmentation = augmentation
        self.order = order
        self.first = seed

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002
        seed = self.first * 1000 + trainer.current_epoch
        self.augmentation.seed(seed)
        self.order.manual_seed(seed)


def network_of(recipe: Recipe, width: int) -> Network:
    """Build the network of a recipe with its starting weights."""
    table = recipe.architecture
    network = build(
        table.name, outputs=width, channels=recipe.preprocessing.channels, arguments=table.arguments
    )
    if table.start == "imagenet":
        network.load_imagenet()
    # Rare labels start near their prevalence, so that the first steps are not spent on learning "mostly no".
    nn.init.constant_(network.head.bias, -3.0)
    return network.to(memory_format=torch.channels_last)


def fit(
    recipe: Recipe,
    dataset: FilmDataset,
    vocabulary: Vocabulary,
    *,
    run: Path,
    threads: int | None = None,
    callbacks: list[lightning.Callback] | None = None,
    caching: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Network, Plan]:
    """Train, or resume what is in the run folder.

    Parameters
    ----------
    run
        Folder for the checkpoint and the log of the losses; made when it does not exist.
    threads
        Of torch; None leaves its choice.
    callbacks
        Further Lightning callbacks, such as a progress bar.
    caching
        Called with films read and films in all.

    Returns
    -------
    Network, Plan
        The network with the averaged weights, still with its auxiliary outputs, and what its outputs are.

    Raises
    ------
    RecipeError
        If the folder holds a run of another recipe.
    DatasetError
        If a film cannot be read.
    Interrupted
        On Ctrl-C; the checkpoint of the last whole epoch stays.
    """
    if threads:
        torch.set_num_threads(threads)
    seed_everything(recipe.seed)
    outputs = plan(recipe, dataset, vocabulary)
    _claim(run, recipe, outputs)
    preprocessing = recipe.preprocessing.build()
    augmentation = Augmentation(recipe.augmentation)
    train, val = dataset.split("train"), dataset.split("val")
    module = FindingsModule(
        network_of(recipe, outputs.width),
        recipe,
        truth_train=outputs.truth(train),
        truth_val=outputs.truth(val),
        findings=len(outputs.keys),
        augment=augmentation,
    )
    size = recipe.optimizer.batch_size
    films = CachedFilms(train, preprocessing, progress=caching)
    order = torch.Generator()
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=recipe.epochs,
        default_root_dir=run,
        logger=CSVLogger(run, name="log"),
        callbacks=[
            # All tensors at once: EMAWeightAveraging takes them one by one, for a tenth of a step.
            WeightAveraging(multi_avg_fn=get_ema_multi_avg_fn(recipe.optimizer.average_decay)),
            ModelCheckpoint(dirpath=run, save_last=True, save_top_k=0),
            _SeededEpochs(augmentation, order, recipe.seed),
            *(callbacks or []),
        ],
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    checkpoint = run / _CHECKPOINT
    try:
        trainer.fit(
            module,
            DataLoader(films, batch_size=size, shuffle=True, drop_last=True, generator=order),
            DataLoader(CachedFilms(val, preprocessing), batch_size=size),
            ckpt_path=checkpoint if checkpoint.exists() else None,
            weights_only=True,
        )
    except SystemExit as error:
        # Lightning's answer to Ctrl-C, which would end the program without a word.
        raise Interrupted(
            f"training stopped in epoch {trainer.current_epoch + 1}; the same command resumes it"
        ) from error
    return module.network.eval(), outputs


def _claim(run: Path, recipe: Recipe, outputs: Plan) -> None:
    """Write down what the run folder holds, or check that it is the same."""
    wanted = json.dumps(
        {"recipe": recipe.model_dump(mode="json"), "keys": outputs.keys, "auxiliary": outputs.auxiliary},
        indent=2,
    )
    path = run / _PLAN
    try:
        run.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            path.write_text(wanted, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != wanted:
            raise RecipeError(f"{run} holds a run of another recipe or data set; choose another run folder")
    except OSError as error:
        raise RecipeError(f"run folder {run} cannot be used: {error.strerror}") from error
