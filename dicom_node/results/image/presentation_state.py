"""Grayscale Softcopy Presentation State: boxes around the hot regions of a film (PS3.3 A.33.1, C.10.5).

highdicom writes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicom_node.imaging import attributes
from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite, highdicom_parts
from dicom_node.results.encoding.part10 import put
from dicom_node.results.equipment import Equipment
from dicom_node.results.image.multiframe import FilmMaps
from dicom_node.results.regions import hot_box
from dicom_node.results.report import Finding, Presence, Report

SERIES_NUMBER: Final = 9904
SERIES_DESCRIPTION: Final = f"AI regions - {codes.RESEARCH_USE_ONLY}"

_LAYER: Final = "AI REGIONS"
_LAYER_COLOUR: Final = [54000, 36000, 58000]


def write_gsps(report: Report, film: FilmMaps, *, equipment: Equipment) -> Dataset | None:
    """Write the boxes of the present findings of one film, as the report has them.

    Parameters
    ----------
    film
        Film and its maps, from :func:`dicom_node.results.image.multiframe.film_maps`.

    Returns
    -------
    pydicom.dataset.Dataset or None
        None when no finding has a region on this film.

    Raises
    ------
    EncodingFailed
        When a value cannot be written.
    """
    boxes = list(_boxes(film))
    if not boxes:
        return None
    from highdicom.content import PresentationLUTTransformation  # noqa: PLC0415
    from highdicom.pr import (  # noqa: PLC0415
        GraphicAnnotation,
        GraphicLayer,
        GrayscaleSoftcopyPresentationState,
    )

    ds = composite.begin_result(
        report,
        equipment,
        kind="pr",
        sop_class_uid=GrayscaleSoftcopyPresentationStateStorage,
        modality="PR",
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        instance_number=film.number,
    )
    del ds.ContentDate, ds.ContentTime  # this class has dates of its own for them
    source = film.source.header
    image = highdicom_parts.source_image(film.source, report.study_instance_uid)
    inverted = attributes.text(source, "PhotometricInterpretation").upper() == "MONOCHROME1"
    layer = GraphicLayer(_LAYER, 1, codes.RESEARCH_USE_ONLY)
    put(layer, GraphicLayerRecommendedDisplayCIELabValue=_LAYER_COLOUR)
    written = GrayscaleSoftcopyPresentationState(
        [image],
        content_label="AI_REGIONS",
        content_description=f"Where the model looked, not where disease is. {codes.RESEARCH_USE_ONLY}",
        graphic_layers=[layer],
        graphic_annotations=[
            GraphicAnnotation(
                [image],
                layer,
                graphic_objects=[_outline(report, finding, box) for finding, box in boxes],
                text_objects=[_text(finding, box) for finding, box in boxes],
            )
        ],
        # The state replaces the film's own transformations (PS3.4 N.2), so it repeats those that it has.
        presentation_lut_transformation=PresentationLUTTransformation("INVERSE" if inverted else "IDENTITY"),
        modality_lut_transformation=_modality_lut(source),
        voi_lut_transformations=_voi_lut(source),
        **highdicom_parts.identity(ds),
    )
    put(
        ds,
        BodyPartExamined="CHEST",
        PresentationCreationDate=ds.SeriesDate,
        PresentationCreationTime=ds.SeriesTime,
        ContentCreatorName="",
    )
    highdicom_parts.adopt(ds, written)
    return composite.finish_result(ds, report, kind="pr", key=film.source.sop_instance_uid)


_Box = tuple[float, float, float, float]


def _boxes(film: FilmMaps) -> Iterator[tuple[Finding, _Box]]:
    for finding, saliency in film.maps:
        box = hot_box(saliency.values, film.shape) if finding.presence is Presence.PRESENT else None
        if box is not None:
            yield finding, box


def _outline(report: Report, finding: Finding, box: _Box) -> Dataset:
    from highdicom.pr import GraphicObject  # noqa: PLC0415 - as in write_gsps

    left, top, right, bottom = box
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    model = report.algorithm.name if report.algorithm else ""
    outline: Dataset = GraphicObject(
        "POLYLINE",
        np.array(corners),
        "PIXEL",
        tracking_id=f"{model}/{finding.key}"[:64],
        tracking_uid=uids.tracking_uid(report.study_instance_uid, model, finding.key),
    )
    return outline


def _text(finding: Finding, box: _Box) -> Dataset:
    from highdicom.pr import TextObject  # noqa: PLC0415 - as in write_gsps

    left, top, _, _ = box
    text: Dataset = TextObject(
        f"{finding.name} ({codes.RESEARCH_USE_ONLY})",
        "PIXEL",
        anchor_point=(left, top),
        anchor_point_visible=False,
    )
    return text


def _modality_lut(source: Dataset) -> Dataset | None:
    """Rescale of the film; a Modality LUT Sequence is not repeated, for its values are not checked."""
    from highdicom.content import ModalityLUTTransformation  # noqa: PLC0415 - as in write_gsps

    slope, intercept = (
        next(iter(attributes.numbers(source, keyword)), None)
        for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    if slope is None or intercept is None or not (0 < slope < math.inf and math.isfinite(intercept)):
        return None
    lut: Dataset = ModalityLUTTransformation(
        rescale_intercept=intercept, rescale_slope=slope, rescale_type="US"
    )
    return lut


def _voi_lut(source: Dataset) -> list[Dataset] | None:
    """First window of the film that the standard allows (PS3.3 C.11.8)."""
    from highdicom.pr import SoftcopyVOILUTTransformation  # noqa: PLC0415 - as in write_gsps

    pairs = zip(
        attributes.numbers(source, "WindowCenter"), attributes.numbers(source, "WindowWidth"), strict=False
    )
    for center, width in pairs:
        if math.isfinite(center) and 1 <= width < math.inf:
            return [SoftcopyVOILUTTransformation(window_center=center, window_width=width)]
    return None
