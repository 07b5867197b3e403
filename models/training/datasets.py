"""The data sets that a recipe and the command line can name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from models.errors import UsageError
from models.training import nih, openi
from models.training.dataset import FilmDataset
from models.vocabulary import Vocabulary

#: Name -> reader.
DATASETS: dict[str, Callable[[Path, Vocabulary], FilmDataset]] = {
    openi.NAME: openi.read_openi,
    nih.NAME: nih.read_nih,
}


def read_dataset(name: str, root: Path, vocabulary: Vocabulary) -> FilmDataset:
    """Read a data set by its name.

    Raises
    ------
    UsageError
        If there is none of that name.
    DatasetError
        If it cannot be read.
    """
    if name not in DATASETS:
        raise UsageError(f"no data set is called {name!r}; there are: {', '.join(DATASETS)}")
    return DATASETS[name](root, vocabulary)
