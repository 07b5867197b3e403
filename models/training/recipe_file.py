"""A recipe on disk: a TOML file, and one sentence about what is wrong in it."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from models.errors import RecipeError
from models.labels.vocabulary import load_vocabulary
from models.training.recipe import GateRecipe, Recipe

AnyRecipe = TypeVar("AnyRecipe", Recipe, GateRecipe)


def read_recipe(path: Path) -> Recipe:
    """Read the recipe of a bundle of findings; raises as :func:`read_any_recipe`."""
    return _checked(Recipe, path, _table(path))


def read_any_recipe(path: Path) -> Recipe | GateRecipe:
    """Read a recipe file of either kind.

    Raises
    ------
    RecipeError
        If it cannot be read, is not TOML, or an entry is unknown, missing or wrong; an unknown one is
        answered with the nearest that exists.
    """
    table = _table(path)
    if table.get("kind") == "gate":
        return _checked(GateRecipe, path, table)
    return _checked(Recipe, path, table)


def check_names(recipe: Recipe, path: Path) -> None:
    """Check that what a recipe names exists, before a film is read: its lists of labels, its architecture.

    Raises
    ------
    RecipeError
        With those that there are.
    """
    # torch takes seconds to import, and reading a recipe needs none of it.
    from models.architectures.registry import architectures  # noqa: PLC0415

    named = [("list", recipe.list), *(("beside", name) for name in recipe.beside)]
    lists = load_vocabulary().lists
    for entry, name, known in (
        *((entry, name, tuple(lists)) for entry, name in named),
        ("architecture.name", recipe.architecture.name, architectures()),
    ):
        if name not in known:
            raise RecipeError(
                f"recipe {path}: {entry} = {name!r}: there is none of this name; "
                f"there are: {', '.join(known)}"
            )


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RecipeError(f"recipe {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {path} is not TOML: {error}") from error


def _checked(kind: type[AnyRecipe], path: Path, table: dict[str, Any]) -> AnyRecipe:
    try:
        return kind.model_validate(table)
    except ValidationError as error:
        raise RecipeError(f"recipe {path}: {_sentence(kind, error)}") from error


def _sentence(recipe: type[BaseModel], error: ValidationError) -> str:
    # One wrong entry at a time is enough to act on; a misspelt one first, for it is also a missing one.
    first = min(error.errors(), key=lambda found: found["type"] != "extra_forbidden")
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(
            str(first["loc"][-1]), _known(recipe, first["loc"][:-1]), n=1, cutoff=0.0
        )
        return f"unknown entry {place}; did you mean {nearest[0]}?"
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _known(recipe: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    model = recipe
    for part in place:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            candidates = [annotation, *get_args(annotation)]
            model = next(
                kind for kind in candidates if isinstance(kind, type) and issubclass(kind, BaseModel)
            )
    return list(model.model_fields)
