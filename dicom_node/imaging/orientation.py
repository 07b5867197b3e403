"""Orientation of a radiograph: the way from the picture as it is stored to the upright one.

Patient Orientation (0020,0020) names the directions of the patient in which columns and rows run
(PS3.3 C.7.6.1.1.1): left and feet for a frontal film that is shown as readers hang it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.imaging import attributes

_Picture = TypeVar("_Picture", bound=NDArray[Any])

_OPPOSITE = {"L": "R", "R": "L", "A": "P", "P": "A", "H": "F", "F": "H"}
_QUARTER = 90
_DIRECTIONS = 2


@dataclass(frozen=True, slots=True)
class Orientation:
    """Quarter turns, and perhaps a mirroring after them, that bring a stored picture upright.

    Attributes
    ----------
    turns
        Quarter turns counter-clockwise, 0 to 3.
    mirrored
        True when left and right are exchanged after the turns.
    """

    turns: int = 0
    mirrored: bool = False

    def __bool__(self) -> bool:
        """True when anything is changed."""
        return bool(self.turns or self.mirrored)

    def __str__(self) -> str:
        turned = f"turned by {self.turns * _QUARTER} degrees counter-clockwise" if self.turns else ""
        return " and ".join(part for part in (turned, "mirrored" if self.mirrored else "") if part)

    def upright(self, stored: _Picture) -> _Picture:
        """Return the upright picture of a stored one.

        Parameters
        ----------
        stored
            Shape (rows, columns).

        Returns
        -------
        numpy.ndarray
            Shape (columns, rows) after an odd number of turns.
        """
        turned = np.rot90(stored, self.turns)
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)  # type: ignore[return-value]

    def stored(self, upright: _Picture) -> _Picture:
        """Return the inverse of :meth:`upright`: a picture in the geometry of the stored one."""
        unmirrored = upright[:, ::-1] if self.mirrored else upright
        return np.ascontiguousarray(np.rot90(unmirrored, -self.turns))  # type: ignore[return-value]

    def turned(self, quarters: int) -> Orientation:
        """Return the orientation whose upright picture is turned by so many quarters more."""
        further = -quarters if self.mirrored else quarters
        return Orientation((self.turns + further) % 4, self.mirrored)


AS_STORED: Final = Orientation()
"""Orientation of a film that is stored upright."""


def read_orientation(header: Dataset) -> Orientation:
    """Read how a header says that its film is turned or mirrored.

    Only a frontal film, whose rows or columns run along left and right, can be mirrored: a lateral film is
    hung either way.

    Returns
    -------
    Orientation
        Falsy when Patient Orientation is missing, names no two directions of which one is head or feet, or
        says that the film is upright.
    """
    directions = [text.strip().upper()[:1] for text in attributes.texts(header, "PatientOrientation")]
    if len(directions) != _DIRECTIONS or not all(each in _OPPOSITE for each in directions):
        return AS_STORED
    right, down = directions
    if len({right, down} & {"H", "F"}) != 1:
        return AS_STORED
    for turns in range(4):
        if down == "F":
            return Orientation(turns, mirrored=right == "R")
        # After a turn counter-clockwise, what ran down runs to the right, and what ran to the right runs up.
        right, down = down, _OPPOSITE[right]
    raise AssertionError("one of four turns brings the feet down")
