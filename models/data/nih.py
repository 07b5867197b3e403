"""The NIH ChestX-ray14 films (Wang et al. 2017): nothing but the fourteen labels is known of a film.

Two forms of a folder are read, whichever is there:

- ``index.csv`` with one row a film and the columns of :data:`COLUMNS`, and the films in ``images/``;
- the collection as it is distributed: ``Data_Entry_2017.csv`` or its correction
  ``Data_Entry_2017_v2020.csv``, ``train_val_list.txt`` and ``test_list.txt``, and the films in
  ``images_001/images/`` and so on, or together in ``images/``. The published test list is kept, val is
  derived from the others by patient.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.data import boxes
from models.data.dataset import SPLITS, FilmDataset, LabelledStudy, read_film
from models.data.metadata import agreed, sex, whole_years
from models.data.splits import derived_split
from models.data.tables import read_table
from models.errors import DatasetError, UsageError, VocabularyError
from models.labels.vocabulary import Vocabulary
from models.processing.types import FloatArray

NAME = "nih"
TITLE = "NIH ChestX-ray14 (Wang et al. 2017)"
TERMS = "CC0"
LIST = "nih"

INDEX = "index.csv"
COLUMNS = ("file", "patient", "split", "labels", "view")

ENTRIES = "Data_Entry_2017*.csv"
TRAINING_LIST, TEST_LIST = "train_val_list.txt", "test_list.txt"

#: Of the patients of the training list: with the published test list, about 70, 10 and 20 % of the films.
SHARES = {"train": 7, "val": 1}

_FILE, _LABELS, _PATIENT = "Image Index", "Finding Labels", "Patient ID"
#: The correction of 2020 renamed a column; the age was ``058Y`` before it and ``58`` since.
_FACTS = ("Patient Age", "Patient Gender", "Patient Sex", "View Position")


def read_nih(
    root: Path, vocabulary: Vocabulary, read: Callable[[Path], FloatArray] = read_film
) -> FilmDataset:
    """Read index or tables; films are opened later. Each film is a study of its own.

    Raises
    ------
    UsageError
        If neither form is there.
    DatasetError
        If a table is malformed, a film that the index lists is not there, or a
        patient is in two splits.
    """
    films = find_films(root)
    try:
        if (root / INDEX).exists():
            return _by_index(root, vocabulary, films, read)
        if next(root.glob(ENTRIES), None):
            return _by_entries(root, vocabulary, films, read)
    except VocabularyError as error:
        raise DatasetError(f"{root}: {error}") from error
    raise UsageError(f"{root} holds no ChestX-ray14 set: neither {INDEX} nor {ENTRIES} was found there")


def find_films(root: Path) -> dict[str, Path]:
    """Paths of the films by file name, from ``images/`` and ``images_*/``."""
    folders = [root / "images", *sorted(root.glob("images_*/"))]
    return {
        path.name: path
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.suffix.lower() in (".png", ".jpg", ".jpeg")
    }


def _by_index(
    root: Path, vocabulary: Vocabulary, films: dict[str, Path], read: Callable[[Path], FloatArray]
) -> FilmDataset:
    index = root / INDEX
    facts = _entry_facts(root)
    known = frozenset(vocabulary.keys(LIST))
    studies: dict[str, list[LabelledStudy]] = {split: [] for split in SPLITS}
    for line, row in read_table(index, COLUMNS):
        if row["file"] not in films:
            raise DatasetError(f"{index} line {line}: {row['file']} is not in {root / 'images'}")
        if not row["split"].isidentifier():
            raise DatasetError(f"{index} line {line}: {row['split']!r} is no name of a split")
        studies.setdefault(row["split"], []).append(
            LabelledStudy(
                identifier=row["file"],
                patient=row["patient"],
                films=(films[row["file"]],),
                keys=vocabulary.from_nih(row["labels"].split("|")),
                headings=None,
                known=known,
                views=("frontal",),
                facts=facts.get(Path(row["file"]).stem, {}) | agreed([{"view": row["view"]}]),
                read=read,
            )
        )
    notes = [] if facts else [f"no {ENTRIES}: neither age nor sex is known"]
    return _dataset(root, studies, notes)


def _by_entries(
    root: Path, vocabulary: Vocabulary, films: dict[str, Path], read: Callable[[Path], FloatArray]
) -> FilmDataset:
    if not films:
        raise DatasetError(
            f"{root} holds tables but no film: unpack images_001.tar.gz into images_001/ and so on"
        )
    training, test = _list(root / TRAINING_LIST), _list(root / TEST_LIST)
    if both := training & test:
        raise DatasetError(f"{min(both)} is in {TRAINING_LIST} and in {TEST_LIST} of {root}")
    known = frozenset(vocabulary.keys(LIST))
    facts = _entry_facts(root)
    studies: dict[str, list[LabelledStudy]] = {split: [] for split in SPLITS}
    absent = unlisted = 0
    for _, row in read_table(_entries(root), (_FILE, _LABELS, _PATIENT)):
        # The tables of 2017 and 2020 write the patient of 00000047_005.png as 47.
        file, patient = row[_FILE], row[_PATIENT].lstrip("0") or "0"
        if file not in films or (file not in training and file not in test):
            absent += file not in films
            unlisted += file in films
            continue
        split = "test" if file in test else derived_split(NAME, patient, SHARES)
        studies[split].append(
            LabelledStudy(
                identifier=file,
                patient=patient,
                films=(films[file],),
                keys=vocabulary.from_nih(row[_LABELS].split("|")),
                headings=None,
                known=known,
                views=("frontal",),
                facts=facts[Path(file).stem],
                read=read,
            )
        )
    if not any(studies.values()):
        raise DatasetError(f"{root} holds no film that its tables list; are these the collection's?")
    notes = [f"test is {TEST_LIST}, val is derived from the patients of {TRAINING_LIST}"]
    if absent:
        notes.append(f"{absent} films of the table are not in {root}: they are left out")
    if unlisted:
        notes.append(f"{unlisted} films are in neither {TRAINING_LIST} nor {TEST_LIST}: they are left out")
    return _dataset(root, studies, notes)


def _dataset(root: Path, studies: dict[str, list[LabelledStudy]], notes: list[str]) -> FilmDataset:
    if not any((root / name).exists() for name in (boxes.INDEXED, boxes.OFFICIAL)):
        notes.append(f"no {boxes.OFFICIAL}: it is not known where on a film a finding is")
    found = {split: tuple(found) for split, found in studies.items()}
    return FilmDataset(NAME, TITLE, TERMS, found, tuple(notes))


def _entries(root: Path) -> Path:
    """The table of the collection; the correction of 2020 where both are there."""
    return max(root.glob(ENTRIES))


def _entry_facts(root: Path) -> dict[str, dict[str, str]]:
    """Metadata of each film's patient and view from the table, by the film's name without its extension."""
    if not next(root.glob(ENTRIES), None):
        return {}
    facts = {}
    for _, row in read_table(_entries(root), (_FILE,), _FACTS):
        age, gender, said, view = (row[name] for name in _FACTS)
        facts[Path(row[_FILE]).stem] = agreed(
            [{"age": whole_years(age), "sex": sex(said or gender), "view": view}]
        )
    return facts


def _list(path: Path) -> frozenset[str]:
    """File names of a published list."""
    try:
        return frozenset(path.read_text(encoding="utf-8").split())
    except OSError as error:
        raise DatasetError(
            f"{path} cannot be read: {error.strerror}; it is part of the collection, put it there"
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path} is no list of file names: {error}") from error
