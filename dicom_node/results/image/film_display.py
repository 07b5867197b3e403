"""Display of a film as the model saw it: the grey, shutter and shape modules of a presentation state.

PS3.3 C.11.1 (Modality LUT), C.11.8 (Softcopy VOI LUT), C.11.6 (Softcopy Presentation LUT), C.7.6.11 (Display
Shutter), C.11.12 (Presentation State Shutter), C.10.4 (Displayed Area). A state takes the place of the film's
own transformations (PS3.4 N.2), so all of them are said, the identity too.

Straight windows are written with the function LINEAR, and every curve as a table: some viewers, those of
DCMTK among them, know no VOI LUT Function in a presentation state. They also round rescaled values to
integers, so that a narrow window on fractions becomes a table too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.valuerep import format_number_as_ds

from dicom_node.errors import EncodingFailed
from dicom_node.imaging import grayscale
from dicom_node.imaging.grayscale import GreyTransform
from dicom_node.imaging.pixels import integer
from dicom_node.imaging.shutter import Circle, Polygon, Rectangle, Shape, shapes
from dicom_node.imaging.voi import Rescale, VoiWindow, read_modality, read_windows
from dicom_node.results.encoding.part10 import dataset, put
from dicom_node.results.image import multiframe
from dicom_node.results.report import Source

_LUT_DESCRIPTOR, _LUT_DATA = 0x00283002, 0x00283006
_LUT_BITS: Final = 16
_WORDS: Final = 1 << 16
_INTEGERS: Final = (-(1 << 31) + 1, (1 << 31) - 1)
"""Least and greatest value of an IS (PS3.5 6.2)."""
_BLACK: Final = 0
_ROUNDABLE_WIDTH: Final = 1024
"""Least width of a window in which half a value is less than a quarter of a grey of 8 bits."""
_PERCENTILES: Final = "Percentiles {:g} to {:g} of the film".format(*grayscale.PERCENTILES)
_TABLE: Final = "Modality and VOI transformation"


def put_display(ds: Dataset, source: Source) -> Dataset:
    """Set the modules that show a film as the model saw it, without its displayed area.

    Raises
    ------
    EncodingFailed
        When the film's pixels were not read, so that nobody knows how it was seen.
    """
    film, transform = source.header, source.grey
    if transform is None:
        raise EncodingFailed("nothing says by which grey transform the model saw a film with heat maps")
    window, modality = _linear(transform), read_modality(film)
    if window is not None and isinstance(modality, Rescale) and _survives_rounding(modality, window):
        voi = dataset(WindowCenter=_decimal(window.center), WindowWidth=_decimal(window.width))
        if transform.voi not in tuple(read_windows(film)):
            put(voi, WindowCenterWidthExplanation=_PERCENTILES)
    else:
        # Indexes of a table are integers, which rescaled values need not be: it begins at the stored value.
        voi, modality = dataset(VOILUTSequence=[_table(film, transform)]), Rescale()
    put(
        ds,
        RescaleIntercept=_decimal(modality.intercept),
        RescaleSlope=_decimal(modality.slope),
        RescaleType="US",
        SoftcopyVOILUTSequence=[voi],
        PresentationLUTShape="INVERSE" if transform.inverted else "IDENTITY",
    )
    covered = shapes(film, *source.shape)
    return put(ds, **_shutter(covered), ShutterPresentationValue=_BLACK) if covered else ds


def put_displayed_area(ds: Dataset, source: Source) -> Dataset:
    """Set the shape of the film's pixels in the displayed area, which is there already."""
    for area in ds.DisplayedAreaSelectionSequence:
        put(area, PresentationPixelAspectRatio=multiframe.pixel_aspect_ratio(source))
    return ds


def _linear(transform: GreyTransform) -> VoiWindow | None:
    """Window in force, with the function LINEAR; None for a curve."""
    window = transform.voi
    if not isinstance(window, VoiWindow) or window.function == "SIGMOID":
        return None
    if window.function == "LINEAR":
        return window
    return VoiWindow(window.center + 0.5, window.width + 1)  # PS3.3 C.11.2.1.2.1 against C.11.2.1.3.2


def _survives_rounding(rescale: Rescale, window: VoiWindow) -> bool:
    """Whether a window looks the same on rescaled values that a viewer rounds to integers."""
    whole = rescale.slope.is_integer() and rescale.intercept.is_integer()
    return whole or window.width >= _ROUNDABLE_WIDTH


def _decimal(number: float) -> str:
    return str(format_number_as_ds(float(number))).removesuffix(".0")


def _table(film: Dataset, transform: GreyTransform) -> Dataset:
    """Item of VOI LUT Sequence from stored values to greys, padding included, before the polarity."""
    bits, signed = integer(film, "BitsStored"), integer(film, "PixelRepresentation", 0) == 1
    count = 1 << bits
    first = -(count >> 1) if signed else 0
    grey = transform.grey(film, np.arange(first, first + count, dtype=np.float64))
    if transform.inverted:
        grey = 1 - grey
    stated = count % _WORDS  # 0 stands for 65536
    if signed and stated >= _WORDS >> 1:
        stated -= _WORDS  # the same 16 bits (PS3.3 C.11.1.1.1)
    item = dataset(LUTExplanation=_TABLE)
    item.add_new(_LUT_DESCRIPTOR, "SS" if signed else "US", [stated, first, _LUT_BITS])
    item.add_new(_LUT_DATA, "OW", np.round(grey * float(_WORDS - 1)).astype("<u2").tobytes())
    return item


def _shutter(covered: Sequence[Shape]) -> dict[str, Any]:
    """Elements of the Display Shutter module, which holds one shape of each kind.

    Several rectangles are one; of several circles or polygons that one stays which leaves least.
    """
    elements: dict[str, Any] = {}
    rectangles = [shape for shape in covered if isinstance(shape, Rectangle)]
    if rectangles:
        elements |= {
            "ShutterLeftVerticalEdge": _integer(math.ceil(max(each.left for each in rectangles))),
            "ShutterRightVerticalEdge": _integer(math.floor(min(each.right for each in rectangles))),
            "ShutterUpperHorizontalEdge": _integer(math.ceil(max(each.upper for each in rectangles))),
            "ShutterLowerHorizontalEdge": _integer(math.floor(min(each.lower for each in rectangles))),
        }
    circle = min((each for each in covered if isinstance(each, Circle)), key=_radius, default=None)
    if circle is not None:
        elements |= {
            "CenterOfCircularShutter": [_integer(circle.row), _integer(circle.column)],
            "RadiusOfCircularShutter": _integer(circle.radius),
        }
    polygon = min((each for each in covered if isinstance(each, Polygon)), key=_area, default=None)
    if polygon is not None:
        elements["VerticesOfThePolygonalShutter"] = [
            _integer(number) for vertex in polygon.vertices for number in vertex
        ]
    kinds = {"RECTANGULAR": rectangles, "CIRCULAR": circle, "POLYGONAL": polygon}
    elements["ShutterShape"] = [kind for kind, shape in kinds.items() if shape]
    return elements


def _radius(circle: Circle) -> float:
    return circle.radius


def _area(polygon: Polygon) -> float:
    """Area by the shoelace formula."""
    y, x = np.array(polygon.vertices).T
    return abs(float(np.dot(y, np.roll(x, 1)) - np.dot(x, np.roll(y, 1)))) / 2


def _integer(number: float) -> str:
    least, most = _INTEGERS
    return str(min(max(round(number), least), most))
