"""Lookup tables and windows of a header (PS3.3 C.11.1, C.11.2), as functions of values."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.imaging import attributes
from dicom_node.imaging.stored_values import Values

_LEAST_OUTPUT = 0.25
"""Share of the range its descriptor states that a VOI LUT reaches when it is dim by intent."""
_STEP = 1e-6
"""Least width of a window, in values; a window of this width is a step."""
_MOST = 1e12
"""Greatest center and width of a window, in values; no film holds such values, whatever its rescale."""
_LEAST_SLOPE = 1e-6
_DESCRIPTOR_VALUES = 3
_WORDS = 1 << 16


@dataclass(frozen=True, slots=True)
class Rescale:
    """Rescale Slope and Rescale Intercept (PS3.3 C.11.1.1.2); the identity by default."""

    slope: float = 1.0
    intercept: float = 0.0

    def values(self, stored: Values) -> Values:
        """Return the values of stored values."""
        return stored * self.slope + self.intercept


@dataclass(frozen=True, slots=True)
class VoiWindow:
    """VOI window with its function (PS3.3 C.11.2.1.2, C.11.2.1.3).

    Attributes
    ----------
    center, width
        Window Center and Window Width, in values after the Modality LUT.
    function
        VOI LUT Function.

    Raises
    ------
    ValueError
        When the standard does not allow such a window.
    """

    center: float
    width: float
    function: str = "LINEAR"

    def __post_init__(self) -> None:
        _, least = _VOI_FUNCTIONS[self.function]
        if not (abs(self.center) <= _MOST and least <= self.width <= _MOST):
            raise ValueError(f"{self.center} and {self.width} are no {self.function} window")

    @property
    def ends(self) -> tuple[float, float]:
        """Values that become black and white, where a straight line lies between them."""
        if self.function == "LINEAR":
            return self.center - self.width / 2, self.center + self.width / 2 - 1
        return self.center - self.width / 2, self.center + self.width / 2

    def grey(self, values: Values) -> Values:
        """Return the greys of values, in [0, 1]."""
        function, _ = _VOI_FUNCTIONS[self.function]
        return function(values, self.center, self.width)


@dataclass(frozen=True, slots=True, eq=False)
class Lut:
    """Lookup table (PS3.3 C.11.1.1.1): outputs of so many bits for the input values from `first` on."""

    first: float
    entries: Values
    bits: int

    def values(self, values: Values) -> Values:
        """Return the table's outputs for values."""
        index = np.clip(values - self.first, 0, len(self.entries) - 1).astype(np.int64)
        return self.entries[index]

    def grey(self, values: Values) -> Values:
        """Return the table's outputs as grey, in [0, 1]."""
        # The bits that the descriptor states are often not those that the entries use. A table that leaves
        # the upper part of its range unused is dim by intent, one that leaves nearly all of it unused is not.
        greatest, stated = int(self.entries.max()), (1 << self.bits) - 1
        if not _LEAST_OUTPUT * stated <= greatest <= stated:
            stated = (1 << greatest.bit_length()) - 1
        return self.values(values) / stated


def read_modality(ds: Dataset) -> Lut | Rescale:
    """Return the Modality LUT of a header, else its rescale, which takes both slope and intercept.

    One without the other is ignored, as DCMTK and pydicom do, and so are absurd numbers.
    """
    for lut in read_luts(ds, "ModalityLUTSequence"):
        return lut
    slope = next(iter(attributes.numbers(ds, "RescaleSlope")), math.nan)
    intercept = next(iter(attributes.numbers(ds, "RescaleIntercept")), math.nan)
    # NaN stands for a missing or malformed number, and fails each comparison.
    if not (_LEAST_SLOPE <= abs(slope) <= 1 / _LEAST_SLOPE and abs(intercept) <= _WORDS / _LEAST_SLOPE):
        return Rescale()
    return Rescale(slope, intercept)


def read_luts(ds: Dataset, keyword: str) -> Iterator[Lut]:
    """Yield the valid lookup tables of a sequence; those with a wrong number of entries are ignored."""
    for item in attributes.items(ds, keyword):
        descriptor = attributes.numbers(item, "LUTDescriptor")
        if len(descriptor) != _DESCRIPTOR_VALUES or not all(number.is_integer() for number in descriptor):
            continue
        count, first, bits = int(descriptor[0]) or _WORDS, descriptor[1], int(descriptor[2])
        data = attributes.value(item, "LUTData")
        if isinstance(data, bytes) and len(data) in (count, count + 1):
            entries = np.frombuffer(data, "u1")[:count].astype(np.float64)
        else:
            entries = np.array(attributes.numbers(item, "LUTData"))
        if len(entries) != count or not np.isfinite(entries).all() or entries.min() < 0 or entries.max() < 1:
            continue
        if first + count > _WORDS:  # a signed number (US or SS, PS3.3 C.11.1.1)
            first -= _WORDS
        yield Lut(first, entries, bits)


def read_windows(ds: Dataset) -> Iterator[VoiWindow]:
    """Yield the windows of a header that the standard allows, in order; others are ignored."""
    return (window for _, window in read_named_windows(ds))


def read_named_windows(ds: Dataset) -> Iterator[tuple[str, VoiWindow]]:
    """Yield the windows of :func:`read_windows`, each after its explanation, which may be empty."""
    name = attributes.text(ds, "VOILUTFunction").upper()
    function = name if name in _VOI_FUNCTIONS else "LINEAR"
    pairs = zip(attributes.numbers(ds, "WindowCenter"), attributes.numbers(ds, "WindowWidth"), strict=False)
    explanations = chain(attributes.texts(ds, "WindowCenterWidthExplanation"), repeat(""))
    for (center, width), explanation in zip(pairs, explanations, strict=False):
        with contextlib.suppress(ValueError):
            yield explanation, VoiWindow(center, width, function)


def _linear(values: Values, center: float, width: float) -> Values:
    """Apply the function LINEAR (PS3.3 C.11.2.1.2.1)."""
    return np.clip((values - (center - 0.5)) / max(width - 1, _STEP) + 0.5, 0, 1)


def _linear_exact(values: Values, center: float, width: float) -> Values:
    """Apply the function LINEAR_EXACT (PS3.3 C.11.2.1.3.2)."""
    return np.clip((values - center) / width + 0.5, 0, 1)


def _sigmoid(values: Values, center: float, width: float) -> Values:
    """Apply the function SIGMOID (PS3.3 C.11.2.1.3.1)."""
    return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -700, 700)))


_VOI_FUNCTIONS: dict[str, tuple[Callable[..., Values], float]] = {
    "LINEAR": (_linear, 1.0),
    "LINEAR_EXACT": (_linear_exact, _STEP),
    "SIGMOID": (_sigmoid, _STEP),
}
"""VOI LUT Function -> its implementation, and its least Window Width."""
