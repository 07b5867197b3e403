"""Where a model looked, as a fractional Segmentation in the geometry of the film (PS3.3 A.51, C.8.20).

A film has no Frame of Reference, so the segments refer to it by Derivation Image and lie on its matrix. What
is filed under Segmentation Fractional Type PROBABILITY is a heat map between 0 and 1, and no probability
that disease is there; description and label say so.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite
from dicom_node.results.encoding.part10 import code_item, dataset, put
from dicom_node.results.equipment import Equipment
from dicom_node.results.image import multiframe
from dicom_node.results.image.multiframe import FilmMaps
from dicom_node.results.report import Algorithm, Finding, Report, Saliency

SERIES_NUMBER: Final = 9903
SERIES_DESCRIPTION: Final = f"AI saliency segments - {codes.RESEARCH_USE_ONLY}"

_FULL: Final = 255
_COLOURS: Final = ((49000, 45000, 50000), (42000, 22000, 48000), (54000, 36000, 58000), (38000, 40000, 20000))
"""Recommended Display CIELab Value of the segments in turn (PS3.3 C.10.7.1.1)."""


def write_seg(report: Report, film: FilmMaps, *, equipment: Equipment) -> Dataset:
    """Write the heat maps of one film, a segment for each finding.

    Parameters
    ----------
    film
        Of :func:`dicom_node.results.image.multiframe.film_maps`.

    Raises
    ------
    EncodingFailed
        When a value cannot be written.
    """
    assert report.algorithm is not None
    ds = composite.begin(
        report,
        equipment,
        kind="seg",
        sop_class_uid=SegmentationStorage,
        modality="SEG",
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        instance_number=film.number,
    )
    put(
        ds,
        ImageType=["DERIVED", "PRIMARY"],
        BodyPartExamined="CHEST",
        PatientOrientation=composite.orientation(film.source.header),
        ContentLabel="AI_SALIENCY",
        ContentDescription=f"Where the model looked, not where disease is. {codes.RESEARCH_USE_ONLY}",
        ContentCreatorName="",
        SegmentationType="FRACTIONAL",
        SegmentationFractionalType="PROBABILITY",
        MaximumFractionalValue=_FULL,
        SegmentsOverlap="YES",
        SegmentSequence=[
            _segment(report, report.algorithm, number, *shown) for number, shown in enumerate(film.maps, 1)
        ],
    )
    pixels = [(values * _FULL + 0.5).astype(np.uint8).tobytes() for values in film.frames()]
    multiframe.put_pixels(ds, film, bits=8, data=b"".join(pixels))
    multiframe.put_dimension(ds, "SegmentIdentificationSequence", "ReferencedSegmentNumber")
    multiframe.put_common_reference(ds, film.source)
    multiframe.put_functional_groups(
        ds,
        Dataset(),
        [
            dataset(
                FrameContentSequence=[dataset(DimensionIndexValues=[number])],
                SegmentIdentificationSequence=[dataset(ReferencedSegmentNumber=number)],
                DerivationImageSequence=multiframe.derivation(film.source),
            )
            for number in range(1, len(film.maps) + 1)
        ],
    )
    return composite.finish(ds, report, kind="seg", key=film.source.sop_instance_uid)


def _segment(
    report: Report, algorithm: Algorithm, number: int, finding: Finding, saliency: Saliency
) -> Dataset:
    """Segment description (PS3.3 C.8.20.4)."""
    return dataset(
        SegmentNumber=number,
        SegmentLabel=finding.name[:64],
        SegmentDescription=f"{saliency.method} of {finding.name}: attention of a model, not a contour",
        SegmentAlgorithmType="AUTOMATIC",
        SegmentAlgorithmName=algorithm.name[:64],
        SegmentationAlgorithmIdentificationSequence=[
            dataset(
                AlgorithmFamilyCodeSequence=[code_item(codes.ARTIFICIAL_INTELLIGENCE)],
                AlgorithmName=algorithm.name[:64],
                AlgorithmVersion=algorithm.version[:64],
                AlgorithmParameters="\r\n".join(algorithm.parameters),
            )
        ],
        SegmentedPropertyCategoryCodeSequence=[code_item(codes.ABNORMAL_STRUCTURE)],
        SegmentedPropertyTypeCodeSequence=[code_item(finding.code)],
        RecommendedDisplayCIELabValue=list(_COLOURS[(number - 1) % len(_COLOURS)]),
        TrackingID=f"{algorithm.name}/{finding.key}"[:64],
        TrackingUID=uids.tracking_uid(report.study_instance_uid, algorithm.name, finding.key),
    )
