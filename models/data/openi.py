"""The Open-i chest radiographs of Indiana University, with labels from their reports.

Two forms of a folder are read, whichever is there:

- ``index.csv`` with one row a film and the columns of :data:`COLUMNS`, which says who is in which split;
- the collection as it is distributed: the reports, ``NLMCXR_reports.tgz`` or unpacked, and the films,
  ``NLMCXR_png.tgz`` or ``NLMCXR_dcm.tgz`` unpacked. Splits are derived from the report numbers.

The number of a report is, in this collection, also the patient's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from models.data import openi_reports
from models.data.dataset import SPLITS, FilmDataset, LabelledStudy, read_film
from models.data.metadata import agreed, sex_named_in
from models.data.openi_headers import HEADERS, read_headers
from models.data.openi_reports import OpeniReport, film_name, read_reports
from models.data.splits import derived_split
from models.data.tables import read_table
from models.errors import DatasetError, UsageError
from models.labels.vocabulary import Vocabulary, mesh_terms
from models.processing.types import FloatArray

NAME = "openi"
TITLE = "Open-i chest radiographs of Indiana University (Demner-Fushman et al. 2016)"
TERMS = "CC BY-NC-ND 4.0"
INDEX = "index.csv"
COLUMNS = ("file", "uid", "mesh_major", "split")

#: Where films are looked for, the first folder that holds any; and what the title says of them.
FOLDERS = {"images": ", 256 x 256 pixels", "NLMCXR_dcm": ", DICOM", "NLMCXR_png": ", PNG", ".": ""}
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".dcm"})

#: Of the patients, where no index says who is in which split.
SHARES = {"train": 70, "val": 10, "test": 20}


def read_openi(
    root: Path, vocabulary: Vocabulary, read: Callable[[Path], FloatArray] = read_film
) -> FilmDataset:
    """Read index or reports; films are opened later.

    Whether a film is frontal is only known from an index. The reports do not tell, and View Position in the
    DICOM headers says PA on 1,368 films that are laterals, so it is not asked.

    Parameters
    ----------
    root
        Folder of the set.
    vocabulary
        Derives the labels from the reports' major MeSH headings.
    read
        Reads a film, DICOM too where the folder holds such.

    Raises
    ------
    UsageError
        If neither form is there.
    DatasetError
        If index or reports are damaged, a film that the index lists is not there, or
        the films of one report are in different splits or differ in their headings.
    """
    folder, films = find_films(root)
    collection = _Collection(root, vocabulary, films, read)
    if (root / INDEX).exists():
        studies = _by_index(collection, folder)
    elif collection.reports:
        studies = _by_reports(collection, folder)
    else:
        raise UsageError(
            f"{root} holds no Open-i set: neither {INDEX} nor reports ({openi_reports.ARCHIVE} or "
            f"{openi_reports.FOLDER}/*.xml) were found there"
        )
    title = TITLE + FOLDERS[folder.name if folder != root else "."]
    return FilmDataset(NAME, title, TERMS, studies, tuple(collection.notes))


def find_films(root: Path) -> tuple[Path, dict[str, Path]]:
    """Find the films of a set: the folder that holds them, and their paths by :func:`film_name`.

    Films that are all in one of :data:`FOLDERS` are never mixed with those of another.
    """
    for name in FOLDERS:
        folder = root / name
        found: dict[str, Path] = {}
        for path in sorted(folder.rglob("*")):
            if path.suffix.lower() in SUFFIXES:
                found.setdefault(film_name(path.name), path)
        if found:
            return folder, found
    return root / next(iter(FOLDERS)), {}


class _Collection:
    """Tables and reports beside the films, and the studies built from them."""

    def __init__(
        self,
        root: Path,
        vocabulary: Vocabulary,
        films: dict[str, Path],
        read: Callable[[Path], FloatArray],
    ) -> None:
        self.root = root
        self.films = films
        self.reports = read_reports(root)
        self.notes: list[str] = []
        self._vocabulary = vocabulary
        self._headers = read_headers(root / HEADERS)
        self._read = read
        if not self.reports:
            self.notes.append(f"no {openi_reports.ARCHIVE}: the studies have no text")
        if not self._headers:
            self.notes.append(f"no {HEADERS}: neither age nor equipment is known")

    def study(
        self, number: str, names: Sequence[str], majors: Sequence[str], views: tuple[str, ...] = ()
    ) -> LabelledStudy | None:
        """Study of a report and those of its films that are there; None for a report that was not indexed."""
        if not self._vocabulary.indexed(majors):
            return None
        report = self.reports.get(number)
        indication = report.indication if report else ""
        facts = agreed(self._headers[name] for name in names if name in self._headers)
        return LabelledStudy(
            identifier=number,
            patient=number,
            films=tuple(self.films[name] for name in names),
            keys=self._vocabulary.derive(majors),
            headings=frozenset(term for major in majors for term in mesh_terms(major)),
            views=views,
            report=report.text if report else "",
            indication=indication,
            facts=agreed([{"sex": sex_named_in(indication)}]) | facts,
            read=self._read,
        )


def _by_index(collection: _Collection, folder: Path) -> dict[str, tuple[LabelledStudy, ...]]:
    """Studies of the reports that the index lists, in the splits that it says."""
    index = collection.root / INDEX
    said: dict[str, tuple[str, str]] = {}
    films: dict[str, list[str]] = {}
    views: dict[str, list[str]] = {}
    for line, row in read_table(index, COLUMNS, ("projection",)):
        number, split = row["uid"], row["split"]
        if not row["file"] or not number:
            raise DatasetError(f"{index} line {line}: a value is missing")
        if not split.isidentifier():
            raise DatasetError(f"{index} line {line}: {split!r} is no name of a split")
        name = film_name(row["file"])
        if name not in collection.films:
            raise DatasetError(f"{index} line {line}: {row['file']} is not in {folder}")
        if said.setdefault(number, (split, row["mesh_major"])) != (split, row["mesh_major"]):
            raise DatasetError(
                f"{index} line {line}: report {number} has another split or other headings above"
            )
        films.setdefault(number, []).append(name)
        views.setdefault(number, []).append(row["projection"].casefold())
    studies: dict[str, list[LabelledStudy]] = {
        split: [] for split in (*SPLITS, *sorted({split for split, _ in said.values()} - set(SPLITS)))
    }
    for number, (split, majors) in said.items():
        study = collection.study(number, films[number], majors.split("|"), tuple(views[number]))
        if study is not None:
            studies[split].append(study)
    return {split: tuple(found) for split, found in studies.items()}


def _by_reports(collection: _Collection, folder: Path) -> dict[str, tuple[LabelledStudy, ...]]:
    """Studies of all reports that have films, in splits that are derived from their numbers."""
    if not collection.films:
        raise DatasetError(
            f"{collection.root} holds reports but no film: unpack NLMCXR_png.tgz into NLMCXR_png/, or "
            "NLMCXR_dcm.tgz into NLMCXR_dcm/"
        )
    studies: dict[str, list[LabelledStudy]] = {split: [] for split in SPLITS}
    absent = 0
    for number, names in _present(collection):
        absent += len(collection.reports[number].films) - len(names)
        study = collection.study(number, names, collection.reports[number].majors) if names else None
        if study is not None:
            studies[derived_split(NAME, number, SHARES)].append(study)
    if not any(studies.values()):
        raise DatasetError(
            f"{folder} holds no film of a report that was indexed; are these the collection's?"
        )
    collection.notes.append(
        f"no {INDEX}: the splits are derived from the report numbers, and views are unknown; a bundle that "
        "was trained with other splits may have learnt from the patients of val and test"
    )
    if absent:
        collection.notes.append(f"{absent} films that reports name are not in {folder}: they are left out")
    return {split: tuple(found) for split, found in studies.items()}


def _present(collection: _Collection) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Numbers of the reports in their order, each with the names of its films that are there."""
    for number in sorted(collection.reports, key=lambda number: (len(number), number)):
        report: OpeniReport = collection.reports[number]
        yield number, tuple(name for name in report.films if name in collection.films)
