"""Single changes of the training, each in a short run of its own beside the unchanged recipe; on ``val``.

    python -m tests.bench.training_levers --data FOLDER_OF_OPEN_I --run-dir FOLDER --write

Every run begins from ImageNet and lasts ``EPOCHS`` epochs at ``SIZE`` pixels, without mixup, which pays in
long runs only: enough to see what is worth a whole training. An interrupted run is resumed, a finished one is
only read. Prints a Markdown table; ``--write`` writes the figures and puts the table into its document.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.architectures.convnet import ConvNet
from models.architectures.interface import Batch
from models.data.dataset import FilmDataset, LabelledStudy, targets
from models.data.readers import read_dataset
from models.evaluation.bootstrap import (
    mean_ignoring_nan,
    percentile_interval,
    resample_curve,
    resampling_weights,
)
from models.evaluation.metrics import ThresholdCurve, macro_auc, measurable_columns
from models.labels.vocabulary import Vocabulary, load_vocabulary
from models.processing.transforms import Preprocessing
from models.text.sentence_encoder import embed_texts
from models.training import fit as fitting
from models.training import label_plan, module
from models.training.film_batches import Augmentation, CachedFilms
from models.training.fit import Trained
from models.training.initial_weights import InitialNetwork, initial_network
from models.training.module import FindingsModule
from models.training.recipe import Recipe, Stage
from models.training.recipe_file import read_recipe
from tests.bench.marked_document import with_passage, write_measured
from tests.bench.self_supervision import pretrained_backbone
from tests.bench.training_ablation import RECIPE
from tests.bench.training_replacements import (
    Asymmetric,
    ByEntropy,
    attended_mean,
    attentive_loss,
    network_with_attention,
    softened_targets,
    with_attention,
    with_highest_place,
)
from tests.support.peers import ROOT

DOCUMENT = ROOT / "docs" / "levers.md"
FIGURES = ROOT / "docs" / "training-levers.json"
COMMAND = "python -m tests.bench.training_levers"
EPOCHS, SIZE, AVERAGE_DECAY = 3, 112, 0.98
LISTS = ("findings", "groups", "normality")


@dataclass(frozen=True, slots=True)
class Lever:
    """One change of the training.

    Attributes
    ----------
    name
        Words of the table.
    recipe
        Changed fields of the recipe, by table and field.
    patches
        Replaced parts of the training: owner, name and replacement.
    """

    name: str
    recipe: dict[str, dict[str, object]] = field(default_factory=dict)
    patches: tuple[tuple[object, str, object], ...] = ()


BASE, SELF_SUPERVISED = "base", "self-supervised"
LEVERS = {
    BASE: Lever("the recipe"),
    "reports": Lever("four times the weight of the reports", {"alignment": {"weight": 0.2}}),
    "highest": Lever(
        "half of the logit of the highest place added", patches=((ConvNet, "forward", with_highest_place),)
    ),
    "asymmetric": Lever(
        "asymmetric loss, which lets easy negatives go", patches=((module, "LabelLoss", Asymmetric),)
    ),
    "entropy": Lever(
        "each label's loss over its entropy, for rare labels", patches=((module, "LabelLoss", ByEntropy),)
    ),
    "doubt": Lever(
        "what the report doubts is 0.6 and not 1", patches=((fitting, "training_targets", softened_targets),)
    ),
    "attention": Lever(
        "attention over a study's films in place of their mean",
        patches=(
            (fitting, "initial_network", network_with_attention),
            (ConvNet, "forward", with_attention),
            (FindingsModule, "loss_of", attentive_loss),
        ),
    ),
    "chest": Lever(
        "from `chest-pretraining` in place of ImageNet",
        {"architecture": {"start": "bundle:chest-pretraining-0.1.0"}},
    ),
    SELF_SUPERVISED: Lever("from ImageNet by way of all films without labels (SimSiam, 2 epochs)"),
}
SOUP = "soup"
SOUP_NAME = "mean weights of five of these trainings"
IN_SOUP = ("base", "reports", "asymmetric", "entropy", "doubt")
"""Levers whose networks have the same form and began with the same weights."""


def variant(lever: Lever) -> Recipe:
    """Short recipe with a lever."""
    full = read_recipe(RECIPE)
    changes: dict[str, dict[str, object]] = {
        "optimizer": {"average_decay": AVERAGE_DECAY},
        "augmentation": {"mixup": 0.0},
        "preprocessing": {"size": SIZE},
    }
    for table, fields in lever.recipe.items():
        changes.setdefault(table, {}).update(fields)
    tables = {table: getattr(full, table).model_copy(update=fields) for table, fields in changes.items()}
    return full.model_copy(update={"also": (), "stages": (Stage(epochs=EPOCHS, size=SIZE),), **tables})


class Trials:
    """Runs of the levers over one data set, whose films and reports are read once.

    Parameters
    ----------
    data
        Folder of Open-i; those of the NIH films and of the other collections lie beside it.
    runs
        Folder of the runs.
    """

    def __init__(self, data: Path, runs: Path) -> None:
        self.vocabulary: Vocabulary = load_vocabulary()
        self.runs = runs
        full = read_recipe(RECIPE)
        self.dataset: FilmDataset = read_dataset(full.dataset, data, self.vocabulary)
        self.further = tuple(
            read_dataset(each.dataset, data / each.folder, self.vocabulary) for each in full.further
        )
        collections = read_dataset("collections", data / "../extra", self.vocabulary)
        self.others = tuple(study for split in ("train", "val") for study in collections.split(split))
        self._films: dict[str, CachedFilms] = {}
        self._reports: Tensor | None = None

    def scores(self, key: str) -> Tensor:
        """Scores of the studies of ``val`` by a lever's network, shape (studies, labels of all lists)."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fitting, "CachedFilms", self._read)
            patch.setattr(label_plan, "embed_texts", self._embed)
            for owner, name, replacement in LEVERS[key].patches:
                patch.setattr(owner, name, replacement)
            if key == SELF_SUPERVISED:
                patch.setattr(fitting, "initial_network", self._self_supervised)
            return self._scores(self._trained(key), variant(LEVERS[key]))

    def soup_scores(self) -> Tensor:
        """Scores of the mean of several networks' weights (Wortsman et al. 2022), as of one lever.

        What batch normalization expects is counted anew, over the films of ``train``.
        """
        recipe = variant(LEVERS[BASE])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(fitting, "CachedFilms", self._read)
            patch.setattr(label_plan, "embed_texts", self._embed)
            each = [self._trained(key) for key in IN_SOUP]
        mixed = each[0].network
        states = [one.network.state_dict() for one in each]
        mixed.load_state_dict(
            {
                name: torch.stack([state[name].float() for state in states]).mean(dim=0).to(value.dtype)
                for name, value in states[0].items()
            }
        )
        preprocessing = recipe.preprocessing.build()
        films = next(iter(self._films.values())).films
        norms = [part for part in mixed.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
        for part in norms:
            part.reset_running_stats()
            part.momentum = None
            part.train()
        with torch.inference_mode():
            for place in torch.randperm(len(films), generator=torch.Generator().manual_seed(0)).split(64):
                mixed(Batch(preprocessing.tensor(films[place].float())))
        mixed.eval()
        return self._scores(each[0], recipe)

    def _trained(self, key: str) -> Trained:
        return fitting.fit(
            variant(LEVERS[key]), self.dataset, self.vocabulary, run=self.runs / key, further=self.further
        )

    def _self_supervised(self, recipe: Recipe, width: int) -> InitialNetwork:
        """Network that has looked at all films of all collections, without their labels."""
        started = initial_network(recipe, width)
        studies = tuple(study for each in (self.dataset, *self.further) for study in each.split("train"))
        preprocessing = recipe.preprocessing.build()
        films = [self._read(each, preprocessing).films for each in (studies, self.others)]
        path = self.runs / SELF_SUPERVISED / "backbone.safetensors"
        augment = Augmentation(recipe.augmentation)
        pretrained_backbone(started.network, torch.cat(films), augment, path, recipe.seed)
        return started

    def _read(
        self, studies: tuple[LabelledStudy, ...], preprocessing: Preprocessing, **_: object
    ) -> CachedFilms:
        first = str(studies[0].films[0])
        if first not in self._films:
            self._films[first] = CachedFilms(studies, preprocessing)
        return self._films[first]

    def _embed(self, texts: list[str]) -> Tensor:
        if self._reports is None:
            self._reports = embed_texts(texts)
        return self._reports.clone()

    @torch.inference_mode()
    def _scores(self, trained: Trained, recipe: Recipe) -> Tensor:
        preprocessing, studies = recipe.preprocessing.build(), self.dataset.split("val")
        films = self._read(studies, preprocessing)
        logits, attention = [], []
        for each in torch.split(films.films, 64):
            logits.append(trained.network(Batch(preprocessing.tensor(each.float()))).logits)
            attention.append(getattr(trained.network, "attended", torch.zeros(len(each))))
        scores = torch.cat(logits).sigmoid()[:, trained.outputs.places(self.keys)]
        return attended_mean(scores, torch.cat(attention), films.study_of, len(studies))

    @property
    def keys(self) -> tuple[str, ...]:
        """Labels of all lists, one after the other."""
        return tuple(key for name in LISTS for key in self.vocabulary.keys(name))

    def figures(self, scores: dict[str, Tensor]) -> dict[str, Any]:
        """Macro AUC of each list by each lever, and the gain from the first with its 95 % interval."""
        studies = self.dataset.split("val")
        truth = targets(studies, self.keys)
        patients = np.unique([study.patient for study in studies], return_inverse=True)[1]
        weights = resampling_weights(patients)
        found: dict[str, Any] = {}
        drawn: dict[str, dict[str, np.ndarray]] = {}
        for key, table in scores.items():
            row: dict[str, Any] = {"name": SOUP_NAME if key == SOUP else LEVERS[key].name}
            for name in LISTS:
                columns = [self.keys.index(label) for label in self.vocabulary.keys(name)]
                there, said = truth[:, columns], table[:, columns].double().numpy()
                row[name] = round(macro_auc(there, said), 4)
                areas = [
                    resample_curve(there[:, column], said[:, column], weights, ThresholdCurve.auc)[0]
                    for column in measurable_columns(there)
                ]
                drawn.setdefault(name, {})[key] = mean_ignoring_nan(np.stack(areas, axis=1))
                gain = drawn[name][key] - drawn[name][BASE]
                row[f"{name}_gain"] = [round(edge, 4) for edge in percentile_interval(gain)]
            found[key] = row
        return {
            "epochs": EPOCHS, "size": SIZE, "split": "val", "studies": len(studies), "levers": found
        }  # fmt: skip


def table(found: dict[str, Any]) -> Iterable[str]:
    """Lines of the Markdown table."""
    length = f"{found['epochs']} epochs at {found['size']} pixels"
    yield (
        f"{length} from ImageNet, without mixup, one seed; macro AUC on the {found['studies']} studies of "
        f"`{found['split']}`. In brackets the 95 % interval of the gain over the recipe, over patients."
    )
    yield ""
    yield f"| one change | {' | '.join(LISTS)} |"
    yield "|---|---|---|---|"
    for key, row in found["levers"].items():
        cells = [
            f"{row[name]:.3f}" + ("" if key == BASE else " ({:+.3f} to {:+.3f})".format(*row[f"{name}_gain"]))
            for name in LISTS
        ]
        yield f"| {row['name']} | {' | '.join(cells)} |"


def document(text: str, found: dict[str, Any]) -> str:
    """Text of the document with the table."""
    return with_passage(text, COMMAND, table(found))


def main() -> None:
    """Train what is missing, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    trials = Trials(given.data, given.run_dir)
    scores: dict[str, Tensor] = {}
    for key in (*LEVERS, SOUP):
        scores[key] = trials.soup_scores() if key == SOUP else trials.scores(key)
        found = trials.figures(scores)
        print(found["levers"][key], flush=True)
    print("\n".join(table(found)))
    if given.write:
        write_measured(found, FIGURES, DOCUMENT, document)


if __name__ == "__main__":
    main()
