"""Train a recipe: read, cache, fit with checkpoints, and hand back the averaged network."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, WeightAveraging
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.data import DataLoader

from models.architectures import Network, build
from models.bundle import find_bundle, read_bundle
from models.errors import ModelError, RecipeError
from models.training.dataset import FilmDataset, LabelledStudy
from models.training.films import Augmentation, CachedFilms, StudyBatches, seed_everything
from models.training.module import FindingsModule, Lessons
from models.training.recipe import Recipe
from models.training.reports import embed_reports, likeness
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
        Of the bundle, in the order of the vocabulary's list.
    beside
        Labels of further lists.
    auxiliary
        Headings that are learnt beside, most frequent first.
    """

    keys: tuple[str, ...]
    beside: tuple[str, ...]
    auxiliary: tuple[str, ...]

    @property
    def width(self) -> int:
        """Of the head while training."""
        return len(self.keys) + len(self.beside) + len(self.auxiliary)

    @property
    def columns(self) -> tuple[slice, ...]:
        """Ranges of the outputs: keys, beside, auxiliary, without the empty ones."""
        ends = (0, len(self.keys), len(self.keys) + len(self.beside), self.width)
        return tuple(slice(start, end) for start, end in pairwise(ends) if end > start)

    def truth(self, studies: tuple[LabelledStudy, ...]) -> Tensor:
        """0, 1, or NaN where the data set does not speak of a label; float32, shape (studies, width)."""
        rows = [
            [float(key in study.keys) if study.knows(key) else math.nan for key in (*self.keys, *self.beside)]
            + [
                math.nan if study.headings is None else float(heading in study.headings)
                for heading in self.auxiliary
            ]
            for study in studies
        ]
        return torch.tensor(rows, dtype=torch.float32)


def plan(recipe: Recipe, dataset: FilmDataset, vocabulary: Vocabulary) -> Plan:
    """Choose the outputs; the headings are counted in ``train`` only."""
    counts = Counter(heading for study in dataset.split("train") for heading in study.headings or ())
    enough = recipe.auxiliary_reports or len(dataset.split("train")) + 1
    auxiliary = sorted(
        (name for name, count in counts.items() if count >= enough), key=lambda n: (-counts[n], n)
    )
    keys = vocabulary.keys(recipe.list)
    lists = (vocabulary.keys(name) for name in recipe.beside)
    beside = dict.fromkeys(key for found in lists for key in found if key not in keys)
    return Plan(keys, tuple(beside), tuple(auxiliary))


def lessons_of(recipe: Recipe, outputs: Plan, studies: tuple[LabelledStudy, ...]) -> Lessons:
    """Gather what is to be learnt; the reports are embedded here, which takes a minute for thousands."""
    truth = outputs.truth(studies)
    if recipe.alignment is None:
        return Lessons(truth, outputs.columns)
    reported = [number for number, study in enumerate(studies) if study.report]
    if not reported:
        raise RecipeError("[alignment] needs reports, and the data set has none: take the table out")
    reports = embed_reports(tuple(studies[number] for number in reported))
    headings = sorted({term for number in reported for term in studies[number].headings or ()})
    named = torch.tensor(
        [[term in (studies[number].headings or ()) for term in headings] for number in reported],
        dtype=torch.float32,
    )
    target = (likeness(reports, named) / recipe.alignment.softness).softmax(dim=1)
    report_of = torch.full((len(studies),), -1)
    report_of[reported] = torch.arange(len(reported))
    return Lessons(truth, outputs.columns, reports, target, report_of)


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
    elif table.start.startswith("bundle:"):
        _load_trunk(network, table.start.removeprefix("bundle:"))
    # Rare labels start near their prevalence, so that the first steps are not spent on learning "mostly no".
    nn.init.constant_(network.head.bias, -3.0)
    return network.to(memory_format=torch.channels_last)


def _load_trunk(network: Network, name: str) -> None:
    """Take every weight of a bundle but the head's."""
    state = read_bundle(find_bundle(name)).network().state_dict()
    trunk = {key: value for key, value in state.items() if not key.startswith("head.")}
    try:
        missing, unexpected = network.load_state_dict(trunk, strict=False)
    except RuntimeError as error:
        raise RecipeError(f"start: bundle {name} has another architecture") from error
    odd = [key for key in (*missing, *unexpected) if not key.startswith("head.")]
    if odd:
        raise RecipeError(f"start: bundle {name} has another architecture, they differ in {odd[0]}")


def fit(
    recipe: Recipe,
    dataset: FilmDataset,
    vocabulary: Vocabulary,
    *,
    run: Path,
    further: tuple[FilmDataset, ...] = (),
    threads: int | None = None,
    callbacks: list[lightning.Callback] | None = None,
    caching: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[Network, Plan]:
    """Train, or resume what is in the run folder.

    Parameters
    ----------
    further
        As the recipe's ``further`` names them; their ``train`` is learnt from too.
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
    val = dataset.split("val")
    learnt = tuple(study for each in (dataset, *further) for study in each.split("train"))
    module = FindingsModule(
        network_of(recipe, outputs.width),
        recipe,
        lessons=lessons_of(recipe, outputs, learnt),
        truth_val=outputs.truth(val),
        findings=len(outputs.keys),
        augment=augmentation,
    )
    size = recipe.optimizer.batch_size
    films = CachedFilms(learnt, preprocessing, progress=caching)
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
            DataLoader(films, batch_sampler=StudyBatches(films.study_of, size, order)),
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
        if not path.exists():
            path.write_text(wanted, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != wanted:
            raise RecipeError(f"{run} holds a run of another recipe or data set; choose another run folder")
    except OSError as error:
        raise RecipeError(f"run folder {run} cannot be used: {error.strerror}") from error
