"""Films of several public collections in one table, for pre-training and for external checks.

A folder holds ``index.csv`` with one row a film and the columns of :data:`COLUMNS`; ``file`` is the path of
the film in that folder, and ``labels`` are the words of its source, separated by a bar. Sources label
different things, so a study knows only the labels that its source gives: see :data:`SOURCES`. The words of
the sources, and the view, are headings, which a training learns in addition.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from models.data.dataset import SPLITS, FilmDataset, LabelledStudy, read_film
from models.data.metadata import agreed
from models.data.splits import derived_split
from models.data.tables import read_table
from models.errors import DatasetError, UsageError, VocabularyError
from models.labels.vocabulary import NIH_NOTHING, Vocabulary
from models.processing.types import FloatArray

NAME = "collections"
TITLE = "Public collections of chest radiographs"
TERMS = "of each source, in the column licence of index.csv"

INDEX = "index.csv"
COLUMNS = ("file", "source_set", "patient", "labels", "view", "use")

#: Of the patients whose films may be trained on.
SHARES = {"train": 19, "val": 1}

_EXTERNAL = "external test"
_SERIES = frozenset({("kermany", "N2")})  # a series of file names, NORMAL2-IM-0001 and so on: no patient
_UNKNOWN = frozenset({"", "todo", "not stated"})
_NORMAL = frozenset({"no finding", "normal", "no nodule"})


@dataclass(frozen=True, slots=True)
class Source:
    """Labels of a source.

    Attributes
    ----------
    present
        Word of the source -> key of the label that it makes true; other words make none true.
    list
        List of the vocabulary that the source covers, by ChestX-ray14's names; empty for `present` alone.
    """

    present: Mapping[str, str] = field(default_factory=dict)
    list: str = ""


SOURCES: dict[str, Source] = {
    "nih": Source(list="nih"),  # Wang et al. 2017
    "jsrt": Source({"Nodule": "nodule"}),  # Shiraishi et al. 2000
    "shenzhen": Source({"Tuberculosis": "abnormal"}),  # Jaeger et al. 2014
    "kermany": Source(
        {"Pneumonia bacterial": "pneumonia", "Pneumonia viral": "pneumonia"}
    ),  # Kermany et al. 2018
}
"""First part of ``source_set`` -> its labels; any other source gives headings alone."""


def read_collections(
    root: Path, vocabulary: Vocabulary, read: Callable[[Path], FloatArray] = read_film
) -> FilmDataset:
    """Read the table; films are opened later. Each film is a study of its own.

    Films whose ``use`` is ``external test`` are a split of their own, named by the first part of their
    source, such as ``jsrt``; the others are ``train`` and ``val``, by patient. Films that may be turned
    (column ``orientation_suspect``) are left out of ``train`` and ``val``.

    Raises
    ------
    UsageError
        If there is no table.
    DatasetError
        If the table is malformed, or a film that it lists is not there.
    """
    studies: dict[str, list[LabelledStudy]] = {split: [] for split in SPLITS if split != "test"}
    turned = 0
    index = root / INDEX
    if not index.is_file():
        raise UsageError(f"{root} holds no collections: {INDEX} was not found there")
    for line, row in read_table(index, COLUMNS, ("orientation_suspect",)):
        path = root / row["file"]
        if not path.is_file():
            raise DatasetError(f"{index} line {line}: {row['file']} is not in {root}")
        source = row["source_set"].split("_")[0]
        named = row["patient"] if (source, row["patient"]) not in _SERIES else row["file"]
        patient = f"{source}:{named}"
        external = row["use"] == _EXTERNAL
        if row["orientation_suspect"] and not external:
            turned += 1
            continue
        try:
            keys, known = _labels(source, row["labels"].split("|"), vocabulary)
        except VocabularyError as error:
            raise DatasetError(f"{index} line {line}: {error}") from error
        split = source if external else derived_split(NAME, patient, SHARES)
        studies.setdefault(split, []).append(
            LabelledStudy(
                identifier=row["file"],
                patient=patient,
                films=(path,),
                keys=keys,
                headings=_headings(source, row["labels"].split("|"), row["view"]),
                known=known,
                views=("frontal",),
                facts=agreed([{"view": row["view"].split(" ")[0], "source": source}]),
                read=read,
            )
        )
    notes = [f"{turned} films that may be turned are left out"] if turned else []
    found = {split: tuple(each) for split, each in studies.items()}
    return FilmDataset(NAME, TITLE, TERMS, found, tuple(notes))


def _labels(source: str, words: list[str], vocabulary: Vocabulary) -> tuple[frozenset[str], frozenset[str]]:
    """Keys that are true of a film, and keys that its source covers."""
    covered = SOURCES.get(source, Source())
    if covered.list:
        return vocabulary.from_nih(words), frozenset(vocabulary.keys(covered.list))
    return (
        frozenset(covered.present[word] for word in words if word in covered.present),
        frozenset(covered.present.values()),
    )


def _headings(source: str, words: list[str], view: str) -> frozenset[str] | None:
    """Words of the source and its view, under one name for a film without findings; None where unknown."""
    said = {word.strip() for word in words}
    if {word.lower() for word in said} & _UNKNOWN:
        return None
    if {word.lower() for word in said} <= _NORMAL:
        said = {NIH_NOTHING}
    elif SOURCES.get(source, Source()).list:
        said = set()  # its words are labels of the vocabulary
    return frozenset(said | {f"view {view.split(' ', maxsplit=1)[0]}"} if view else said)
