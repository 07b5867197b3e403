"""Segmentation: heat maps of a film as fractional segments on its matrix (PS3.3 A.51, C.8.20).

A film has no Frame of Reference, so the segments refer to it by Derivation Image and lie on its matrix. What
is filed under Segmentation Fractional Type PROBABILITY is a heat map between 0 and 1, and no probability
that disease is there; description and label say so. highdicom writes it.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SegmentationStorage

from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite, highdicom_parts
from dicom_node.results.encoding.part10 import code_item, put
from dicom_node.results.equipment import Equipment
from dicom_node.results.image import multiframe
from dicom_node.results.image.multiframe import FilmMaps
from dicom_node.results.report import Report

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
        Film and its maps, from :func:`dicom_node.results.image.multiframe.film_maps`.

    Raises
    ------
    EncodingFailed
        When a value cannot be written.
    """
    from highdicom.seg import Segmentation  # noqa: PLC0415 - see highdicom_parts

    ds = composite.begin_result(
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
        BodyPartExamined="CHEST",
        PatientOrientation=composite.orientation(film.source.header),
        ContentCreatorName="",
        SegmentsOverlap="YES",
    )
    written = Segmentation(
        [highdicom_parts.source_image(film.source, report.study_instance_uid)],
        np.stack([np.round(values * _FULL) / _FULL for values in film.frames()], axis=-1)[np.newaxis],
        "FRACTIONAL",
        _segments(report, film),
        max_fractional_value=_FULL,
        omit_empty_frames=False,
        content_label="AI_SALIENCY",
        content_description=f"Where the model looked, not where disease is. {codes.RESEARCH_USE_ONLY}",
        **highdicom_parts.identity(ds),
    )
    highdicom_parts.adopt(ds, written)
    # What differs from run to run, and how a heat map comes from its film.
    organization = uids.derived_uid("dimension", ds.SeriesInstanceUID, ds.InstanceNumber)
    for item in (*ds.DimensionOrganizationSequence, *ds.DimensionIndexSequence):
        put(item, DimensionOrganizationUID=organization)
    for frame in ds.PerFrameFunctionalGroupsSequence:
        for derivation in frame.DerivationImageSequence:
            put(derivation, DerivationCodeSequence=[code_item(codes.GRADIENT_CLASS_ACTIVATION)])
    multiframe.put_lossiness(ds, film.source)
    shape = multiframe.pixel_aspect_ratio(film.source)
    if shape != [1, 1]:
        put(ds, PixelAspectRatio=shape)
    return composite.finish_result(ds, report, kind="seg", key=film.source.sop_instance_uid)


def _segments(report: Report, film: FilmMaps) -> list[Dataset]:
    """Segment descriptions (PS3.3 C.8.20.4)."""
    from highdicom.seg import SegmentDescription  # noqa: PLC0415 - as above

    algorithm = report.algorithm
    assert algorithm is not None
    segments = []
    for number, (finding, saliency) in enumerate(film.maps, 1):
        segment = SegmentDescription(
            number,
            finding.name[:64],
            highdicom_parts.concept(codes.ABNORMAL_STRUCTURE),
            highdicom_parts.concept(finding.code),
            "AUTOMATIC",
            highdicom_parts.algorithm_identification(algorithm, codes.ARTIFICIAL_INTELLIGENCE),
            tracking_uid=uids.tracking_uid(report.study_instance_uid, algorithm.name, finding.key),
            tracking_id=f"{algorithm.name}/{finding.key}"[:64],
        )
        put(
            segment,
            SegmentDescription=f"{saliency.method} of {finding.name}: attention of a model, not a contour",
            RecommendedDisplayCIELabValue=list(_COLOURS[(number - 1) % len(_COLOURS)]),
        )
        segments.append(segment)
    return segments
