"""Grayscale Softcopy Presentation State: a film as the model saw it, with boxes around its hot regions.

PS3.3 A.33.1, C.10.5. highdicom writes it, and :mod:`dicom_node.results.image.film_display` the way of a
stored value to a grey.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite, highdicom_parts
from dicom_node.results.encoding.part10 import put
from dicom_node.results.equipment import Equipment
from dicom_node.results.image import film_display
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
        When a value cannot be written, or nothing says how the model saw the film.
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
    image = highdicom_parts.source_image(film.source, report.study_instance_uid)
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
        # As highdicom wants it; film_display says which it is.
        presentation_lut_transformation=PresentationLUTTransformation("IDENTITY"),
        **highdicom_parts.identity(ds),
    )
    put(
        ds,
        BodyPartExamined="CHEST",
        PresentationCreationDate=ds.SeriesDate,
        PresentationCreationTime=ds.SeriesTime,
        ContentCreatorName="",
    )
    film_display.put_display(ds, film.source)
    highdicom_parts.adopt(ds, written)
    film_display.put_displayed_area(ds, film.source)
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
