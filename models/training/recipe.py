"""Recipe of a training, of a bundle or the gate: frozen models of the TOML tables that know every key."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from models.processing.transforms import Preprocessing

Probability = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ArchitectureTable(_Table):
    """``[architecture]``.

    Attributes
    ----------
    name
        Key of :data:`models.architectures.registry.BUILDERS`.
    start
        Source of the initial weights: ``imagenet``, ``random``, or ``bundle:NAME`` for all but the head.
    towers
        Published encoders that towers start from, by the tower's name
        (:mod:`models.pretrained.weight_sources`).
    arguments
        Keyword arguments of the builder.
    """

    name: str
    towers: dict[str, str] = {}
    start: Annotated[str, Field(pattern=r"^(imagenet|random|bundle:.+)$")] = "random"
    arguments: dict[str, Any] = {}


class Stage(_Table):
    """One of ``[[stages]]``: some epochs at one input size, in pixels."""

    epochs: Annotated[int, Field(ge=1)]
    size: Annotated[int, Field(ge=16)]


class OptimizerTable(_Table):
    """``[optimizer]``.

    Attributes
    ----------
    name
        ``adamw`` (Loshchilov & Hutter 2019) or ``adam`` (Kingma & Ba 2015).
    batch_size
        Films per step.
    learning_rate
        Highest learning rate of the schedule.
    weight_decay
        Weight decay; not applied to biases and norms.
    schedule
        ``one_cycle`` (Smith 2018), ``cosine`` down to 0, ``plateau``: a tenth after two epochs in which the
        validation loss did not fall, or ``constant``.
    warmup
        Share of the steps until the highest rate of one cycle.
    clip
        Largest norm of the gradient; 0 for any.
    average_decay
        Decay of the exponential moving average of the weights, which is exported; 0 exports the last weights.
    """

    name: Literal["adamw", "adam"] = "adamw"
    batch_size: Annotated[int, Field(ge=2)]
    learning_rate: Annotated[float, Field(gt=0)]
    weight_decay: Annotated[float, Field(ge=0)] = 0.02
    schedule: Literal["one_cycle", "cosine", "plateau", "constant"] = "one_cycle"
    warmup: Probability = 0.2
    clip: Annotated[float, Field(ge=0)] = 0.0
    average_decay: Probability = 0.995


class ExtraDataset(_Table):
    """One of ``[[further]]``: another data set whose ``train`` is used for training too.

    Attributes
    ----------
    dataset
        Short name of the data set.
    folder
        Folder of the data set, relative to that of the first.
    """

    dataset: str
    folder: str


class ExtraBundle(_Table):
    """One of ``[[also]]``: a further bundle of the same training, with other outputs of the same network.

    Attributes
    ----------
    name, summary
        Name and summary of the bundle; its version is the recipe's.
    list
        List of the vocabulary, among ``list`` and ``beside`` of the recipe.
    dataset
        Data set for calibration and metrics: the first, or one of ``further``; the first when absent.
    """

    name: Name
    summary: str
    list: str
    dataset: str | None = None


class AlignmentTable(_Table):
    """``[alignment]``: images and reports share an embedding space (as in ConVIRT, Zhang et al. 2020).

    A film is compared with every report of ``train`` at once. A similar report is not a wrong answer, so the
    target is soft: it follows the similarity of the reports' sentences and headings.

    Attributes
    ----------
    weight
        Weight of this loss relative to that of the labels.
    softness
        Temperature of the targets.
    """

    weight: Annotated[float, Field(gt=0)] = 0.05
    softness: Annotated[float, Field(gt=0)] = 0.1


class LossTable(_Table):
    """``[loss]`` over the labels.

    Attributes
    ----------
    kind
        ``bce`` for binary cross-entropy, ``focal`` for its focal form (Lin et al. 2017), or ``both`` for
        their sum.
    alpha, gamma
        Parameters of the focal form: weight of present labels, and how strongly easy examples are discounted.
    class_weights
        True weights a label's positives as much in total as its negatives, at most twenty times each.
    """

    kind: Literal["bce", "focal", "both"] = "bce"
    alpha: Probability = 0.25
    gamma: Annotated[float, Field(ge=0)] = 2.0
    class_weights: bool = False


class FoldsTable(_Table):
    """``[folds]``: the number of epochs is found by cross-validation over the patients of train and val.

    The epoch with the highest mean validation AUC is chosen, and the bundle is trained on ``train`` up to it;
    the stage gives the largest number that is tried.

    Attributes
    ----------
    count
        Number of folds.
    """

    count: Annotated[int, Field(ge=2)] = 5


class AugmentationTable(_Table):
    """``[augmentation]``.

    Attributes
    ----------
    probability
        Probability of each of the three changes: the affine one, contrast and brightness.
    rotate
        Largest angle, in radians.
    translate, scale
        Largest shift on each axis and largest relative change of size, as a share of the film.
    gamma
        Largest relative change of contrast.
    brightness
        Largest offset of the pixel values, which lie in [0, 1].
    mixup
        Parameter of the Beta distribution that gives the share of each film when films of half the batches
        are blended in pairs, without their text; 0 for never.
    """

    probability: Probability = 0.9
    rotate: Annotated[float, Field(ge=0, le=0.5)] = 0.12
    translate: Annotated[float, Field(ge=0, le=0.3)] = 0.05
    scale: Annotated[float, Field(ge=0, le=0.3)] = 0.1
    gamma: Annotated[float, Field(ge=0, lt=1)] = 0.3
    brightness: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    mixup: Annotated[float, Field(ge=0)] = 0.0


class PreprocessingTable(_Table):
    """``[preprocessing]``: parameters of :class:`models.processing.transforms.Preprocessing`, all needed."""

    grid: int
    low: float
    high: float
    size: int
    channels: int
    mean: float
    std: float

    def build(self) -> Preprocessing:
        """The function object."""
        return Preprocessing(**self.model_dump())


class Recipe(_Table):
    """Recipe for training a bundle.

    Attributes
    ----------
    name, version, summary
        Name, version and summary of the bundle.
    dataset
        Short name of the first data set.
    list
        List of the vocabulary: the labels that the bundle predicts, in order.
    beside
        Other lists of the vocabulary that are learnt in addition; the exported bundle drops them.
    auxiliary_reports
        Smallest number of training reports with which a heading is learnt in addition; 0 for none.
    study_weight
        Share of the loss that is measured on the mean over a study's films, as the bundle scores; the rest is
        measured film by film.
    seed
        Random seed.
    further
        Other data sets for training.
    also
        Other bundles of the same training.
    alignment
        Alignment of images with reports; None for none.
    text
        Text that the network reads with the films: none, the indication, or the report without the terms of
        its labels. The last is for research on text: a node has no report when a film arrives.
    text_dropout
        Share of the studies whose text is withheld in each step, so that films are read without text too.
    max_length
        Largest length of a text, in tokens.
    patience
        Training ends when the validation AUC has not risen for so many epochs, and the best epoch is
        released; 0 trains to the end and releases the last.
    stages
        In order; the last has the size of ``preprocessing.size``, at which the bundle serves.
    """

    name: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    summary: str
    dataset: str
    list: str
    beside: tuple[str, ...] = Field(default=(), strict=False)
    auxiliary_reports: Annotated[int, Field(ge=0)] = 0
    study_weight: Probability = 0.0
    seed: Annotated[int, Field(ge=0)] = 0
    further: tuple[ExtraDataset, ...] = Field(default=(), strict=False)
    also: tuple[ExtraBundle, ...] = Field(default=(), strict=False)
    alignment: AlignmentTable | None = None
    text: Literal["none", "indication", "report"] = "none"
    text_dropout: Probability = 0.5
    max_length: Annotated[int, Field(ge=3)] = 256
    loss: LossTable = LossTable()
    folds: FoldsTable | None = None
    patience: Annotated[int, Field(ge=0)] = 0
    architecture: ArchitectureTable
    preprocessing: PreprocessingTable
    stages: tuple[Stage, ...] = Field(min_length=1, strict=False)
    optimizer: OptimizerTable
    augmentation: AugmentationTable = AugmentationTable()

    @model_validator(mode="after")
    def _fits_itself(self) -> Recipe:
        preprocessing = self.preprocessing.build()
        for stage in self.stages:
            preprocessing.resized(stage.size)
        if self.stages[-1].size != preprocessing.size:
            raise ValueError(
                f"the last stage trains at {self.stages[-1].size} pixels, "
                f"the bundle would serve at {preprocessing.size}"
            )
        for bundle in self.also:
            if bundle.list not in (self.list, *self.beside):
                raise ValueError(
                    f"[[also]] {bundle.name}: list {bundle.list!r} is not learnt; add it to beside"
                )
            if bundle.dataset not in (None, self.dataset, *(entry.dataset for entry in self.further)):
                raise ValueError(
                    f"[[also]] {bundle.name}: data set {bundle.dataset!r} is none of the recipe's"
                )
        if self.folds is not None and len(self.stages) > 1:
            raise ValueError("[folds] finds the number of epochs of one stage, and there are more")
        return self

    @property
    def bundles(self) -> tuple[ExtraBundle, ...]:
        """Bundles of the training, the first one first."""
        return (ExtraBundle(name=self.name, summary=self.summary, list=self.list), *self.also)

    @property
    def epochs(self) -> int:
        """Number of epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)

    def lasting(self, epochs: int) -> Recipe:
        """The same recipe for another number of epochs of its one stage, all of them."""
        stage = self.stages[-1].model_copy(update={"epochs": epochs})
        return self.model_copy(update={"stages": (stage,), "folds": None, "patience": 0})

    def size_at(self, epoch: int) -> int:
        """Input size of an epoch, counted from 0; beyond the last one, that of the last."""
        end = 0
        for stage in self.stages:
            end += stage.epochs
            if epoch < end:
                return stage.size
        return self.stages[-1].size


class NegativesTable(_Table):
    """``[negatives]``: pictures that are no chest films.

    Attributes
    ----------
    folder
        One folder of image files for each source; relative to that of the first data set.
    held_out
        Sources kept for measuring the gate; nothing is fitted to them.
    drawings
        Number of pictures drawn of each family of :mod:`models.gate.synthetic_negatives`.
    """

    folder: str
    held_out: tuple[str, ...] = Field(min_length=1, strict=False)
    drawings: Annotated[int, Field(ge=1)] = 100


class GateArchitecture(_Table):
    """``[architecture]`` of a gate: ``backbone``, a timm configuration, and where its weights come from."""

    backbone: str
    start: Literal["imagenet", "random"]


class GateRecipe(_Table):
    """Recipe for fitting a gate; the file has ``kind = "gate"``.

    Attributes
    ----------
    name, version, summary
        Name, version and summary of the gate.
    dataset, further
        Chest films, as in :class:`Recipe`.
    seed
        Random seed.
    kept
        Share of the varied ``val`` films that each of the thresholds, which are chosen there, must let pass.
    """

    kind: Literal["gate"]
    name: Name
    version: Annotated[str, Field(pattern=r"^\d+\.\d+\.\d+$")]
    summary: str
    dataset: str
    further: tuple[ExtraDataset, ...] = Field(default=(), strict=False)
    seed: Annotated[int, Field(ge=0)] = 0
    kept: Annotated[float, Field(gt=0.5, lt=1)] = 0.998
    negatives: NegativesTable
    architecture: GateArchitecture
    preprocessing: PreprocessingTable
