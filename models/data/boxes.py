"""Bounding boxes of findings on ChestX-ray14 films, drawn by radiologists (Wang et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from models.data.tables import read_table
from models.errors import DatasetError, VocabularyError
from models.labels.vocabulary import Vocabulary, load_vocabulary

#: File of boxes as the collection distributes it, and the one beside an ``index.csv``.
OFFICIAL, INDEXED = "BBox_List_2017.csv", "bbox.csv"

#: Side of the distributed films in pixels, on which the boxes are drawn. The sizes in the table of labels
#: are those of the original, larger films.
OFFICIAL_SIDE = 1024.0

#: The name of its only column of coordinates, ``Bbox [x,y,w,h]``, holds commas without quotes.
_OFFICIAL_COLUMNS = ("Image Index", "Finding Label", "Bbox [x", "y", "w", "h]")
_INDEXED_COLUMNS = ("file", "label", "x", "y", "w", "h")

#: Spelling in the file of boxes -> spelling in the table of labels.
_SPELLINGS = {"Infiltrate": "Infiltration"}

#: Rounding error that a sum of shares may have.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Box:
    """Bounding box of one finding on a film.

    Attributes
    ----------
    key
        Key of the label in the vocabulary.
    x, y
        Upper left corner, as shares of the film's width and height, in [0, 1].
    width, height
        Shares of the film's width and height; the box lies within the film.

    Raises
    ------
    ValueError
        If it has no area or does not lie within the film.
    """

    key: str
    x: float
    y: float
    width: float
    height: float

    def __post_init__(self) -> None:
        if not (
            0 <= self.x < self.x + self.width <= 1 + _ROUNDING
            and 0 <= self.y < self.y + self.height <= 1 + _ROUNDING
        ):
            raise ValueError(f"a box of {self.key} does not lie within its film")


def read_boxes(root: Path, vocabulary: Vocabulary | None = None) -> dict[str, tuple[Box, ...]]:
    """Read the boxes of a ChestX-ray14 folder, by the file name of their film; none where there is no file.

    Parameters
    ----------
    root
        Folder with ``BBox_List_2017.csv``, or with ``bbox.csv`` and the ``index.csv`` that says how wide and
        high the films were that the boxes were drawn on.
    vocabulary
        Vocabulary of the keys; the package's own when absent.

    Raises
    ------
    DatasetError
        If a file cannot be read, or a box has an unknown label, no size known, or does not lie on its film.
    """
    vocabulary = vocabulary or load_vocabulary()
    if (root / INDEXED).exists():
        path, columns, sizes = root / INDEXED, _INDEXED_COLUMNS, _sizes(root / "index.csv")
    elif (root / OFFICIAL).exists():
        path, columns, sizes = root / OFFICIAL, _OFFICIAL_COLUMNS, None
    else:
        return {}
    boxes: dict[str, list[Box]] = {}
    for line, row in read_table(path, columns):
        file, label, *numbers = (row[column] for column in columns)
        size = (OFFICIAL_SIDE, OFFICIAL_SIDE) if sizes is None else sizes.get(file)
        if size is None:
            raise DatasetError(f"{path} line {line}: the index beside it does not list {file}")
        try:
            (key,) = vocabulary.from_nih([_SPELLINGS.get(label, label)])
            boxes.setdefault(file, []).append(_box(key, [float(number) for number in numbers], size))
        except (ValueError, VocabularyError) as error:
            raise DatasetError(f"{path} line {line}: {error}") from error
    return {file: tuple(found) for file, found in boxes.items()}


def _box(key: str, pixels: list[float], size: tuple[float, float]) -> Box:
    """Box of corner and extent in pixels; what reaches over the film's edge is cut off."""
    (x, y, width, height), (columns, rows) = pixels, size
    left, top = max(x / columns, 0.0), max(y / rows, 0.0)
    right, bottom = min((x + width) / columns, 1.0), min((y + height) / rows, 1.0)
    return Box(key, left, top, right - left, bottom - top)


def _sizes(index: Path) -> dict[str, tuple[float, float]]:
    """Width and height of the source of each film, in pixels."""
    sizes = {}
    for line, row in read_table(index, ("file", "source_width", "source_height")):
        try:
            sizes[row["file"]] = float(row["source_width"]), float(row["source_height"])
        except ValueError as error:
            raise DatasetError(f"{index} line {line}: {error}") from error
    return sizes
