"""Labels of a foreign network: names of the vocabulary, and new ones that a bundle defines."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.bundles.bundle_labels import define_label
from models.errors import ForeignModelError, UsageError
from models.labels.vocabulary import Code, Label, load_vocabulary

OWN_SCHEME = "99CXRBUNDLE"
"""Coding scheme of labels that were named without a code: its values count within one bundle."""
SKIPPED = "-"
"""Name of an output that has no label."""
_VALUE, _MEANING = 16, 64


def match_labels(
    names: Sequence[str], definitions: Mapping[str, Any] | None = None
) -> tuple[Label | None, ...]:
    """Labels by their names in another framework, in order.

    Parameters
    ----------
    names
        Names, such as ``Pleural_Thickening``; a key, a name, the name in ChestX-ray14 or a synonym of the
        vocabulary, without regard to case and signs. ``-`` or an empty name stands for an output without a
        label, for which None is returned.
    definitions
        Definitions of new labels by key.

    Raises
    ------
    ForeignModelError
        If two names mean the same label, or no output has a label.
    VocabularyError
        If a definition is wrong.
    """
    own = {key: define_label(key, entry) for key, entry in (definitions or {}).items()}
    known = _by_name()
    found: list[Label | None] = []
    for name in names:
        folded = fold(name)
        if not folded:
            found.append(None)
        else:
            found.append(own.get(name) or own.get(folded) or known.get(folded) or _new_label(name, folded))
    chosen = [label for label in found if label is not None]
    keys = [label.key for label in chosen]
    if repeated := sorted({key for key in keys if keys.count(key) > 1}):
        raise ForeignModelError(f"two of the labels mean {', '.join(repeated)}: name each output once")
    if not chosen:
        raise ForeignModelError("no output has a label: name them by --labels")
    if unused := sorted(set(own) - set(keys)):
        raise ForeignModelError(f"the label {unused[0]} is defined, and no output has it")
    return tuple(found)


def read_labels(text: str) -> tuple[Label | None, ...]:
    """Labels from what ``--labels`` says: names with commas between them, or a TOML file like a bundle's.

    Raises
    ------
    UsageError
        If there is no such file.
    ForeignModelError
        If the file cannot be read, is not TOML or holds no keys, or as :func:`match_labels` says.
    """
    if not text.endswith(".toml"):
        return match_labels(text.split(","))
    if not Path(text).is_file():
        raise UsageError(f"--labels {text}: there is no such file")
    try:
        table = tomllib.loads(Path(text).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ForeignModelError(f"{text} cannot be read as labels: {error}") from error
    keys = table.get("keys")
    if (
        set(table) - {"keys", "labels"}
        or not isinstance(keys, list)
        or not all(isinstance(key, str) for key in keys)
    ):
        raise ForeignModelError(f"{text} must hold keys, a list of names, and definitions as [labels.KEY]")
    return match_labels(keys, table.get("labels"))


def known_label(name: str) -> Label | None:
    """Label of the vocabulary by any of its names, as :func:`match_labels` finds it; else None."""
    return _by_name().get(fold(name))


def fold(name: str) -> str:
    """Name in snake case; empty for one without letters and digits."""
    return re.sub(r"[^a-z0-9]+", "_", name.casefold()).strip("_")


def _by_name() -> dict[str, Label]:
    labels = load_vocabulary().labels.values()
    found: dict[str, Label] = {}
    for names in (
        [(label.key, label) for label in labels],
        [(label.name, label) for label in labels],
        [(label.nih or "", label) for label in labels],
        [(word, label) for label in labels for word in label.synonyms],
    ):
        for name, label in names:
            found.setdefault(fold(name), label)
    found.pop("", None)
    return found


def _new_label(name: str, key: str) -> Label:
    value = key.upper()
    if len(value) > _VALUE:
        value = f"{value[:9]}_{hashlib.sha256(key.encode()).hexdigest()[:6].upper()}"
    shown = " ".join(name.replace("_", " ").split())[:_MEANING]
    return Label(key, shown, Code(value, OWN_SCHEME, shown), None, None, mesh=())
