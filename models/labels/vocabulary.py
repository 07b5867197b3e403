"""The labels that models may predict: keys, names, codes, and the MeSH headings that feed them.

The facts live in ``vocabulary.toml`` beside this module; here they are read, checked and applied.
"""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

from models.errors import VocabularyError

# The dihedral group D5 and the permutation of Verhoeff's scheme (J. Verhoeff, Error detecting decimal codes,
# Mathematical Centre Tracts 29, 1969), which SNOMED CT identifiers end with (RF2 guide, section 5.5).
_MULTIPLICATION = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
    (1, 2, 3, 4, 0, 6, 7, 8, 9, 5),
    (2, 3, 4, 0, 1, 7, 8, 9, 5, 6),
    (3, 4, 0, 1, 2, 8, 9, 5, 6, 7),
    (4, 0, 1, 2, 3, 9, 5, 6, 7, 8),
    (5, 9, 8, 7, 6, 0, 4, 3, 2, 1),
    (6, 5, 9, 8, 7, 1, 0, 4, 3, 2),
    (7, 6, 5, 9, 8, 2, 1, 0, 4, 3),
    (8, 7, 6, 5, 9, 3, 2, 1, 0, 4),
    (9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
)
#: What the tables of ChestX-ray14 write of a film without any of their labels.
NIH_NOTHING = "No Finding"

_PERMUTATION = (1, 5, 7, 6, 2, 8, 3, 0, 9, 4)


def verhoeff(digits: str) -> bool:
    """Return True if a string of decimal digits ends with its Verhoeff check digit."""
    if not (digits.isascii() and digits.isdecimal()):
        return False
    check = 0
    for position, digit in enumerate(reversed(digits)):
        value = int(digit)
        for _ in range(position % 8):
            value = _PERMUTATION[value]
        check = _MULTIPLICATION[check][value]
    return check == 0


@dataclass(frozen=True, slots=True)
class Code:
    """A coded concept (PS3.3 section 8): value and scheme of at most 16 characters, meaning of at most 64.

    Raises
    ------
    VocabularyError
        If a part is empty or too long, or a SNOMED CT code fails its check digit.
    """

    value: str
    scheme: str
    meaning: str

    def __post_init__(self) -> None:
        for part, text, longest in (
            ("value", self.value, 16),
            ("scheme", self.scheme, 16),
            ("meaning", self.meaning, 64),
        ):
            if not 0 < len(text) <= longest:
                raise VocabularyError(f"code {self}: its {part} must have 1 to {longest} characters")
        if self.scheme == "SCT" and not verhoeff(self.value):
            raise VocabularyError(
                f"code {self}: the SNOMED CT check digit is wrong; look the concept up again"
            )

    def __str__(self) -> str:
        return f'({self.value}, {self.scheme}, "{self.meaning}")'


@dataclass(frozen=True, slots=True)
class MeshRule:
    """One pattern over a MeSH heading and its qualifiers.

    Attributes
    ----------
    heading
        Folded heading; ``*`` stands for any.
    qualifier
        Folded qualifier that must be among the heading's, or None for any.
    """

    heading: str
    qualifier: str | None

    @classmethod
    def parse(cls, text: str) -> MeshRule:
        """Read ``Heading``, ``Heading/qualifier`` or ``*/qualifier``."""
        heading, *qualifiers = _parts(text)
        if not heading or len(qualifiers) > 1 or "" in qualifiers or (heading == "*" and not qualifiers):
            raise VocabularyError(f"mesh rule {text!r}: write Heading, Heading/qualifier or */qualifier")
        return cls(heading, qualifiers[0] if qualifiers else None)

    def matches(self, parts: Sequence[str]) -> bool:
        """Return True if the rule covers a heading, given as its case-folded parts."""
        return self.heading in ("*", parts[0]) and (self.qualifier is None or self.qualifier in parts[1:])


@dataclass(frozen=True, slots=True)
class Label:
    """One thing that a model may say of a film.

    Attributes
    ----------
    key
        Stable, in snake case; what bundles, calibrations and results refer to.
    name
        Shown to a person.
    code
        Code of the finding.
    site
        Finding site; None where the code implies it.
    qualifier
        Second code that narrows the first; None for most.
    mesh
        Headings of a report that make the label true; any one suffices.
    synonyms
        Further words that a report says it with.
    nih
        Name in the tables of ChestX-ray14; None where they know no such label.
    """

    key: str
    name: str
    code: Code
    site: Code | None
    qualifier: Code | None
    mesh: tuple[MeshRule, ...]
    synonyms: tuple[str, ...] = ()
    nih: str | None = None


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Vocabulary of labels, and the lists of them that models predict.

    Attributes
    ----------
    labels
        By key.
    lists
        Names to ordered keys.
    sole
        Key that is true only of a report whose single major heading feeds it.
    contrary
        Key that is true of every other report.
    excluded
        Folded headings of reports of which nothing is known.
    """

    labels: Mapping[str, Label]
    lists: Mapping[str, tuple[str, ...]]
    sole: str
    contrary: str
    excluded: frozenset[str]

    def __post_init__(self) -> None:
        for name, keys in self.lists.items():
            self.select(keys)
            if len(set(keys)) != len(keys):
                raise VocabularyError(f"vocabulary list {name!r} names a label twice")
        self.select([self.sole, self.contrary])

    def select(self, keys: Sequence[str]) -> tuple[Label, ...]:
        """Labels by key, in that order.

        Raises
        ------
        VocabularyError
            If a key is not in the vocabulary.
        """
        unknown = [key for key in keys if key not in self.labels]
        if unknown:
            raise VocabularyError(f"the vocabulary holds no label {', '.join(map(repr, unknown))}")
        return tuple(self.labels[key] for key in keys)

    def keys(self, name: str) -> tuple[str, ...]:
        """Ordered keys of a list.

        Raises
        ------
        VocabularyError
            If there is no such list.
        """
        if name not in self.lists:
            raise VocabularyError(f"the vocabulary holds no list {name!r}; it holds {', '.join(self.lists)}")
        return self.lists[name]

    def indexed(self, mesh_majors: Sequence[str]) -> bool:
        """Return True if a report was indexed; others are left out of every data set."""
        headings = [_parts(major)[0] for major in mesh_majors]
        return any(headings) and self.excluded.isdisjoint(headings)

    def derive(self, mesh_majors: Sequence[str]) -> frozenset[str]:
        """Keys of all labels that a report's major MeSH headings make true.

        Parameters
        ----------
        mesh_majors
            Such as ``["Calcified Granuloma/lung/upper lobe/right", "Cardiomegaly"]``.
        """
        majors = {tuple(_parts(major)) for major in mesh_majors}
        found = {
            key
            for key, label in self.labels.items()
            if any(rule.matches(parts) for rule in label.mesh for parts in majors)
        }
        if len({parts[0] for parts in majors}) != 1:
            found.discard(self.sole)
        if self.sole not in found:
            found.add(self.contrary)
        return frozenset(found)

    def from_nih(self, names: Sequence[str]) -> frozenset[str]:
        """Keys of the labels that a row of the ChestX-ray14 table names.

        Parameters
        ----------
        names
            Such as ``["Effusion", "Infiltration"]``, or ``["No Finding"]``.

        Raises
        ------
        VocabularyError
            If a name is no label of that table.
        """
        keys = {label.nih: key for key, label in self.labels.items() if label.nih}
        unknown = [name for name in names if name not in keys and name != NIH_NOTHING]
        if unknown:
            raise VocabularyError(f"ChestX-ray14 has no label {', '.join(map(repr, unknown))}")
        return frozenset(keys[name] for name in names if name in keys)


def mesh_heading(major: str) -> str:
    """Folded heading of a major entry, without its qualifiers."""
    return _parts(major)[0]


def mesh_terms(major: str) -> tuple[str, ...]:
    """Folded heading of a major entry, and the heading with each of its qualifiers."""
    heading, *qualifiers = _parts(major)
    return (heading, *(f"{heading}/{qualifier}" for qualifier in qualifiers))


def _parts(major: str) -> list[str]:
    # Open-i writes "Subcutaneous  Emphysema" and "Thoracic vertebrae" beside the usual spellings.
    return [" ".join(part.split()).casefold() for part in major.split("/")]


def _code(entry: Mapping[str, str] | None) -> Code | None:
    return None if entry is None else Code(**entry)


def parse_vocabulary(text: str) -> Vocabulary:
    """Read a vocabulary from TOML text.

    Raises
    ------
    VocabularyError
        If it is not TOML, or an entry is missing, superfluous or wrong.
    """
    try:
        table: dict[str, Any] = tomllib.loads(text)
        labels = {
            key: Label(
                key=key,
                name=entry.pop("name"),
                code=Code(**entry.pop("code")),
                site=_code(entry.pop("site", None)),
                qualifier=_code(entry.pop("qualifier", None)),
                mesh=tuple(MeshRule.parse(rule) for rule in entry.pop("mesh")),
                synonyms=tuple(entry.pop("synonyms", ())),
                **entry,
            )
            for key, entry in table["labels"].items()
        }
        return Vocabulary(
            labels=labels,
            lists={name: tuple(keys) for name, keys in table["lists"].items()},
            sole=table["sole"],
            contrary=table["contrary"],
            excluded=frozenset(mesh_heading(heading) for heading in table["excluded"]),
        )
    except tomllib.TOMLDecodeError as error:
        raise VocabularyError(f"the vocabulary is not TOML: {error}") from error
    except KeyError as error:
        raise VocabularyError(f"the vocabulary lacks {error}") from error
    except TypeError as error:
        raise VocabularyError(f"the vocabulary has an unknown or missing entry: {error}") from error


@functools.cache
def load_vocabulary() -> Vocabulary:
    """The vocabulary that comes with the package."""
    return parse_vocabulary(
        resources.files("models.labels").joinpath("vocabulary.toml").read_text(encoding="utf-8")
    )
