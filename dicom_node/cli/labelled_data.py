"""Labelled data sets, as the commands that train and measure read them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.analysis.film_files import read_film
from dicom_node.cli.output import stderr_console
from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from models.data.dataset import FilmDataset
    from models.labels.vocabulary import Label


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
    return _said(read_dataset(name, root, load_vocabulary(), read_film))


def read_own_films(table: Path, labels: Sequence[Label], split: str) -> FilmDataset:
    """Return the films of a site's own table, and print to standard error what is missing in it.

    Parameters
    ----------
    table
        CSV file, see :func:`models.data.film_table.read_film_table`.
    labels
        Labels to look for, those of a bundle.
    split
        Split of the rows of a table without a column for it.

    Raises
    ------
    models.errors.ModelError
        If the table or a film cannot be read.
    """
    from models.data.film_table import read_film_table

    return _said(read_film_table(table, labels, split=split, read=read_film))


def _said(films: FilmDataset) -> FilmDataset:
    for note in films.notes:
        stderr_console.print(f"{films.name}: {note}", markup=False, highlight=False, soft_wrap=True)
    return films
