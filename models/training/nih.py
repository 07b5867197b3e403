"""The NIH ChestX-ray14 films (Wang et al. 2017) as a folder with ``images/`` and ``index.csv``.

The index has one row a film and the columns of :data:`COLUMNS`. Labels were mined from reports that are not
public: nothing but the fourteen labels is known of a film.
"""

from __future__ import annotations

import csv
from pathlib import Path

from models.errors import DatasetError, VocabularyError
from models.training.dataset import SPLITS, FilmDataset, LabelledStudy
from models.vocabulary import Vocabulary

NAME = "nih"
TITLE = "NIH ChestX-ray14 (Wang et al. 2017)"
TERMS = "CC0"
LIST = "nih"
COLUMNS = ("file", "patient", "split", "labels", "view")


def read_nih(root: Path, vocabulary: Vocabulary) -> FilmDataset:
    """Read the index; films are opened later. Each film is a study of its own.

    Raises
    ------
    DatasetError
        If the index is missing or malformed, a listed film is not there, or a patient is in two splits.
    """
    index = root / "index.csv"
    known = frozenset(vocabulary.keys(LIST))
    studies: dict[str, list[LabelledStudy]] = {split: [] for split in SPLITS}
    try:
        here = {path.name for path in (root / "images").glob("*")}
        with index.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise DatasetError(f"{index} has no column {', '.join(missing)}")
            for line, row in enumerate(reader, start=2):
                if row["file"] not in here:
                    raise DatasetError(f"{index} line {line}: {row['file']} is not in {root / 'images'}")
                studies.setdefault(row["split"], []).append(_study(root, row, known, vocabulary))
    except OSError as error:
        raise DatasetError(
            f"{index} cannot be read: {error.strerror}; point to the folder that holds it"
        ) from error
    except (UnicodeDecodeError, csv.Error, VocabularyError) as error:
        raise DatasetError(f"{index}: {error}") from error
    return FilmDataset(NAME, TITLE, TERMS, {split: tuple(found) for split, found in studies.items()})


def _study(root: Path, row: dict[str, str], known: frozenset[str], vocabulary: Vocabulary) -> LabelledStudy:
    return LabelledStudy(
        identifier=row["file"],
        patient=row["patient"],
        films=(root / "images" / row["file"],),
        keys=vocabulary.from_nih(row["labels"].split("|")),
        headings=None,
        known=known,
        views=("frontal",),
        facts={"view": row["view"]},
    )
