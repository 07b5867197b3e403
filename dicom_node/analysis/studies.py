"""Studies of films in files, folders or memory: DICOM by Study Instance UID, images one by one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from dicom_node.analysis.film_files import is_image, read_film
from dicom_node.errors import BadInstance, ConfigurationError, NodeError, NotAnalysable

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FilmSource: TypeAlias = str | Path | NDArray[Any]
    Films: TypeAlias = FilmSource | Sequence[FilmSource] | Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, eq=False)
class StudyFilms:
    """Films of one study.

    Attributes
    ----------
    study_instance_uid
        Study Instance UID; of a film without a header one that follows from its name and content.
    names
        Files that were named, or names of arrays; for the user.
    paths
        DICOM files of its instances; empty for a film without a header.
    film
        Film without a header: an image file or an array; None for DICOM.
    """

    study_instance_uid: str
    names: list[str] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    film: Path | NDArray[Any] | None = None

    @contextmanager
    def files(self) -> Iterator[list[Path]]:
        """Yield the DICOM files; that of a film without a header is written for the time of the block.

        Raises
        ------
        BadInstance
            If an image or array is no film.
        """
        if self.film is None:
            yield self.paths
            return
        from dicom_node.analysis.image_films import array_film, write_film
        from models.errors import DatasetError

        try:
            pixels = read_film(self.film) if isinstance(self.film, Path) else self.film
        except DatasetError as error:
            raise BadInstance(str(error)) from error
        ds = array_film(pixels, self.study_instance_uid)
        with tempfile.TemporaryDirectory(prefix="dicom-node-film-") as folder:
            yield [write_film(ds, Path(folder))]


class StudyCollection:
    """Studies of named films, in the order in which they were first met.

    Attributes
    ----------
    studies
        Studies by Study Instance UID.
    unreadable
        Reason for each file that cannot be read, by its name.
    """

    def __init__(self) -> None:
        self.studies: dict[str, StudyFilms] = {}
        self.unreadable: dict[str, str] = {}

    @classmethod
    def of(cls, films: Films) -> StudyCollection:
        """Collect films as a notebook names them.

        Parameters
        ----------
        films
            Files and folders, arrays in [0, 1] with dark lungs, or arrays by name. Each array is a study.

        Raises
        ------
        ConfigurationError
            If there is no such file or folder.
        BadInstance
            If an array is no film.
        """
        found = cls()
        if isinstance(films, Mapping):
            for name, pixels in films.items():
                found.add_array(pixels, str(name))
            return found
        several = films if isinstance(films, Sequence) and not isinstance(films, str) else [films]
        for number, film in enumerate(several, start=1):
            if isinstance(film, str | Path):
                found.add(Path(film))
            else:
                found.add_array(film, f"film {number}")
        return found

    def add(self, path: Path) -> None:
        """Add a film, or all films of a folder and its subfolders.

        Raises
        ------
        ConfigurationError
            If there is no such file or folder.
        """
        for file in _files(path):
            try:
                if is_image(file):
                    from dicom_node.analysis.image_films import image_uid

                    self._put(StudyFilms(image_uid(file), [str(file)], film=file))
                else:
                    self._add_dicom(file)
            except (NotAnalysable, NodeError) as error:
                self.unreadable[str(file)] = str(error)

    def add_array(self, pixels: NDArray[Any], name: str) -> None:
        """Add a film that is an array, as a study of its own.

        Raises
        ------
        BadInstance
            If it is no film.
        """
        from dicom_node.analysis.image_films import array_uid, check_film

        check_film(pixels, name)

        self._put(StudyFilms(array_uid(pixels, name), [name], film=pixels))

    def _put(self, study: StudyFilms) -> None:
        # The same picture under the same name is the same film.
        known = self.studies.setdefault(study.study_instance_uid, study)
        if known is not study:
            known.names.extend(study.names)

    def _add_dicom(self, file: Path) -> None:
        from dicom_node.imaging import attributes
        from dicom_node.imaging.pixels import read_header

        uid = attributes.text(read_header(file), "StudyInstanceUID")
        if not uid:
            raise NodeError(f"the file {file.name} has no Study Instance UID")
        study = self.studies.setdefault(uid, StudyFilms(uid))
        study.paths.append(file)
        study.names.append(str(file))


def _files(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield from sorted(entry for entry in path.rglob("*") if entry.is_file() and entry.name != "DICOMDIR")
    elif path.exists():
        yield path
    else:
        raise ConfigurationError(f"{path}: no such file or folder")
