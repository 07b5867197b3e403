"""Table of a site's own films: a CSV file with a path and a column for each label."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from models.data.dataset import FilmDataset, LabelledStudy, read_film
from models.errors import DatasetError, UsageError
from models.labels.vocabulary import Label
from models.processing.types import FloatArray

_TRUTH = {"1": True, "1.0": True, "0": False, "0.0": False, "": None}


def read_film_table(
    path: Path,
    labels: Sequence[Label],
    *,
    split: str = "val",
    read: Callable[[Path], FloatArray] = read_film,
) -> FilmDataset:
    """Read a table of films: the columns ``path``, one for each label, perhaps ``patient`` and ``split``.

    Parameters
    ----------
    path
        CSV file. Its paths count from its folder. A cell of a label is 1, 0, or empty where nothing is known.
    labels
        Labels to look for: a column bears the key or the name of one. Other columns are named in the notes.
    split
        Split of the rows of a table that has no such column, which a note says.
    read
        Function that reads one film.

    Raises
    ------
    UsageError
        If there is no such file.
    DatasetError
        If the file cannot be read, a column or film is missing, or a cell holds something else.
    """
    if not path.is_file():
        raise UsageError(f"table {path}: there is no such file")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines)
            columns, rows = list(reader.fieldnames or ()), list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"table {path} cannot be read: {error}") from error
    by_name = {name.casefold(): label.key for label in labels for name in (label.key, label.name)}
    keys = {name: by_name[name.casefold()] for name in columns if name.casefold() in by_name}
    if len(set(keys.values())) < len(keys) or len(set(columns)) < len(columns):
        raise DatasetError(
            f"table {path} has two columns for one label, or of one name: leave one of them out"
        )
    if "path" not in columns or not keys or not rows:
        raise DatasetError(
            f"table {path} needs a row for each film, a column path, and one for each label: "
            f"{', '.join(label.key for label in labels)}"
        )
    studies: dict[str, list[LabelledStudy]] = {}
    lines_of: dict[Path, int] = {}
    for number, row in enumerate(rows, start=2):
        truth = {key: _truth(path, number, name, row) for name, key in keys.items()}
        film = path.parent / (row["path"] or "")
        if not film.is_file():
            raise DatasetError(f"table {path}, line {number}: there is no film {film}")
        if (first := lines_of.setdefault(film.resolve(), number)) != number:
            raise DatasetError(f"table {path}, line {number}: film {film} stands in line {first} already")
        of_split = (row.get("split") or "").strip() if "split" in columns else split
        if not of_split:
            raise DatasetError(f"table {path}, line {number}: split is empty; write train, val or test")
        studies.setdefault(of_split, []).append(
            LabelledStudy(
                identifier=f"{number}",
                patient=row.get("patient") or f"row {number}",
                films=(film,),
                keys=frozenset(key for key, said in truth.items() if said),
                headings=None,
                known=frozenset(key for key, said in truth.items() if said is not None),
                read=read,
            )
        )
    odd = [name for name in columns if name not in keys and name not in ("path", "patient", "split")]
    notes = [f"no label of the bundle is called {_with_nearest(name, by_name)}; left out" for name in odd]
    if "split" not in columns:
        notes.append(f"no column split: all {len(rows)} rows count as {split}")
    if "patient" not in columns:
        notes.append("no column patient: every film counts as a patient of its own")
    if missing := [label.key for label in labels if label.key not in keys.values()]:
        notes.append(f"no column for {', '.join(missing)}")
    return FilmDataset(
        path.name,
        path.name,
        "those of the site",
        {name: tuple(each) for name, each in studies.items()},
        tuple(notes),
        undivided="split" not in columns,
    )


def _with_nearest(name: str, known: Mapping[str, str]) -> str:
    nearest = difflib.get_close_matches(name.casefold(), known, n=1, cutoff=0.8)
    return f"{name} (did you mean {known[nearest[0]]}?)" if nearest else name


def _truth(path: Path, number: int, name: str, row: Mapping[str, str | None]) -> bool | None:
    cell = (row[name] or "").strip()
    if cell not in _TRUTH:
        raise DatasetError(f"table {path}, line {number}: {name} is {cell!r}; write 1, 0 or nothing")
    return _TRUTH[cell]
