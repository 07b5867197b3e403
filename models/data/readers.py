"""Readers of the data sets that a recipe and the command line can name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from models.data import collections, nih, openi
from models.data.dataset import FilmDataset, read_film
from models.errors import UsageError
from models.labels.vocabulary import Vocabulary
from models.processing.types import FloatArray


class Reader(Protocol):
    """Reader of a folder as a data set."""

    def __call__(
        self, root: Path, vocabulary: Vocabulary, read: Callable[[Path], FloatArray] = ...
    ) -> FilmDataset:
        """Read its tables; `read` opens the films, later."""


#: Name -> reader.
DATASETS: dict[str, Reader] = {
    openi.NAME: openi.read_openi,
    nih.NAME: nih.read_nih,
    collections.NAME: collections.read_collections,
}


def read_dataset(
    name: str, root: Path, vocabulary: Vocabulary, read: Callable[[Path], FloatArray] = read_film
) -> FilmDataset:
    """Read a data set by its name.

    Parameters
    ----------
    read
        Function that reads one film, shape (rows, columns), float32 in [0, 1], lungs dark. The one of the
        command line reads DICOM files too.

    Raises
    ------
    UsageError
        If no data set has that name.
    DatasetError
        If it cannot be read.
    """
    if name not in DATASETS:
        raise UsageError(f"no data set is called {name!r}; there are: {', '.join(DATASETS)}")
    return DATASETS[name](root, vocabulary, read)
