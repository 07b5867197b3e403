"""Mistakes in settings, as sentences that name the key, such as ``destinations.0.host``.

The keys are those that the user writes; no sentence holds the name of a class.
"""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dicom_node.config.addresses import without_password

Models: TypeAlias = Sequence[type[BaseModel]]

_KEY_PREFIX = re.compile(r"((?:\w+\.)*\w+): (.+)", re.DOTALL)

_SENTENCES = {
    "missing": "is required",
    "tuple_type": "must be a list",
    "dict_type": "must be a table of keys and values",
    "model_type": "must be a table of keys and values",
    "model_attributes_type": "must be a table of keys and values",
    "union_tag_not_found": "must be a table of keys and values",
    "string_type": "must be text",
    "path_type": "must be a path",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a smaller number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "union_tag_invalid": "must be one of {expected_tags}",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_short": "must have {min_length} or more characters",
    "string_too_long": "must have at most {max_length} characters",
}
"""Type of a pydantic error -> sentence about the key, with the error's context."""


def unknown_keys(models: Models, table: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield a sentence for each key of a table that no setting has.

    Parameters
    ----------
    models
        Sections that the table may be; more than one for a destination.
    table
        Table of the configuration file.
    path
        Key of the table, with a dot at its end; empty for the whole file.
    """
    fields = _fields(_of_kind(models, table))
    for key, value in table.items():
        if key not in fields:
            yield f"{path}{key}: unknown key{nearest(key, fields, path)}"
            continue
        sections, is_list = _sections_of(fields[key])
        if not sections:
            continue
        if is_list and isinstance(value, list):
            entries = {f"{path}{key}.{number}.": entry for number, entry in enumerate(value)}
        else:
            entries = {f"{path}{key}.": value}
        for begin, entry in entries.items():
            if isinstance(entry, Mapping):
                yield from unknown_keys(sections, entry, begin)


def variables(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, bool]]:
    """Yield the environment variables of a section: name, and whether the value is written as JSON."""
    for key, field in model.model_fields.items():
        name = f"{prefix}{key.upper()}"
        sections, is_list = _sections_of(field.annotation)
        yield name, is_list or bool(sections)
        for section in [] if is_list else sections:
            yield from variables(section, f"{name}__")


def variable_mistakes(model: type[BaseModel], prefix: str, environment: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each environment variable that no setting has, or that is not valid JSON."""
    known = dict(variables(model, prefix))
    for name in sorted(environment):
        if not name.startswith(prefix):
            continue
        if name.upper() not in known:
            yield f"environment: unknown variable {name}{nearest(name, known)}"
        elif known[name.upper()]:
            try:
                json.loads(environment[name])
            except ValueError as error:
                yield f"{name}: not valid JSON, as lists and tables must be ({error})"


def nearest(key: str, known: Collection[str], path: str = "") -> str:
    """Return the end of a sentence that names the known key most like an unknown one, or all of them."""
    found = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean {path + found[0]!r}?" if found else f"; known here: {', '.join(sorted(known))}"


def sentences(error: ValidationError, model: type[BaseModel]) -> Iterator[tuple[list[str], str]]:
    """Yield the mistakes that pydantic found: the parts of the key, and a sentence about its value."""
    for mistake in error.errors():
        location, models = _location(mistake["loc"], model)
        sentence = _sentence(mistake, location, models)
        if mistake["type"] == "union_tag_invalid":
            location.append("kind")
        if not location and (keyed := _KEY_PREFIX.fullmatch(sentence)):
            location, sentence = keyed[1].split("."), keyed[2]
        yield location, sentence + _got(mistake, sentence)


def _sentence(mistake: ErrorDetails, location: Sequence[str], models: Models) -> str:
    context = {name: _short(value) for name, value in mistake.get("ctx", {}).items()}
    if mistake["type"] == "value_error":
        return str(context["error"])
    if mistake["type"] == "extra_forbidden":
        return f"unknown key{nearest(location[-1], _fields(models), '.'.join([*location[:-1], '']))}"
    known = _SENTENCES.get(mistake["type"])
    return known.format(**context) if known else mistake["msg"]


def _short(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _got(mistake: ErrorDetails, sentence: str) -> str:
    """Return the end of a sentence that shows the value, unless it is a table or already shown."""
    value = mistake["ctx"]["tag"] if mistake["type"] == "union_tag_invalid" else mistake["input"]
    shown = isinstance(value, str | int | float) and mistake["type"] != "extra_forbidden"
    repeated = mistake["type"] == "value_error" and repr(value) in sentence
    if isinstance(value, str):
        value = without_password(value)
    return f" (got {value!r})" if shown and not repeated else ""


def _location(parts: Sequence[int | str], model: type[BaseModel]) -> tuple[list[str], Models]:
    """Return the key of a pydantic error, and the sections that its last part was looked up in."""
    key: list[str] = []
    models: Models = [model]
    looked_up = models
    for part in parts:
        if isinstance(part, str) and len(models) > 1:  # the kind of a destination stands in no key
            models = _of_kind(models, {"kind": part})
            continue
        key.append(str(part))
        if isinstance(part, int):
            continue
        looked_up = models
        annotation = _fields(models).get(part)
        models = _sections_of(annotation)[0]
    return key, looked_up


def _fields(models: Models) -> dict[str, Any]:
    return {key: field.annotation for model in models for key, field in model.model_fields.items()}


def _of_kind(models: Models, table: Mapping[str, Any]) -> Models:
    """Return the sections of the kind that a table says; all when it says none that exists."""
    if len(models) == 1:
        return models
    kind = table.get("kind", "dicom")
    return [each for each in models if kind in get_args(_fields([each])["kind"])] or models


def _sections_of(annotation: Any) -> tuple[Models, bool]:
    """Return the sections behind the annotation of a field, and whether the field is a list."""
    if get_origin(annotation) is tuple:
        return _sections_of(get_args(annotation)[0])[0], True
    if get_origin(annotation) is Annotated:
        return _sections_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        parts = [_sections_of(part) for part in get_args(annotation)]
        return [model for models, _ in parts for model in models], any(is_list for _, is_list in parts)
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return ([annotation] if is_model else []), False
