from __future__ import annotations

from pathlib import Path

from models.training.recipe_file import read_recipe


def test_the_size_follows_the_stages(recipe_file: Path):
    recipe = read_recipe(recipe_file)
    assert recipe.epochs == 3
    assert [recipe.size_at(epoch) for epoch in range(4)] == [32, 48, 48, 48]
