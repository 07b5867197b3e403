"""Labels of a bundle: keys of the vocabulary, and labels that the bundle defines itself.

::

    keys = ["cardiomegaly", "pacemaker_lead"]

    [labels.pacemaker_lead]
    name = "Pacemaker Lead"
    code = { value = "LEAD", scheme = "99MYSITE", meaning = "Pacemaker lead" }
    site = { value = "816094009", scheme = "SCT", meaning = "Thorax" }        # optional, and so is qualifier
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from models.bundles.manifest import to_toml
from models.errors import VocabularyError
from models.labels.vocabulary import Code, Label, load_vocabulary

_TABLES = {"keys", "labels"}


def parse_labels(table: Mapping[str, Any]) -> tuple[Label, ...]:
    """Read the labels of a bundle, in the order of its outputs.

    Parameters
    ----------
    table
        Contents of ``labels.toml``.

    Raises
    ------
    VocabularyError
        If there are no keys or a key is named twice, a key is neither in the vocabulary nor defined, or a
        definition is wrong, has no key, or is of a label of the vocabulary.
    """
    keys = table.get("keys")
    if not set(table) <= _TABLES or not isinstance(keys, list) or not keys:
        raise VocabularyError(
            "it must hold keys, and definitions of labels as [labels.KEY], and nothing else"
        )
    if repeated := sorted({str(key) for key in keys if keys.count(key) > 1}):
        raise VocabularyError(f"it names {', '.join(repeated)} twice")
    known = load_vocabulary().labels
    own = {key: define_label(key, entry) for key, entry in table.get("labels", {}).items()}
    for key in own:
        if key in known:
            raise VocabularyError(f"it defines {key}, which is in the vocabulary: choose another key")
        if key not in keys:
            raise VocabularyError(f"it defines {key}, which is not among its keys")
    selected = load_vocabulary().select([key for key in keys if key not in own])
    every = {**own, **{label.key: label for label in selected}}
    return tuple(every[key] for key in keys)


def define_label(key: str, entry: Any) -> Label:
    """Label that is not in the vocabulary, from its definition.

    Raises
    ------
    VocabularyError
        If an entry is missing, unknown or wrong.
    """
    try:
        parts = dict(entry)
        codes = {name: Code(**parts.pop(name)) for name in ("site", "qualifier") if name in parts}
        name, code = parts.pop("name"), Code(**parts.pop("code"))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise VocabularyError(
            f"label {key}: write name, code and perhaps site and qualifier, each code with value, scheme and "
            f"meaning ({error})"
        ) from error
    if parts or not isinstance(name, str) or not name:
        raise VocabularyError(f"label {key}: {next(iter(parts), 'name')} is unknown or empty")
    return Label(key, name, code, codes.get("site"), codes.get("qualifier"), mesh=())


def dump_labels(labels: Sequence[Label]) -> str:
    """Text of ``labels.toml``; labels of the vocabulary are written as keys alone."""
    known = load_vocabulary().labels
    tables = {
        f"labels.{label.key}": {
            "name": label.name,
            **{
                part: asdict(code)
                for part, code in (("code", label.code), ("site", label.site), ("qualifier", label.qualifier))
                if code is not None
            },
        }
        for label in labels
        if label.key not in known
    }
    keys = f"keys = {json.dumps([label.key for label in labels], indent=4)}\n"
    return keys + (to_toml({}, tables) if tables else "")
