"""Boxes around where a model looked, as a Grayscale Softcopy Presentation State (PS3.3 A.33.1, C.10.5)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import GrayscaleSoftcopyPresentationStateStorage

from dicom_node.imaging import attributes
from dicom_node.results import codes, uids
from dicom_node.results.encoding import composite, header
from dicom_node.results.encoding.part10 import dataset, put
from dicom_node.results.equipment import Equipment
from dicom_node.results.image.multiframe import FilmMaps
from dicom_node.results.regions import hot_box
from dicom_node.results.report import Finding, Presence, Report

SERIES_NUMBER: Final = 9904
SERIES_DESCRIPTION: Final = f"AI regions - {codes.RESEARCH_USE_ONLY}"

_LAYER: Final = "AI REGIONS"
_LAYER_COLOUR: Final = [54000, 36000, 58000]
_BOX_POINTS: Final = 5


def write_gsps(report: Report, film: FilmMaps, *, equipment: Equipment) -> Dataset | None:
    """Write the boxes of the present findings of one film, as the report has them.

    Parameters
    ----------
    film
        Of :func:`dicom_node.results.image.multiframe.film_maps`.

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
    ds = composite.begin(
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
    rows, columns = film.shape
    image = composite.referenceable(film.source)
    inverted = attributes.text(source, "PhotometricInterpretation").upper() == "MONOCHROME1"
    put(
        ds,
        BodyPartExamined="CHEST",
        PresentationCreationDate=ds.SeriesDate,
        PresentationCreationTime=ds.SeriesTime,
        ContentLabel="AI_REGIONS",
        ContentDescription=f"Where the model looked, not where disease is. {codes.RESEARCH_USE_ONLY}",
        ContentCreatorName="",
        ReferencedSeriesSequence=[
            dataset(
                SeriesInstanceUID=header.repaired(source, "SeriesInstanceUID"),
                ReferencedImageSequence=[image],
            )
        ],
        DisplayedAreaSelectionSequence=[
            dataset(
                DisplayedAreaTopLeftHandCorner=[1, 1],
                DisplayedAreaBottomRightHandCorner=[columns, rows],
                PresentationSizeMode="SCALE TO FIT",
                PresentationPixelAspectRatio=["1", "1"],
            )
        ],
        GraphicLayerSequence=[
            dataset(
                GraphicLayer=_LAYER,
                GraphicLayerOrder=1,
                GraphicLayerRecommendedDisplayCIELabValue=_LAYER_COLOUR,
                GraphicLayerDescription=codes.RESEARCH_USE_ONLY,
            )
        ],
        GraphicAnnotationSequence=[
            dataset(
                GraphicLayer=_LAYER,
                TextObjectSequence=[_text(finding, box) for finding, box in boxes],
                GraphicObjectSequence=[_outline(report, finding, box) for finding, box in boxes],
            )
        ],
        # The state replaces the film's own transformations (PS3.4 N.2), so it repeats those that it has.
        PresentationLUTShape="INVERSE" if inverted else "IDENTITY",
        **_modality_lut(source),
    )
    if voi := _voi_lut(source):
        put(ds, SoftcopyVOILUTSequence=[voi])
    return composite.finish(ds, report, kind="pr", key=film.source.sop_instance_uid)


_Box = tuple[float, float, float, float]


def _boxes(film: FilmMaps) -> Iterator[tuple[Finding, _Box]]:
    for finding, saliency in film.maps:
        box = hot_box(saliency.values, film.shape) if finding.presence is Presence.PRESENT else None
        if box is not None:
            yield finding, box


def _outline(report: Report, finding: Finding, box: _Box) -> Dataset:
    left, top, right, bottom = box
    model = report.algorithm.name if report.algorithm else ""
    return dataset(
        GraphicAnnotationUnits="PIXEL",
        GraphicDimensions=2,
        NumberOfGraphicPoints=_BOX_POINTS,
        GraphicData=[left, top, right, top, right, bottom, left, bottom, left, top],
        GraphicType="POLYLINE",
        GraphicFilled="N",
        TrackingID=f"{model}/{finding.key}"[:64],
        TrackingUID=uids.tracking_uid(report.study_instance_uid, model, finding.key),
    )


def _text(finding: Finding, box: _Box) -> Dataset:
    left, top, _, _ = box
    return dataset(
        AnchorPointAnnotationUnits="PIXEL",
        UnformattedTextValue=f"{finding.name} ({codes.RESEARCH_USE_ONLY})",
        AnchorPoint=[left, top],
        AnchorPointVisibility="N",
    )


def _modality_lut(source: Dataset) -> dict[str, str]:
    """Rescale of the film; a Modality LUT Sequence is not repeated, for its values are not checked."""
    slope, intercept = (
        next(iter(attributes.numbers(source, keyword)), None)
        for keyword in ("RescaleSlope", "RescaleIntercept")
    )
    if slope is None or intercept is None or not slope > 0 or intercept != intercept:  # noqa: PLR0124 - NaN
        return {}
    return {"RescaleIntercept": f"{intercept:.10g}", "RescaleSlope": f"{slope:.10g}", "RescaleType": "US"}


def _voi_lut(source: Dataset) -> Dataset | None:
    """First window of the film that the standard allows (PS3.3 C.11.8)."""
    pairs = zip(
        attributes.numbers(source, "WindowCenter"), attributes.numbers(source, "WindowWidth"), strict=False
    )
    for center, width in pairs:
        if center == center and width >= 1:  # noqa: PLR0124 - NaN
            return dataset(WindowCenter=f"{center:.10g}", WindowWidth=f"{width:.10g}")
    return None
