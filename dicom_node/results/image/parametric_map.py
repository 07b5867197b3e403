"""Parametric Map: heat maps of a film as frames of numbers (PS3.3 A.75, C.8.32).

A Parametric Map must have a Frame of Reference and a projection has none. Each film gets one of its own, in
which the image plane passes through the origin along Patient Orientation: frames of one film lie upon each
other, and nothing is claimed about their place in the patient.
"""

from __future__ import annotations

import math
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import ParametricMapStorage

from dicom_node.imaging import attributes
from dicom_node.imaging.pixel_shape import aspect_ratio
from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite
from dicom_node.results.encoding.part10 import code_item, dataset, put
from dicom_node.results.equipment import Equipment
from dicom_node.results.image import multiframe
from dicom_node.results.image.multiframe import FilmMaps
from dicom_node.results.report import Report

SERIES_NUMBER: Final = 9908
SERIES_DESCRIPTION: Final = f"AI saliency maps - {codes.RESEARCH_USE_ONLY}"

_FULL: Final = 65535
_IMAGE_TYPE: Final = ["DERIVED", "PRIMARY", "SALIENCY", "NONE"]
_DIRECTIONS: Final = {
    "L": (1, 0, 0),
    "R": (-1, 0, 0),
    "P": (0, 1, 0),
    "A": (0, -1, 0),
    "H": (0, 0, 1),
    "F": (0, 0, -1),
}
"""First letter of Patient Orientation -> axis of the patient (PS3.3 C.7.6.1.1.1)."""
_FRONTAL: Final = ("L", "F")
_SAME: Final = 0.011
"""Difference of a spacing from the film's shape that is a rounded number."""
_SPACINGS: Final = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")


def write_pm(report: Report, film: FilmMaps, *, equipment: Equipment) -> Dataset:
    """Write the heat maps of one film, a frame for each finding, values 0 to 65535 for 0 to 1.

    Parameters
    ----------
    film
        Film and its maps, from :func:`dicom_node.results.image.multiframe.film_maps`.

    Raises
    ------
    EncodingFailed
        When a value cannot be written.
    """
    ds = composite.begin_result(
        report,
        equipment,
        kind="pm",
        sop_class_uid=ParametricMapStorage,
        modality="OT",
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        instance_number=film.number,
    )
    put(
        ds,
        FrameOfReferenceUID=uids.derived_uid("plane", film.source.sop_instance_uid),
        PositionReferenceIndicator="",
        ImageType=_IMAGE_TYPE,
        ContentQualification="RESEARCH",
        BodyPartExamined="CHEST",
        PatientOrientation=composite.orientation(film.source.header),
        ContentLabel="AI_SALIENCY",
        ContentDescription=f"Where the model looked, not where disease is. {codes.RESEARCH_USE_ONLY}",
        ContentCreatorName="",
        BurnedInAnnotation="NO",
        RecognizableVisualFeatures="NO",
        PresentationLUTShape="IDENTITY",
        AcquisitionContextSequence=[],
    )
    pixels = [(values * _FULL + 0.5).astype("<u2").tobytes() for values in film.frames()]
    multiframe.put_pixels(ds, film, bits=16, data=b"".join(pixels))
    multiframe.put_dimension(ds, "FrameContentSequence", "FrameLabel")
    multiframe.put_common_reference(ds, film.source)
    multiframe.put_functional_groups(
        ds,
        _shared(film),
        [
            dataset(
                FrameContentSequence=[dataset(FrameLabel=finding.name[:64], DimensionIndexValues=[number])],
                DerivationImageSequence=multiframe.derivation(film.source),
            )
            for number, (finding, _) in enumerate(film.maps, 1)
        ],
    )
    return composite.finish_result(ds, report, kind="pm", key=film.source.sop_instance_uid)


def _shared(film: FilmMaps) -> Dataset:
    """Geometry, grey scale and meaning of all frames."""
    row, column = _axes(film.source.header)
    return dataset(
        PixelMeasuresSequence=[dataset(PixelSpacing=_spacing(film.source.header), SliceThickness="1")],
        PlanePositionSequence=[dataset(ImagePositionPatient=["0", "0", "0"])],
        PlaneOrientationSequence=[dataset(ImageOrientationPatient=[str(part) for part in (*row, *column)])],
        ParametricMapFrameTypeSequence=[dataset(FrameType=_IMAGE_TYPE)],
        PixelValueTransformationSequence=[dataset(RescaleIntercept="0", RescaleSlope="1", RescaleType="US")],
        FrameVOILUTSequence=[dataset(WindowCenter="32768", WindowWidth="65536")],
        RealWorldValueMappingSequence=[
            dataset(
                RealWorldValueFirstValueMapped=0,
                RealWorldValueLastValueMapped=_FULL,
                RealWorldValueIntercept=0.0,
                RealWorldValueSlope=1 / _FULL,
                LUTExplanation="Share of the map's maximum",
                LUTLabel="SALIENCY",
                MeasurementUnitsCodeSequence=[code_item(codes.NO_UNITS)],
                QuantityDefinitionSequence=[
                    dataset(
                        ValueType="CODE",
                        ConceptNameCodeSequence=[code_item(codes.QUANTITY)],
                        ConceptCodeSequence=[code_item(codes.GRADIENT_CLASS_ACTIVATION)],
                    )
                ],
            )
        ],
    )


def _axes(source: Dataset) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Directions of a row and of a column; those of a frontal film when they are not known or not square."""
    letters = [part[:1] for part in composite.orientation(source)] or list(_FRONTAL)
    row, column = (_DIRECTIONS[letter] for letter in letters)
    square = sum(a * b for a, b in zip(row, column, strict=True)) == 0
    return (row, column) if square else (_DIRECTIONS[_FRONTAL[0]], _DIRECTIONS[_FRONTAL[1]])


def _spacing(source: Dataset) -> list[str]:
    """Millimetres between rows and columns, at the detector if need be; the shape where that is all."""
    ratio = aspect_ratio(source)
    for keyword in _SPACINGS:
        found = attributes.numbers(source, keyword)
        if len(found) == len(_FRONTAL) and all(math.isfinite(part) and part > 0 for part in found):
            down, across = found
            if math.isclose(down / across, ratio, rel_tol=_SAME):
                return [f"{down:.6g}", f"{across:.6g}"]
    return [f"{ratio:.6g}", "1"]
