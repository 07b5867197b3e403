"""Model families: training, ``analyze`` and the node give a study the same scores."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydicom import dcmread
from pydicom.uid import Comprehensive3DSRStorage
from typer.testing import CliRunner

import models
from dicom_node.cli.app import app
from dicom_node.imaging.pixels import read_film
from models.architectures.interface import Batch
from models.data.dataset import FilmDataset
from models.data.openi import read_openi
from models.labels.vocabulary import load_vocabulary
from models.training.export import export_bundle
from models.training.fit import Trained, fit
from models.training.recipe import Recipe, Stage
from models.training.recipe_file import read_recipe
from tests.support.dicom_tools import storescu
from tests.support.film_file import write_openi_films
from tests.support.model_families import FAMILIES, TEXT, make_tokenizer
from tests.support.peers import Node, StoreSCP
from tests.support.sr_content import scores

pytestmark = [pytest.mark.films, pytest.mark.filterwarnings("ignore")]

RECIPES = Path(models.__file__).parent / "recipes"
SERVED = "crossattention"
"""Family that a whole node runs too; node and `analyze` read by the same code, whatever the family."""
UNGATED = {"DICOM_NODE_WORKER__GATE": ""}


def encoder(folder: Path) -> Path:
    """Write a tiny text encoder in the layout of the model hub."""
    from safetensors.torch import save_file
    from transformers import BertConfig, BertModel

    folder.mkdir()
    config = BertConfig(**TEXT)
    save_file(BertModel(config, add_pooling_layer=False).state_dict(), folder / "model.safetensors")
    config.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(make_tokenizer(), encoding="utf-8")
    return folder


def small(recipe: Recipe, folder: Path) -> Recipe:
    """Shipped recipe with encoders that train in seconds; losses, schedule and text stay."""
    arguments = dict(FAMILIES[recipe.name][3])
    towers = {"text": f"dir:{encoder(folder / 'bert')}"} if recipe.text != "none" else {}
    architecture = recipe.architecture.model_copy(update={"arguments": arguments, "towers": towers})
    table = recipe.preprocessing.model_copy(update={"grid": 96, "size": 64})
    return recipe.model_copy(
        update={
            "dataset": "openi",
            "architecture": architecture,
            "preprocessing": table,
            "stages": (Stage(epochs=2, size=64),),
            "optimizer": recipe.optimizer.model_copy(update={"batch_size": 8, "learning_rate": 1e-3}),
            "folds": None,
            "max_length": 12,
        }
    )


def trained_on_real_films(recipe: Recipe, films_root: Path, run: Path) -> tuple[Trained, FilmDataset]:
    whole = read_openi(films_root / "openi", load_vocabulary())
    few = FilmDataset(
        whole.name,
        whole.title,
        whole.terms,
        {split: whole.studies[split][:16] for split in ("train", "val", "test")},
    )
    return fit(recipe, few, load_vocabulary(), run=run), few


def training_scores(trained: Trained, recipe: Recipe, film: Path) -> dict[str, float]:
    """Scores of the trained network, with its weights rounded to half precision as in a bundle."""
    with torch.inference_mode():
        for parameter in trained.network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(parameter.half().float())
        pixels = read_film(film, max_pixels=10**8).pixels
        logits = trained.network(Batch(recipe.preprocessing.build()([pixels]))).logits[0]
    return dict(zip(trained.outputs.keys, logits.sigmoid().tolist(), strict=False))


@pytest.mark.timeout(300)
@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_says_the_same_in_training_in_analyze_and_in_the_node(
    family: str, films_root: Path, tmp_path: Path
) -> None:
    recipe = small(read_recipe(RECIPES / f"{family}.toml"), tmp_path)
    trained, few = trained_on_real_films(recipe, films_root, tmp_path / "run")
    bundle = export_bundle(recipe, trained, few, path=tmp_path / "bundle")
    (film,) = write_openi_films(films_root, tmp_path / "films", 1)
    wanted = training_scores(trained, recipe, film)

    # In this process: another takes ten seconds of processor time to import torch.
    done = CliRunner().invoke(
        app, ["analyze", "--json", "--bundle", str(bundle.path), str(film)], env=UNGATED
    )
    assert done.exit_code == 0, done.output
    (study,) = json.loads(done.stdout)["studies"]
    analysed = {key: entry["score"] for key, entry in study["findings"].items()}
    assert set(analysed) == set(wanted)
    np.testing.assert_allclose([analysed[key] for key in wanted], list(wanted.values()), atol=1e-4)
    if family != SERVED:
        return
    with (
        StoreSCP(tmp_path / "pacs") as pacs,
        Node(tmp_path / "node", [pacs.destination], worker__bundle=str(bundle.path)) as node,
    ):
        assert storescu(node.port, [film]).returncode == 0
        assert node.settled(1, seconds=120)["studies"]["REPORTED"] == 1
        (report,) = [ds for ds in map(dcmread, pacs.files()) if ds.SOPClassUID == Comprehensive3DSRStorage]
    certainties = {
        key: entry["score"] if entry["certainty"] is None else entry["certainty"]
        for key, entry in study["findings"].items()
    }
    served = {name.removeprefix(f"{family}/"): value for name, value in scores(report).items()}
    scale = {key: 100 if study["findings"][key]["certainty"] is not None else 1 for key in served}
    np.testing.assert_allclose(
        [served[key] / scale[key] for key in certainties], list(certainties.values()), atol=1e-4
    )
