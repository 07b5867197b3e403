"""A wrong recipe is answered with one sentence that helps."""

from __future__ import annotations

from pathlib import Path

import pytest

import models
from models.errors import RecipeError
from models.labels.vocabulary import load_vocabulary
from models.training.recipe import GateRecipe
from models.training.recipe_file import check_names, read_any_recipe, read_recipe

RECIPES = Path(models.__file__).parent / "recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_recipe_can_be_read(path: Path):
    recipe = read_any_recipe(path)
    assert recipe.name == path.stem
    if isinstance(recipe, GateRecipe):
        assert recipe.preprocessing.build().size == 128
        return
    assert load_vocabulary().keys(recipe.list)
    assert recipe.preprocessing.build().size == recipe.stages[-1].size


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate", "lerning_rate", r"optimizer\.lerning_rate; did you mean learning_rate\?"),
        ("auxiliary_reports", "auxilary_reports", r"auxilary_reports; did you mean auxiliary_reports\?"),
        ("[[stages]]\nepochs = 1", "[[stages]]\nepoch = 1", r"stages\.0\.epoch; did you mean epochs\?"),
        ("low = 0.5", "lo = 0.5", r"preprocessing\.lo; did you mean low\?"),
        ("low = 0.5\n", "", r"preprocessing\.low: Field required"),
        ("batch_size = 8", "batch_size = 1", r"optimizer\.batch_size"),
        ("batch_size = 8", 'batch_size = "8"', r"optimizer\.batch_size"),
        ('start = "random"', 'start = "chexpert"', r"architecture\.start"),
        ("size = 48\nchannels", "size = 40\nchannels", "the last stage trains at 48 pixels"),
        ("size = 32", "size = 96", "size 96 is not within"),
        ('version = "0.0.1"', 'version = "first"', "version"),
        ('name = "tiny-findings"', 'name = "../up"', "name"),
        ("[optimizer]", "[optimizer", "not TOML"),
    ],
)
def test_a_wrong_entry_is_named_with_what_was_meant(recipe_file: Path, old: str, new: str, message: str):
    text = recipe_file.read_text()
    assert old in text
    recipe_file.write_text(text.replace(old, new, 1))
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(recipe_file)
    assert str(recipe_file) in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('list = "findings"', 'list = "findngs"', "list = 'findngs': .*there are: findings, "),
        ('list = "findings"', 'list = "findings"\nbeside = ["none"]', "beside = 'none': "),
        ('name = "convnet"', 'name = "covnet"', "architecture.name = 'covnet': .*convnet, "),
    ],
)
def test_a_name_of_nothing_is_answered_with_those_that_there_are(
    recipe_file: Path, old: str, new: str, message: str
) -> None:
    text = recipe_file.read_text()
    check_names(read_recipe(recipe_file), recipe_file)
    assert old in text
    recipe_file.write_text(text.replace(old, new, 1))
    with pytest.raises(RecipeError, match=message):
        check_names(read_recipe(recipe_file), recipe_file)


def test_a_recipe_that_is_not_there_is_one_sentence(tmp_path: Path):
    with pytest.raises(RecipeError, match="cannot be read: No such file"):
        read_recipe(tmp_path / "none.toml")


def test_a_recipe_that_is_an_image_is_one_sentence(tmp_path: Path):
    (tmp_path / "film.toml").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(RecipeError, match="not TOML"):
        read_recipe(tmp_path / "film.toml")
