"""What training and evaluation ask of a data set of labelled films."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from models.errors import DatasetError
from models.processing.types import Film, FloatArray, Study

SPLITS = ("train", "val", "test")


def read_film(path: Path) -> FloatArray:
    """Read a grey image file as float32 in [0, 1], shape (rows, columns).

    Raises
    ------
    DatasetError
        If it is missing or no image.
    """
    try:
        with Image.open(path) as image:
            pixels = np.asarray(image.convert("L"), dtype=np.float32)
    except FileNotFoundError as error:
        raise DatasetError(f"film {path} is missing: restore it or take its row out of the index") from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DatasetError(f"film {path} cannot be read as an image: {error}") from error
    return pixels / np.float32(255)


@dataclass(frozen=True, slots=True)
class LabelledStudy:
    """One patient's study with what its report says.

    Attributes
    ----------
    identifier
        Of the study, unique in the data set.
    patient
        Of the patient, unique in the data set; the unit of splits and of the bootstrap.
    films
        Image files.
    keys
        Labels of the vocabulary that are true.
    headings
        Raw headings of the report, for auxiliary outputs; None where there is no report.
    known
        Labels that the data set speaks of; None for all. What is not among them is neither true nor false.
    views
        ``frontal``, ``lateral`` or empty for each film; empty where nothing is known.
    report
        Findings and impression: what the labels were made from; empty where there is none.
    indication
        What was known before the films were read; empty where there is none.
    facts
        Of the patient and the equipment, such as ``sex``, for the figures of subgroups; what is unknown is
        left out.
    read
        Reads one of the films: float32 in [0, 1], lungs dark, shape (rows, columns).
    """

    identifier: str
    patient: str
    films: tuple[Path, ...]
    keys: frozenset[str]
    headings: frozenset[str] | None
    known: frozenset[str] | None = None
    views: tuple[str, ...] = ()
    report: str = ""
    indication: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    read: Callable[[Path], FloatArray] = field(default=read_film, repr=False, compare=False)

    def knows(self, key: str) -> bool:
        """Whether the data set says of this study if a label is true."""
        return self.known is None or key in self.known

    def load(self) -> Study:
        """Read the films."""
        return Study(tuple(Film(path.name, self.read(path)) for path in self.films))


@dataclass(frozen=True, slots=True)
class FilmDataset:
    """A data set, split by patient.

    Attributes
    ----------
    name
        Short, as the command line takes it.
    title, terms
        For the model card: what it is and under which terms.
    studies
        By split: those of :data:`SPLITS`, and any further that the set names.
    notes
        Sentences on what the folder lacks and where the splits come from, for a person.

    Raises
    ------
    DatasetError
        If a patient is in more than one split, or two studies share an identifier.
    """

    name: str
    title: str
    terms: str
    studies: dict[str, tuple[LabelledStudy, ...]]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        homes: dict[str, str] = {}
        seen: set[str] = set()
        for split, studies in self.studies.items():
            for study in studies:
                if homes.setdefault(study.patient, split) != split:
                    raise DatasetError(
                        f"{self.name}: patient {study.patient} is in {homes[study.patient]} and {split}"
                    )
                if study.identifier in seen:
                    raise DatasetError(f"{self.name}: study {study.identifier} is listed twice")
                seen.add(study.identifier)

    def split(self, name: str) -> tuple[LabelledStudy, ...]:
        """Studies of one split.

        Raises
        ------
        DatasetError
            If there is no such split, or it is empty.
        """
        if name not in self.studies:
            raise DatasetError(f"{self.name} has no split {name!r}; it has {', '.join(self.studies)}")
        if not self.studies[name]:
            raise DatasetError(f"{self.name}: split {name!r} holds no study")
        return self.studies[name]


def targets(studies: tuple[LabelledStudy, ...], keys: tuple[str, ...]) -> NDArray[np.bool_]:
    """Truth table, shape (studies, keys)."""
    return np.array([[key in study.keys for key in keys] for study in studies], dtype=bool).reshape(
        -1, len(keys)
    )
