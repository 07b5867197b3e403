"""Data sets of labelled films, as training and evaluation use them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from models.errors import DatasetError, UsageError
from models.processing.types import Film, FloatArray, Study

SPLITS = ("train", "val", "test")
_DEEP_MODES = frozenset({"I", "I;16", "I;16B", "I;16L", "F"})
"""Modes of Pillow with more than 8 bits."""
_WHITE_16 = 65535


def read_film(path: Path) -> FloatArray:
    """Read an image file of 8 or 16 bits as grey float32 in [0, 1], shape (rows, columns).

    Raises
    ------
    DatasetError
        If it is missing, no image, or one of other numbers than integers from 0 to 65,535.
    """
    try:
        with Image.open(path) as image:
            if image.mode in _DEEP_MODES:
                return _of_16_bits(path, np.asarray(image))
            pixels = np.asarray(image.convert("L"), dtype=np.float32)
    except FileNotFoundError as error:
        raise DatasetError(f"film {path} is missing: restore it or take its row out of the index") from error
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise DatasetError(f"film {path} cannot be read as an image: {error}") from error
    return pixels / np.float32(255)


def _of_16_bits(path: Path, pixels: NDArray[Any]) -> FloatArray:
    # Converted to 8 bits by Pillow, every value above 255 would be white.
    if pixels.dtype.kind == "f" or pixels.min() < 0 or pixels.max() > _WHITE_16:
        raise DatasetError(f"film {path}: its pixels are no integers from 0 to 65535: save it as 16-bit PNG")
    return pixels.astype(np.float32) / np.float32(_WHITE_16)


@dataclass(frozen=True, slots=True)
class LabelledStudy:
    """One patient's study with the labels from its report.

    Attributes
    ----------
    identifier
        Identifier of the study, unique in the data set.
    patient
        Identifier of the patient, unique in the data set; the unit of splits and of the bootstrap.
    films
        Image files.
    keys
        Keys of the labels that are true.
    headings
        Raw headings of the report, for auxiliary outputs; None where there is no report.
    known
        Keys of the labels that the data set covers; None for all. Other labels are neither true nor false.
    views
        ``frontal``, ``lateral`` or empty for each film; empty where nothing is known.
    report
        Findings and impression, from which the labels were made; empty where there is none.
    indication
        Indication or history, known before the films were read; empty where there is none.
    facts
        Metadata of the patient and the equipment, such as ``sex``, for the figures of subgroups; unknown
        values are left out.
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
        """Return True if the data set tells for this study whether a label is true."""
        return self.known is None or key in self.known

    def films_with_views(self) -> tuple[tuple[Path, str], ...]:
        """Films with their views; empty views where nothing is known of any."""
        return tuple(zip(self.films, self.views or ("",) * len(self.films), strict=True))

    def load(self) -> Study:
        """Read the films."""
        return Study(tuple(Film(path.name, self.read(path)) for path in self.films))


@dataclass(frozen=True, slots=True)
class FilmDataset:
    """A data set, split by patient.

    Attributes
    ----------
    name
        Short name, as on the command line.
    title, terms
        Full name and terms of use, for the model card.
    studies
        Studies by split: those of :data:`SPLITS`, and any other that the set names.
    notes
        Sentences for the user: files that are missing, and the source of the splits.
    undivided
        True when all studies count as whatever split is asked for, so that any two are the same.

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
    undivided: bool = False

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
        UsageError
            If there is no such split.
        DatasetError
            If it is empty.
        """
        if name not in self.studies:
            raise UsageError(f"{self.name} has no split {name!r}; it has {', '.join(self.studies)}")
        if not self.studies[name]:
            raise DatasetError(f"{self.name}: split {name!r} holds no study")
        return self.studies[name]


def targets(studies: tuple[LabelledStudy, ...], keys: tuple[str, ...]) -> NDArray[np.bool_]:
    """Truth table, shape (studies, keys)."""
    return np.array([[key in study.keys for key in keys] for study in studies], dtype=bool).reshape(
        -1, len(keys)
    )
