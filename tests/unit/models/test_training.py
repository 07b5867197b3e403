"""Training: it learns, it survives an interruption, and what it writes is what it trained."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import lightning
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from models.architectures import Batch
from models.architectures.convnet import ConvNet
from models.bundle import read_bundle
from models.errors import ModelError, RecipeError
from models.predictor import Predictor
from models.training.dataset import FilmDataset, LabelledStudy
from models.training.films import Augmentation, CachedFilms, StudyBatches
from models.training.fit import Interrupted, fit, network_of, plan
from models.training.module import FindingsModule, Lessons
from models.training.openi import read_openi
from models.training.recipe import AlignmentTable, AugmentationTable, Recipe, read_recipe
from models.training.release import release, shorten
from models.transforms import Preprocessing
from models.types import Film, Study
from models.vocabulary import load_vocabulary

from .conftest import write_openi

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


def weights(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.state_dict().items() if value.is_floating_point()}


def test_an_interrupted_training_ends_where_an_undisturbed_one_does(recipe: Recipe, dataset, tmp_path: Path):
    undisturbed, outputs = fit(recipe, dataset, VOCABULARY, run=tmp_path / "a")
    with pytest.raises(Interrupted, match=r"epoch 2; the same command resumes it"):
        fit(recipe, dataset, VOCABULARY, run=tmp_path / "b", callbacks=[StopIn(1)])
    resumed, again = fit(recipe, dataset, VOCABULARY, run=tmp_path / "b")
    assert again == outputs
    for name, value in weights(undisturbed).items():
        torch.testing.assert_close(weights(resumed)[name], value, msg=name)


def test_a_finished_training_is_not_done_again(recipe: Recipe, dataset, tmp_path: Path):
    first, _ = fit(recipe, dataset, VOCABULARY, run=tmp_path)
    stamp = (tmp_path / "last.ckpt").stat().st_mtime_ns
    second, _ = fit(recipe, dataset, VOCABULARY, run=tmp_path)
    assert (tmp_path / "last.ckpt").stat().st_mtime_ns == stamp
    for name, value in weights(first).items():
        torch.testing.assert_close(weights(second)[name], value, msg=name)


def test_a_run_of_another_recipe_is_not_overwritten(recipe: Recipe, dataset, tmp_path: Path):
    with pytest.raises(Interrupted):
        fit(recipe, dataset, VOCABULARY, run=tmp_path, callbacks=[StopIn(0)])
    with pytest.raises(RecipeError, match="another recipe"):
        fit(recipe.model_copy(update={"seed": 4}), dataset, VOCABULARY, run=tmp_path)


def test_the_auxiliary_outputs_are_counted_in_train_alone(recipe: Recipe, dataset):
    outputs = plan(recipe, dataset, VOCABULARY)
    assert outputs.keys == VOCABULARY.keys("findings")
    assert set(outputs.auxiliary) == {
        "normal", "cardiomegaly", "cardiomegaly/mild", "pleural effusion", "pleural effusion/left", "nodule",
        "nodule/lung",
    }  # fmt: skip
    assert outputs.auxiliary[0] == "nodule"
    assert plan(recipe.model_copy(update={"auxiliary_reports": 0}), dataset, VOCABULARY).auxiliary == ()
    table = outputs.truth(dataset.split("train"))
    assert table.shape == (24, 42)
    assert table[0].sum() == 3  # cardiomegaly as a finding, as a heading, and with its qualifier


def test_what_a_data_set_does_not_speak_of_is_neither_true_nor_false(recipe: Recipe, dataset):
    outputs = plan(recipe.model_copy(update={"beside": ("nih", "normality")}), dataset, VOCABULARY)
    assert outputs.beside == ("atelectasis", "infiltration", "pneumonia", "abnormal")
    foreign = LabelledStudy("n", "n", (), frozenset({"mass"}), None, known=frozenset({"mass", "pneumonia"}))
    (row,) = outputs.truth((foreign,)).tolist()
    columns = dict(zip((*outputs.keys, *outputs.beside, *outputs.auxiliary), row, strict=True))
    assert (columns.pop("mass"), columns.pop("pneumonia")) == (1, 0)
    assert all(math.isnan(value) for value in columns.values())


def lessons_module(recipe: Recipe, truth: torch.Tensor, columns: tuple[slice, ...]) -> FindingsModule:
    return FindingsModule(
        torch.nn.Identity(),
        recipe,
        lessons=Lessons(truth, columns),
        truth_val=truth,
        findings=2,
        augment=lambda films: films,
    )


def test_the_loss_passes_over_what_is_not_known_and_weighs_ranges_alike(recipe: Recipe):
    truth = torch.tensor([[1.0, math.nan, 0.0], [0.0, 1.0, math.nan]])
    module = lessons_module(recipe, truth, (slice(0, 2), slice(2, 3)))
    scores = torch.tensor([[0.8, 0.9, 0.5], [0.4, 0.6, 0.1]])
    first = -(math.log(0.8) + math.log(0.6) + math.log(0.6)) / 3
    second = -math.log(0.5)
    assert float(module.label_loss(scores, truth)) == pytest.approx((first + second) / 2, rel=1e-5)


def test_films_are_drawn_to_the_reports_of_their_study(recipe: Recipe):
    reports = torch.eye(3)
    module = lessons_module(recipe, torch.zeros(3, 2), (slice(0, 2),))
    module.network = ConvNet(outputs=2, backbone="test_efficientnet", joint=3, text_width=3)
    with torch.no_grad():
        module.network.text_projection.weight.copy_(torch.eye(3))
        module.network.text_projection.bias.zero_()
    module.lessons = Lessons(
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
    network, outputs = fit(every, told, VOCABULARY, run=tmp_path / "run", further=(further,))
    bundle = release(every, outputs, network, told, path=tmp_path / "bundle")
    assert bundle.manifest.embedding == 16
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
    trunk = network_of(later, 14).state_dict()
    state = bundle.network().state_dict()
    assert torch.equal(trunk["backbone.conv_stem.weight"], state["backbone.conv_stem.weight"])
    narrow = later.architecture.model_copy(update={"arguments": recipe.architecture.arguments})
    with pytest.raises(RecipeError, match="another architecture"):
        network_of(later.model_copy(update={"architecture": narrow}), 14)


@pytest.mark.parametrize("films", [1, 4, 7])
def test_batches_keep_the_films_of_a_study_together(films: int):
    study_of = torch.tensor([0, 0, 1, 2, 2, 2, 3, 4, 4, 5])
    order = torch.Generator().manual_seed(1)
    sampler = StudyBatches(study_of, films, order)
    batches = list(sampler)
    assert len(batches) == len(sampler) == 10 // films
    drawn = [film for batch in batches for film in batch]
    assert len(set(drawn)) == len(drawn)
    for study in range(6):
        homes = {number for number, batch in enumerate(batches) for film in batch if study_of[film] == study}
        assert len(homes) <= 1
    assert list(sampler) != batches  # another order in the next epoch
    order.manual_seed(1)
    assert list(sampler) == batches


def test_the_released_bundle_has_findings_only_and_says_what_the_network_says(
    recipe: Recipe, dataset, tmp_path: Path
):
    network, outputs = fit(recipe, dataset, VOCABULARY, run=tmp_path / "run")
    films = [film.pixels for film in dataset.split("test")[0].load().films]
    preprocessing = recipe.preprocessing.build()
    with torch.inference_mode():
        before = network(Batch(preprocessing(films))).logits[:, :35].sigmoid().mean(0)
    bundle = release(recipe, outputs, network, dataset, path=tmp_path / "bundle")
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


def test_shortening_keeps_the_first_outputs():
    network = torch.nn.Module()
    network.head = torch.nn.Linear(6, 5)
    wanted = network.head.weight[:3].clone()
    shorten(network, 3)
    assert torch.equal(network.head.weight, wanted)
    assert network.head.bias.shape == (3,)


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
            "bundle.toml", "labels.toml", "calibration.json", "weights.safetensors", "metrics.json",
            "README.md",
        }  # fmt: skip
        out = tmp_path / "figures.json"
        measured = self.run("evaluate", str(bundle), "--root", root, "--json", str(out))
        assert measured.exit_code == 0, measured.output
        printed = self.run("evaluate", str(bundle), "--root", root, "--json", "-")
        figures = json.loads(printed.stdout)
        assert figures == json.loads(out.read_text(encoding="utf-8"))
        assert figures == json.loads((bundle / "metrics.json").read_text(encoding="utf-8"))["test"]

    @pytest.mark.parametrize(
        ("arguments", "code", "message"),
        [
            (["train", "none.toml", "--data", "."], 2, "cannot be read"),
            (["evaluate", "nonesuch", "--root", "."], 1, "no bundle 'nonesuch'"),
            (["evaluate", "nonesuch", "--root", ".", "--text", "report"], 2, "--text report"),
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
    network, outputs = fit(recipe, few, VOCABULARY, run=tmp_path / "run")
    # Rounded as the file rounds, the network must say the same to the fourth place.
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half().float())
    film = few.split("test")[0].load().films[0]
    with torch.inference_mode():
        before = network(Batch(recipe.preprocessing.build()([film.pixels]))).logits[0, :35].sigmoid()
    loaded = Predictor(read_bundle(release(recipe, outputs, network, few, path=tmp_path / "b").path))
    (prediction,) = loaded.predict([Study((Film("film", film.pixels),))])
    np.testing.assert_allclose([f.score for f in prediction.findings], before.numpy(), atol=1e-4)


def test_every_error_of_the_models_is_one_family():
    assert issubclass(Interrupted, ModelError)
