"""Boxes that readers of reader studies draw around what they find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from sqlalchemy import ColumnElement, delete, select

from dicom_node.store import database
from dicom_node.store.case_readings import check_open
from dicom_node.store.reader_studies import InvalidReaderStudy, ReaderStudy
from dicom_node.store.tables import case_box, case_reading, reader_study_case


@dataclass(frozen=True, slots=True)
class Box:
    """Rectangle on a film, in pixels of the film as it is stored, counted from 0.

    Attributes
    ----------
    left, right
        Its first column, and the column after its last one.
    top, bottom
        Its first row, and the row after its last one.
    """

    sop_instance_uid: str
    left: int
    top: int
    right: int
    bottom: int

    @property
    def area(self) -> int:
        """Number of its pixels."""
        return max(0, self.right - self.left) * max(0, self.bottom - self.top)

    def overlap(self, other: Box) -> float | None:
        """Return the intersection over the union with another box; None on another film."""
        if self.sop_instance_uid != other.sop_instance_uid:
            return None
        shared = Box(
            self.sop_instance_uid,
            max(self.left, other.left),
            max(self.top, other.top),
            min(self.right, other.right),
            min(self.bottom, other.bottom),
        ).area
        return shared / (self.area + other.area - shared)


class CaseBoxes(database.Repository):
    """Repository of the boxes, at most one for each finding of a case reading."""

    def put(self, found: ReaderStudy, reading_id: int, reader: str, key: str, box: Box) -> None:
        """Keep a reader's box around a finding of a displayed case, in the place of an earlier one.

        Raises
        ------
        InvalidReaderStudy
            When the reader study takes no boxes or is closed, the case was not displayed to the reader or has
            been answered, the finding is none of its own, or the box is empty.
        """
        if not found.boxes or key not in found.findings:
            raise InvalidReaderStudy("no box is asked for there")
        if min(box.left, box.top) < 0 or box.area == 0:
            raise InvalidReaderStudy("a box has at least one pixel of the film")
        with database.writing(self._engine) as connection:
            check_open(connection, found, reading_id, reader)
            connection.execute(delete(case_box).where(_of(reading_id, key)))
            connection.execute(case_box.insert().values(case_reading_id=reading_id, key=key, **asdict(box)))

    def remove(self, found: ReaderStudy, reading_id: int, reader: str, key: str) -> None:
        """Remove a reader's box, if there is one; errors as of :meth:`put`."""
        with database.writing(self._engine) as connection:
            check_open(connection, found, reading_id, reader)
            connection.execute(delete(case_box).where(_of(reading_id, key)))

    def all(self, found: ReaderStudy) -> Mapping[int, Mapping[str, Box]]:
        """Return the boxes of a reader study by case reading and by the key of the finding."""
        query = (
            select(case_box)
            .join(case_reading, case_reading.c.id == case_box.c.case_reading_id)
            .join(reader_study_case, reader_study_case.c.id == case_reading.c.case_id)
            .where(reader_study_case.c.reader_study_id == found.id)
        )
        boxes: dict[int, dict[str, Box]] = {}
        with database.reading(self._engine) as connection:
            for reading_id, key, *box in connection.execute(query):
                boxes.setdefault(reading_id, {})[key] = Box(*box)
        return boxes


def _of(reading_id: int, key: str) -> ColumnElement[bool]:
    return (case_box.c.case_reading_id == reading_id) & (case_box.c.key == key)
