"""Labelled data sets, as the commands that train and measure read them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.cli.film_files import read_film
from dicom_node.cli.output import stderr_console
from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from models.data.dataset import FilmDataset


def read_labelled_data(name: str, root: Path) -> FilmDataset:
    """Return a data set with its labels, and print to standard error what is missing in it.

    Parameters
    ----------
    name
        Format of the data set: ``openi``, ``nih`` or ``collections``.
    root
        Folder of the data set.

    Raises
    ------
    ConfigurationError
        If there is no such folder.
    models.errors.ModelError
        If the format is unknown or the folder cannot be read.
    """
    from models.data.readers import read_dataset
    from models.labels.vocabulary import load_vocabulary

    if not root.is_dir():
        raise ConfigurationError(f"{root}: there is no such folder; name that of the data set")
    films = read_dataset(name, root, load_vocabulary(), read_film)
    for note in films.notes:
        stderr_console.print(f"{films.name}: {note}", markup=False, highlight=False, soft_wrap=True)
    return films
