"""Training: it learns, it survives an interruption, and what it writes is what it trained."""

from __future__ import annotations

import errno
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from models.architectures.convnet import ConvNet
from models.architectures.interface import Batch
from models.bundles.bundle import read_bundle
from models.bundles.predictor import Predictor
from models.data.dataset import FilmDataset, LabelledStudy
from models.data.openi import read_openi
from models.errors import ModelError, RecipeError, TrainingError
from models.labels.calibration import Calibration, calibrate
from models.labels.vocabulary import load_vocabulary
from models.processing.transforms import Preprocessing
from models.processing.types import Film, Study
from models.training import export
from models.training.export import export_bundle, narrowed
from models.training.film_batches import Augmentation, CachedFilms, StudyBatches
from models.training.fit import Interrupted, WholeCheckpoints, fit
from models.training.folds import search_epochs, split_folds
from models.training.history import Epoch, read_history
from models.training.initial_weights import initial_network
from models.training.label_plan import plan_labels
from models.training.losses import LabelLoss
from models.training.module import FindingsModule, TrainingTargets
from models.training.plots import draw_class_distribution, draw_learning_curves
from models.training.recipe import (
    AlignmentTable,
    AugmentationTable,
    ExtraBundle,
    FoldsTable,
    LossTable,
    Recipe,
)
from models.training.recipe_file import read_recipe
from tests.support.openi_folder import write_openi

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning warns of small data sets, and of itself

VOCABULARY = load_vocabulary()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory):
    root = write_openi(tmp_path_factory.mktemp("films") / "openi", {"train": 24, "val": 20, "test": 8})
    return read_openi(root, VOCABULARY)


@pytest.fixture
def recipe(recipe_file: Path) -> Recipe:
    return read_recipe(recipe_file)


class StopIn(lightning.Callback):
    """Ctrl-C in an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.current_epoch == self.epoch and batch_idx == 1:
            raise KeyboardInterrupt


class CountedEpochs(lightning.Callback):
    """Notes which epochs are trained, from 0."""

    def __init__(self) -> None:
        self.epochs: list[int] = []

    def on_train_epoch_start(self, trainer, pl_module):
        self.epochs.append(trainer.current_epoch)


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


def test_a_start_that_failed_does_not_hold_the_folder_of_its_run(recipe: Recipe, dataset, tmp_path: Path):
    class Refused(lightning.Callback):
        def on_fit_start(self, trainer, pl_module):
            raise RecipeError("not this one")

    other = recipe.model_copy(update={"seed": recipe.seed + 1})
    with pytest.raises(RecipeError, match="not this one"):
        fit(other, dataset, VOCABULARY, run=tmp_path, callbacks=[Refused()])
    fit(recipe, dataset, VOCABULARY, run=tmp_path)
    with pytest.raises(RecipeError, match="holds a run of another recipe"):
        fit(other, dataset, VOCABULARY, run=tmp_path)


def test_an_interrupted_training_ends_where_an_undisturbed_one_does(recipe: Recipe, dataset, tmp_path: Path):
    undisturbed = fit(recipe, dataset, VOCABULARY, run=tmp_path / "a")
    with pytest.raises(Interrupted, match=r"epoch 2; the same command resumes it"):
        fit(recipe, dataset, VOCABULARY, run=tmp_path / "b", callbacks=[StopIn(1)])
    counted = CountedEpochs()
    resumed = fit(recipe, dataset, VOCABULARY, run=tmp_path / "b", callbacks=[counted])
    assert counted.epochs == [1, 2]
    assert resumed.outputs == undisturbed.outputs
    for name, value in weights(undisturbed.network).items():
        torch.testing.assert_close(weights(resumed.network)[name], value, msg=name)
    history = read_history(tmp_path / "b")
    assert [row.epoch for row in history] == [1, 2, 3]
    assert history == read_history(tmp_path / "a")


def test_a_finished_training_is_not_done_again(recipe: Recipe, dataset, tmp_path: Path):
    first = fit(recipe, dataset, VOCABULARY, run=tmp_path)
    stamp = (tmp_path / "last.ckpt").stat().st_mtime_ns
    second = fit(recipe, dataset, VOCABULARY, run=tmp_path)
    assert (tmp_path / "last.ckpt").stat().st_mtime_ns == stamp
    for name, value in weights(first.network).items():
        torch.testing.assert_close(weights(second.network)[name], value, msg=name)


def test_a_run_of_another_recipe_is_not_overwritten(recipe: Recipe, dataset, tmp_path: Path):
    with pytest.raises(Interrupted):
        fit(recipe, dataset, VOCABULARY, run=tmp_path, callbacks=[StopIn(1)])
    with pytest.raises(RecipeError, match="another recipe"):
        fit(recipe.model_copy(update={"seed": 4}), dataset, VOCABULARY, run=tmp_path)


def test_the_auxiliary_outputs_are_counted_in_train_alone(recipe: Recipe, dataset):
    outputs = plan_labels(recipe, dataset, VOCABULARY)
    assert outputs.keys == VOCABULARY.keys("findings")
    assert set(outputs.auxiliary) == {
        "normal", "cardiomegaly", "cardiomegaly/mild", "pleural effusion", "pleural effusion/left", "nodule",
        "nodule/lung",
    }  # fmt: skip
    assert outputs.auxiliary[0] == "nodule"
    assert (
        plan_labels(recipe.model_copy(update={"auxiliary_reports": 0}), dataset, VOCABULARY).auxiliary == ()
    )
    table = outputs.truth(dataset.split("train"))
    assert table.shape == (24, 42)
    assert table[0].sum() == 3  # cardiomegaly as a finding, as a heading, and with its qualifier


def test_what_a_data_set_does_not_speak_of_is_neither_true_nor_false(recipe: Recipe, dataset):
    outputs = plan_labels(recipe.model_copy(update={"beside": ("nih", "normality")}), dataset, VOCABULARY)
    assert outputs.beside == ("atelectasis", "infiltration", "pneumonia", "abnormal")
    foreign = LabelledStudy("n", "n", (), frozenset({"mass"}), None, known=frozenset({"mass", "pneumonia"}))
    (row,) = outputs.truth((foreign,)).tolist()
    columns = dict(zip((*outputs.keys, *outputs.beside, *outputs.auxiliary), row, strict=True))
    assert (columns.pop("mass"), columns.pop("pneumonia")) == (1, 0)
    assert all(math.isnan(value) for value in columns.values())


def test_a_training_on_studies_of_which_some_labels_are_unknown_measures_the_known_ones(
    recipe: Recipe, dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    known = frozenset({"cardiomegaly", "nodule"})
    studies = {
        split: tuple(
            replace(study, known=known, keys=study.keys & known) if number % 2 else study
            for number, study in enumerate(dataset.split(split))
        )
        for split in ("train", "val", "test")
    }
    partly = FilmDataset(dataset.name, dataset.title, dataset.terms, studies)
    trained = fit(recipe, partly, VOCABULARY, run=tmp_path / "run")
    assert all(math.isfinite(epoch.val_loss) for epoch in read_history(tmp_path / "run"))
    fitted: list[np.ndarray] = []

    def noted(*arguments: Any, known: np.ndarray, **names: Any) -> Calibration:
        fitted.append(known)
        return calibrate(*arguments, known=known, **names)

    monkeypatch.setattr(export, "calibrate", noted)
    bundle = export_bundle(recipe, trained, partly, path=tmp_path / "bundle")
    assert read_bundle(bundle.path).manifest.name == recipe.name
    keys = [label.key for label in bundle.labels]
    assert fitted[0].tolist() == [[study.knows(key) for key in keys] for study in partly.split("val")]
    assert not fitted[0].all()


def test_the_loss_passes_over_what_is_not_known_and_weighs_ranges_alike():
    truth = torch.tensor([[1.0, math.nan, 0.0], [0.0, 1.0, math.nan]])
    loss = LabelLoss(LossTable(), truth, (slice(0, 2), slice(2, 3)))
    scores = torch.tensor([[0.8, 0.9, 0.5], [0.4, 0.6, 0.1]])
    first = -(math.log(0.8) + math.log(0.6) + math.log(0.6)) / 3
    second = -math.log(0.5)
    assert float(loss(scores, truth)) == pytest.approx((first + second) / 2, rel=1e-5)


def test_focal_loss_and_class_weights_have_their_published_values():
    truth = torch.tensor([[1.0], [0.0], [0.0], [0.0]])
    scores = torch.tensor([[0.7], [0.2], [0.2], [0.2]])
    focal = LabelLoss(LossTable(kind="focal"), truth, (slice(0, 1),))
    wanted = (0.25 * 0.3**2 * -math.log(0.7) + 3 * 0.75 * 0.2**2 * -math.log(0.8)) / 4
    assert float(focal(scores, truth)) == pytest.approx(wanted, rel=1e-5)
    weighted = LabelLoss(LossTable(class_weights=True), truth, (slice(0, 1),))
    assert float(weighted(scores, truth)) == pytest.approx((3 * -math.log(0.7) + 3 * -math.log(0.8)) / 4)
    both = LabelLoss(LossTable(kind="both"), truth, (slice(0, 1),))
    plain = LabelLoss(LossTable(), truth, (slice(0, 1),))
    assert float(both(scores, truth)) == pytest.approx(wanted + float(plain(scores, truth)), rel=1e-5)


@pytest.mark.parametrize("schedule", ["cosine", "plateau", "constant"])
def test_every_schedule_and_the_end_by_patience_train(recipe: Recipe, dataset, tmp_path: Path, schedule: str):
    optimizer = recipe.optimizer.model_copy(
        update={"schedule": schedule, "name": "adam", "clip": 1.0, "average_decay": 0.0}
    )
    still = optimizer.model_copy(update={"learning_rate": 1e-9})
    (stage,) = recipe.stages[-1:]
    long = recipe.model_copy(
        update={"optimizer": still, "patience": 1, "stages": (stage.model_copy(update={"epochs": 5}),)}
    )
    trained = fit(long, dataset, VOCABULARY, run=tmp_path)
    # Nothing moves at such a rate, so the second epoch is the one without a gain.
    assert len(read_history(tmp_path)) < 5
    best = torch.load(tmp_path / "best.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(trained.network.head.weight, best["network.head.weight"])


def test_folds_hold_every_patient_once_and_pick_the_best_epoch(recipe: Recipe, dataset, tmp_path: Path):
    folds = split_folds(dataset, 3, seed=1)
    left_out = [study.patient for fold in folds for study in fold.split("val")]
    everybody = {study.patient for split in ("train", "val") for study in dataset.split(split)}
    assert len(left_out) == len(set(left_out))
    assert set(left_out) == everybody
    single = recipe.lasting(2).model_copy(update={"folds": FoldsTable(count=2)})
    epochs = search_epochs(single, dataset, VOCABULARY, run=tmp_path)
    found = json.loads((tmp_path / "folds.json").read_text(encoding="utf-8"))
    assert found["mean_auc"] == np.mean(found["fold_auc"], axis=0).tolist()
    assert epochs == found["epochs"] == 1 + int(np.argmax(found["mean_auc"]))
    assert len(found["fold_auc"]) == 2
    # Folds that stop early would have curves of several lengths.
    impatient = single.model_copy(update={"patience": 1})
    assert search_epochs(impatient, dataset, VOCABULARY, run=tmp_path) == epochs
    assert impatient.lasting(epochs).patience == 0


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path: Path, monkeypatch):
    path = tmp_path / "last.ckpt"
    checkpoints = WholeCheckpoints()
    checkpoints.save_checkpoint({"epoch": 1}, path)
    monkeypatch.setattr("torch.save", full_disk)
    with pytest.raises(OSError, match="No space left"):
        checkpoints.save_checkpoint({"epoch": 2}, path)
    monkeypatch.undo()
    assert torch.load(path, weights_only=True) == {"epoch": 1}
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def full_disk(*_args: object, **_options: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_ends_the_training_with_one_sentence(
    recipe: Recipe, dataset, tmp_path: Path, monkeypatch
):
    monkeypatch.setattr("torch.save", full_disk)
    with pytest.raises(TrainingError, match=r"epoch 1 cannot be written: .*No space left.*make room"):
        fit(recipe, dataset, VOCABULARY, run=tmp_path)
    monkeypatch.undo()
    assert len(fit(recipe, dataset, VOCABULARY, run=tmp_path).outputs.keys) == 35


def test_a_run_is_drawn(dataset, tmp_path: Path):
    draw_learning_curves([Epoch(1, 0.7, 0.6, 0.5), Epoch(2, 0.4, 0.5, 0.7)], tmp_path / "curves.png")
    draw_class_distribution(dataset, VOCABULARY.keys("findings"), tmp_path / "classes.png")
    for name in ("curves.png", "classes.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.width > 400
            assert len(picture.convert("L").getcolors(256) or []) > 2


def test_films_are_drawn_to_the_reports_of_their_study(recipe: Recipe):
    reports = torch.eye(3)
    module = FindingsModule(
        torch.nn.Identity(),
        recipe,
        targets=TrainingTargets(torch.zeros(3, 2), (slice(0, 2),)),
        truth_val=torch.zeros(3, 2),
        findings=2,
        augment=lambda films: films,
    )
    module.network = ConvNet(outputs=2, backbone="test_efficientnet", joint=3, text_width=3)
    with torch.no_grad():
        module.network.text_projection.weight.copy_(torch.eye(3))
        module.network.text_projection.bias.zero_()
    module.targets = TrainingTargets(
        torch.zeros(3, 2), (slice(0, 2),), reports, torch.eye(3), torch.tensor([0, 1, -1])
    )
    study = torch.tensor([0, 1, 2])
    near = float(module.alignment_loss(torch.eye(3), study))
    # The third study has no report, so its film counts for nothing.
    assert float(module.alignment_loss(torch.eye(3)[[0, 1, 0]], study)) == pytest.approx(near)
    assert float(module.alignment_loss(torch.eye(3)[[1, 0, 2]], study)) > near + 5


def test_a_training_with_every_lever_learns_from_reports_and_a_second_set(
    recipe: Recipe, dataset, tmp_path: Path
):
    every = recipe.model_copy(
        update={
            "beside": ("groups",),
            "study_weight": 0.5,
            "also": (ExtraBundle(name="groups", summary="Groups", list="groups"),),
            "alignment": AlignmentTable(),
            "architecture": recipe.architecture.model_copy(
                update={"arguments": {**recipe.architecture.arguments, "joint": 16}}
            ),
        }
    )
    told = FilmDataset(
        dataset.name,
        dataset.title,
        dataset.terms,
        {
            split: tuple(
                replace(study, report=f"{', '.join(sorted(study.keys))} is seen. No change.")
                for study in studies
            )
            for split, studies in dataset.studies.items()
        },
    )
    further = FilmDataset(
        "second", "", "", {"train": tuple(replace(study, headings=None) for study in dataset.split("test"))}
    )
    trained = fit(every, told, VOCABULARY, run=tmp_path / "run", further=(further,))
    bundle = export_bundle(every, trained, told, path=tmp_path / "bundle")
    assert bundle.manifest.embedding == 16
    second = export_bundle(every, trained, told, path=tmp_path / "groups", also=every.also[0])
    assert [label.key for label in second.labels] == list(VOCABULARY.keys("groups"))
    (first_answer,), (second_answer,) = (
        Predictor(each).predict([dataset.split("test")[0].load()]) for each in (bundle, second)
    )
    normal = [
        next(f.score for f in answer.findings if f.key == "normal")
        for answer in (first_answer, second_answer)
    ]
    assert normal[0] == pytest.approx(normal[1], abs=1e-6)
    (prediction,) = Predictor(bundle).predict([dataset.split("test")[0].load()])
    assert prediction.embedding.shape == (16,)
    with pytest.raises(RecipeError, match="needs reports"):
        fit(every, dataset, VOCABULARY, run=tmp_path / "silent")
    # Another bundle may start from its trunk, but from no other architecture.
    later = recipe.model_copy(
        update={
            "list": "nih",
            "architecture": every.architecture.model_copy(update={"start": f"bundle:{bundle.path}"}),
        }
    )
    trunk = initial_network(later, 14).network.state_dict()
    state = bundle.network().state_dict()
    assert torch.equal(trunk["backbone.conv_stem.weight"], state["backbone.conv_stem.weight"])
    narrow = later.architecture.model_copy(update={"arguments": recipe.architecture.arguments})
    with pytest.raises(RecipeError, match="another architecture"):
        initial_network(later.model_copy(update={"architecture": narrow}), 14)


@pytest.mark.parametrize("films", [1, 4, 7])
def test_batches_keep_the_films_of_a_study_together(films: int):
    study_of = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 4, 5])
    seeds = iter([1, 2, 1])
    sampler = StudyBatches(study_of, films, seed=lambda: next(seeds))
    batches = list(sampler)
    assert len(batches) == len(sampler) == 10 // films
    drawn = [film for batch in batches for film in batch]
    assert len(set(drawn)) == len(drawn)
    for study in range(6):
        homes = {number for number, batch in enumerate(batches) for film in batch if study_of[film] == study}
        assert len(homes) <= 1
    assert list(sampler) != batches  # another order in the next epoch
    assert list(sampler) == batches


def test_processes_share_the_batches_of_an_epoch_without_overlap():
    study_of = torch.arange(13)
    parts = [list(StudyBatches(study_of, 3, seed=lambda: 5, rank=rank, world=2)) for rank in range(2)]
    assert [len(part) for part in parts] == [2, 2]
    drawn = [film for part in parts for batch in part for film in batch]
    assert len(set(drawn)) == len(drawn) == 12


def test_the_released_bundle_has_findings_only_and_says_what_the_network_says(
    recipe: Recipe, dataset, tmp_path: Path
):
    trained = fit(recipe, dataset, VOCABULARY, run=tmp_path / "run")
    films = [film.pixels for film in dataset.split("test")[0].load().films]
    preprocessing = recipe.preprocessing.build()
    with torch.inference_mode():
        before = trained.network(Batch(preprocessing(films))).logits[:, :35].sigmoid().mean(0)
    bundle = export_bundle(recipe, trained, dataset, path=tmp_path / "bundle")
    assert [label.key for label in bundle.labels] == list(VOCABULARY.keys("findings"))
    (prediction,) = Predictor(bundle).predict([dataset.split("test")[0].load()])
    after = [finding.score for finding in prediction.findings]
    np.testing.assert_allclose(after, before.numpy(), atol=2e-3)
    # 20 studies in val: those with 5 and more positives are calibrated, the rest are not.
    methods = {key: label.method for key, label in bundle.calibration.labels.items()}
    assert methods["nodule"] == "platt"
    assert methods["pneumothorax"] == "none"
    metrics = json.loads((bundle.path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["test"]["n_studies"] == 8
    assert metrics["test"]["weights_sha256"] == bundle.weights_sha256
    assert read_bundle(bundle.path).identity == bundle.identity


def test_a_narrowed_network_has_the_chosen_outputs_and_leaves_the_wide_one_alone():
    network = torch.nn.Module()
    network.head = torch.nn.Linear(6, 5)
    narrow = narrowed(network, [3, 0])
    assert torch.equal(narrow.head.weight, network.head.weight[[3, 0]])
    assert torch.equal(narrow.head.bias, network.head.bias[[3, 0]])
    assert network.head.weight.shape == (5, 6)


class TestAugmentation:
    films = torch.rand(6, 64, 64)

    def test_it_keeps_shape_and_range_and_changes_each_film_by_itself(self):
        augmentation = Augmentation(AugmentationTable(probability=1))
        augmentation.seed(0)
        same = self.films[:1].expand(6, -1, -1)
        changed = augmentation(same)
        assert changed.shape == same.shape
        assert 0 <= float(changed.min()) <= float(changed.max()) <= 1
        assert not torch.allclose(changed[0], changed[1], atol=1e-3)

    def test_the_same_seed_gives_the_same_changes(self):
        augmentation = Augmentation(AugmentationTable())
        results = []
        for seed in (1, 1, 2):
            augmentation.seed(seed)
            results.append(augmentation(self.films))
        assert torch.equal(results[0], results[1])
        assert not torch.equal(results[0], results[2])

    def test_nothing_changes_when_nothing_may(self):
        augmentation = Augmentation(AugmentationTable(probability=0))
        torch.testing.assert_close(augmentation(self.films), self.films, atol=1e-4, rtol=0)

    def test_each_change_keeps_to_its_range(self):
        """A dot at the middle moves by the largest shift at most; contrast and brightness stay in theirs."""
        dot = torch.zeros(100, 64, 64)
        dot[:, 31:33, 31:33] = 1
        none = {"rotate": 0, "translate": 0, "scale": 0, "gamma": 0, "brightness": 0}
        augmentation = Augmentation(AugmentationTable(**{**none, "probability": 1, "translate": 0.1}))
        augmentation.seed(0)
        moved = augmentation(dot)
        centres = torch.arange(64) - 31.5
        shift = (moved.sum(dim=1) * centres).sum(dim=1) / moved.sum(dim=(1, 2))
        assert 5 < float(shift.abs().max()) <= 6.5
        grey = torch.full((100, 64, 64), 0.5)
        augmentation = Augmentation(AugmentationTable(**{**none, "probability": 1, "brightness": 0.2}))
        augmentation.seed(0)
        offset = augmentation(grey)[:, 32, 32] - 0.5
        assert 0.18 < float(offset.abs().max()) <= 0.2001
        grey[:, 0, 0], grey[:, 0, 1] = 0, 1
        augmentation = Augmentation(AugmentationTable(**{**none, "probability": 1, "gamma": 0.3}))
        augmentation.seed(0)
        gamma = augmentation(grey)[:, 32, 32].log() / torch.tensor(0.5).log()
        assert 0.69 < float(gamma.min()) < 0.75
        assert 1.25 < float(gamma.max()) < 1.31

    def test_a_second_size_is_seeded_too(self):
        """The stages of a recipe have sizes; a resumed run may meet the second one first."""
        small = torch.rand(6, 32, 32)
        first, resumed = Augmentation(AugmentationTable()), Augmentation(AugmentationTable())
        first(self.films)
        first.seed(3)
        resumed.seed(3)
        assert torch.equal(first(small), resumed(small))

    def test_left_stays_left(self):
        """The heart's side is a finding: no draw may mirror the film."""
        film = torch.zeros(200, 64, 64)
        film[:, 20:44, 4:20] = 1
        augmentation = Augmentation(AugmentationTable(probability=1))
        augmentation.seed(0)
        changed = augmentation(film) - augmentation(torch.zeros(200, 64, 64)).mean()
        assert bool((changed[:, :, :32].sum(dim=(1, 2)) > changed[:, :, 32:].sum(dim=(1, 2))).all())


def test_cached_films_are_the_standardised_films(dataset):
    preprocessing = Preprocessing(grid=64, size=48)
    studies = dataset.split("val")[:3]
    cached = CachedFilms(studies, preprocessing)
    assert len(cached) == sum(len(study.films) for study in studies)
    film, number = cached[0]
    assert number == 0
    expected = preprocessing.standardise(studies[0].load().films[0].pixels)
    torch.testing.assert_close(film, expected, atol=1e-3, rtol=0)


class TestCommands:
    def run(self, *arguments: str):
        from dicom_node.cli.app import app

        return CliRunner().invoke(app, list(arguments))

    def test_train_makes_a_bundle_that_evaluate_measures(self, recipe_file: Path, dataset, tmp_path: Path):
        root = str(dataset.split("train")[0].films[0].parents[1])
        bundle = tmp_path / "tiny-findings-0.0.1"
        made = self.run(
            "train", str(recipe_file), "--data", root, "--out", str(bundle),
            "--run-dir", str(tmp_path / "run"),
        )  # fmt: skip
        assert made.exit_code == 0, made.output
        assert {path.name for path in bundle.iterdir()} == {
            "bundle.toml", "labels.toml", "calibration.json", "weights.safetensors", "maps.json",
            "metrics.json", "README.md", "graph.onnx",
        }  # fmt: skip
        out = tmp_path / "figures.json"
        measured = self.run("evaluate", str(bundle), "--data", root, "--figures", str(out))
        assert measured.exit_code == 0, measured.output
        printed = self.run("evaluate", str(bundle), "--data", root, "--json")
        figures = json.loads(printed.stdout)
        assert figures == json.loads(out.read_text(encoding="utf-8"))
        assert figures == json.loads((bundle / "metrics.json").read_text(encoding="utf-8"))["test"]

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["train", "none.toml", "--data", "."], 2, "cannot be read"),
            (["evaluate", "nonesuch", "--data", "."], 2, "no bundle 'nonesuch'"),
        ],
    )
    def test_an_error_is_one_line_and_a_code(self, monkeypatch, capsys, arguments, code, message):
        from dicom_node.cli import app as root

        monkeypatch.setattr("sys.argv", ["dicom-node", *arguments])
        with pytest.raises(SystemExit) as stopped:
            root.main()
        assert stopped.value.code == code
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert line.startswith("error: ")
        assert message in line


@pytest.mark.films
def test_a_few_steps_on_real_films_give_a_bundle_that_scores_the_same(
    films_root: Path, recipe: Recipe, tmp_path
):
    whole = read_openi(films_root / "openi", VOCABULARY)
    few = type(whole)(
        whole.name,
        whole.title,
        whole.terms,
        {split: studies[:12] for split, studies in whole.studies.items()},
    )
    trained = fit(recipe, few, VOCABULARY, run=tmp_path / "run")
    # Rounded as the file rounds, the network must say the same to the fourth place.
    with torch.no_grad():
        for parameter in trained.network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half().float())
    film = few.split("test")[0].load().films[0]
    with torch.inference_mode():
        before = trained.network(Batch(recipe.preprocessing.build()([film.pixels]))).logits[0, :35].sigmoid()
    loaded = Predictor(read_bundle(export_bundle(recipe, trained, few, path=tmp_path / "b").path))
    (prediction,) = loaded.predict([Study((Film("film", film.pixels),))])
    np.testing.assert_allclose([f.score for f in prediction.findings], before.numpy(), atol=1e-4)


def test_every_error_of_the_models_is_one_family():
    assert issubclass(Interrupted, ModelError)
