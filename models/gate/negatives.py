"""Pictures that are no chest films, by the source that they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from models.data.dataset import read_film
from models.errors import DatasetError
from models.processing.types import FloatArray


@dataclass(frozen=True, slots=True)
class Negatives:
    """A folder with one folder of image files for each source.

    Attributes
    ----------
    sources
        Files by source.
    """

    sources: dict[str, tuple[Path, ...]]

    def counts(self) -> dict[str, int]:
        """Number of pictures by source."""
        return {source: len(files) for source, files in self.sources.items()}

    def split(self, held_out: tuple[str, ...]) -> tuple[Negatives, Negatives]:
        """Sources that a gate is fitted to, and those that are held out.

        Raises
        ------
        DatasetError
            If a source that is to be held out is not there.
        """
        missing = [source for source in held_out if source not in self.sources]
        if missing:
            raise DatasetError(
                f"there are no negatives called {', '.join(missing)}; there are: {', '.join(self.sources)}"
            )
        parts: tuple[dict[str, tuple[Path, ...]], dict[str, tuple[Path, ...]]] = ({}, {})
        for source, files in self.sources.items():
            parts[source in held_out][source] = files
        return Negatives(parts[0]), Negatives(parts[1])

    def load(self) -> Iterator[tuple[str, FloatArray]]:
        """Read the pictures, one by one: source, and grey values of shape (rows, columns), in [0, 1].

        Raises
        ------
        DatasetError
            If one cannot be read.
        """
        for source, files in self.sources.items():
            for file in files:
                yield source, read_film(file)


def read_negatives(folder: Path) -> Negatives:
    """Read which pictures there are; they are opened later.

    Raises
    ------
    DatasetError
        If the folder is missing or holds no picture.
    """
    try:
        sources = {
            entry.name: tuple(sorted(file for file in entry.iterdir() if file.is_file()))
            for entry in sorted(folder.iterdir())
            if entry.is_dir()
        }
    except OSError as error:
        raise DatasetError(
            f"{folder} cannot be read: {error.strerror}; put pictures that are no chest films there, "
            "a folder for each source"
        ) from error
    found = {source: files for source, files in sources.items() if files}
    if not found:
        raise DatasetError(f"{folder} holds no folder with pictures; put one there for each source")
    return Negatives(found)
