"""Item of a sequence in a result: made once and never changed, so that it may stand in many objects."""

from __future__ import annotations

import copy
from typing import Any, Final, NoReturn

from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

_UNCHANGING: Final = "an item of a result cannot be changed: change a copy.deepcopy of it"


class Item(Dataset):
    """Item that cannot be changed.

    A report has a thousand items, and most are the same in every report of a model. Such items are made once,
    and their bytes are kept with them. A deep copy is a data set that can be changed.

    Attributes
    ----------
    kept
        Encoded item, its begin included, once it was encoded; None also for an item whose bytes depend on the
        character set of its object, or that holds a data set that can be changed.
    """

    kept: bytes | None = None

    def __init__(self, elements: dict[BaseTag, DataElement | RawDataElement]) -> None:
        # What pydicom begins a data set with, of which nothing changes in an item: to set it one by one takes
        # longer than to make the elements.
        self.__dict__.update(_BLANK, _dict=elements)

    def __setitem__(self, key: object, element: object) -> NoReturn:
        """Refuse the change."""
        raise TypeError(_UNCHANGING)

    def __delitem__(self, key: object) -> NoReturn:
        """Refuse the change."""
        raise TypeError(_UNCHANGING)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse to set an element by its keyword."""
        if name[0].isupper():
            raise TypeError(_UNCHANGING)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> NoReturn:
        """Refuse the change."""
        raise TypeError(_UNCHANGING)

    def __deepcopy__(self, memo: dict[int, Any]) -> Dataset:
        """Return a data set of the same elements that can be changed."""
        return Dataset({element.tag: copy.deepcopy(element, memo) for element in self})


_BLANK: Final = Dataset().__dict__
