"""docs/recipes.md has every key of a recipe, with its default, and no other."""

from __future__ import annotations

import inspect
import re
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from models.architectures import biomedclip, concatenation, convnet, crossattention, densenet
from models.architectures.registry import BUILDERS
from models.training import recipe

TEXT = (Path(__file__).resolve().parents[4] / "docs" / "recipes.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^##+ (.+?)\n(.*?)(?=^##|\Z)", TEXT, flags=re.MULTILINE | re.DOTALL))
TABLES: dict[str, type[BaseModel]] = {
    "The bundle": recipe.Recipe,
    "`[architecture]`": recipe.ArchitectureTable,
    "`[preprocessing]`": recipe.PreprocessingTable,
    "`[[stages]]`": recipe.Stage,
    "`[optimizer]`": recipe.OptimizerTable,
    "`[loss]`": recipe.LossTable,
    "`[augmentation]`": recipe.AugmentationTable,
    "`[alignment]`": recipe.AlignmentTable,
    "`[folds]`": recipe.FoldsTable,
    "`[[further]]`": recipe.ExtraDataset,
    "`[[also]]`": recipe.ExtraBundle,
    "A gate": recipe.GateRecipe,
    "`[negatives]`": recipe.NegativesTable,
    "`[architecture]` of a gate": recipe.GateArchitecture,
}
# Keys that are tables of their own, with a section of their own.
OWN_SECTION = {
    "architecture", "preprocessing", "stages", "optimizer", "loss", "augmentation", "alignment", "folds",
    "further", "also", "negatives",
}  # fmt: skip
FAMILIES = {
    "biomedclip": biomedclip.BiomedClip,
    "concatenation": concatenation.Concatenation,
    "convnet": convnet.ConvNet,
    "crossattention": crossattention.CrossAttention,
    "densenet": densenet.DenseNet,
}


def test_every_table_of_a_recipe_has_a_section() -> None:
    kinds = {
        kind
        for kind in vars(recipe).values()
        if inspect.isclass(kind) and issubclass(kind, recipe._Table) and kind is not recipe._Table
    }
    assert kinds == set(TABLES.values())


@pytest.mark.parametrize("title", TABLES)
def test_a_section_has_every_key_with_its_default(title: str) -> None:
    written = dict(re.findall(r"^\| `(\w+)` \|(.*?)\| .+ \|$", SECTIONS[title], flags=re.MULTILINE))
    fields = {key: field for key, field in TABLES[title].model_fields.items() if key not in OWN_SECTION}
    assert list(written) == [key for key in written if key in fields]
    assert set(written) == set(fields)
    for key, field in fields.items():
        assert _shown(written[key]) == _plain(field.default), key


def test_the_arguments_of_every_family_are_there_with_their_defaults() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| `(\w+)` \|(.*?)\| .+ \|$",
        SECTIONS["`[architecture.arguments]`"],
        flags=re.MULTILINE,
    )
    written = {(family, argument): _shown(default) for family, argument, default in rows}
    expected = {
        (family, parameter.name): _plain(parameter.default)
        for family, network in FAMILIES.items()
        for parameter in inspect.signature(network).parameters.values()
        if parameter.name not in ("outputs", "channels")  # of the labels, of [preprocessing]
    }
    assert set(FAMILIES) == set(BUILDERS)
    assert written == expected


def test_the_smallest_recipe_is_one() -> None:
    example = re.search(r"^```toml\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert example
    recipe.Recipe.model_validate(tomllib.loads(example[1]))


def _shown(cell: str) -> object:
    """Return the default that a cell states; an empty cell is that of a key that must be given."""
    value = cell.strip(" `")
    if not value:
        return PydanticUndefined
    return None if value == "none" else tomllib.loads(f"x = {value}")["x"]


def _plain(default: object) -> object:
    """Return a default of the code as TOML would give it."""
    if isinstance(default, BaseModel):
        return default.model_dump()
    return list(default) if isinstance(default, tuple) else default
