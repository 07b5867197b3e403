"""Secondary Capture: film and heat map side by side, or an overview (PS3.3 A.8.1, C.8.6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node import MODEL_NAME
from dicom_node.errors import EncodingFailed
from dicom_node.imaging.pixel_shape import aspect_ratio
from dicom_node.results import codes
from dicom_node.results.encoding import composite
from dicom_node.results.encoding.compression import Compression, put_picture
from dicom_node.results.encoding.part10 import code_item, dataset, put
from dicom_node.results.encoding.pixel_history import burned_in_annotation, lossy_compression
from dicom_node.results.equipment import Equipment
from dicom_node.results.image import overlay
from dicom_node.results.image.overlay import OUTLINE_COLOURS, Backdrop, OutlinedFilm, Picture
from dicom_node.results.report import Algorithm, Finding, FloatArray, Report, Saliency, Source

SERIES_NUMBER: Final = 9902
SERIES_DESCRIPTION: Final = f"AI saliency - {codes.RESEARCH_USE_ONLY}"
OVERVIEW_LIMIT: Final = len(OUTLINE_COLOURS)
"""Most findings that an overview outlines."""
# Pillow's own font has no dash of any length; this dot it has.
_SEPARATOR: Final = " · "


def write_sc(
    report: Report,
    finding: Finding,
    saliency: Saliency,
    pixels: FloatArray,
    *,
    equipment: Equipment,
    columns: int = 928,
    backdrop: Backdrop | None = None,
    compression: Compression = "jpeg",
) -> Dataset:
    """Draw one heat map beside its film and write it as a Secondary Capture.

    Nothing that identifies a patient is drawn into the picture.

    Parameters
    ----------
    report
        Report that holds the finding.
    finding
        Finding that the map is of.
    saliency
        One of the heat maps of the finding.
    pixels
        Film that the map lies on: shape (Rows, Columns), float32 in [0, 1], lungs dark.
    equipment
        Equipment named as the writer.
    columns
        Most pixels of a panel's longer side.
    backdrop
        From :func:`backdrop_of` of the same film and method, where several maps are drawn on it.
    compression
        Compression of the picture.

    Returns
    -------
    pydicom.dataset.Dataset
        Three samples of 8 bits, with file meta information. The same input gives the same bytes.

    Raises
    ------
    EncodingFailed
        When heat map and report do not belong together, or a value cannot be written.
    """
    source, algorithm = _origin(report, finding, saliency)
    backdrop = backdrop or backdrop_of(source, saliency, pixels, columns)
    picture = backdrop.under(saliency.values, _banner(finding, algorithm))
    return _write(
        report,
        picture,
        [source],
        [saliency],
        equipment=equipment,
        compression=compression,
        instance_number=_number(report, saliency),
        content=f"{saliency.method} heat map: {finding.name}, {algorithm.name} {algorithm.version}",
        key=f"{finding.key}/{saliency.sop_instance_uid}",
    )


def backdrop_of(source: Source, saliency: Saliency, pixels: FloatArray, columns: int = 928) -> Backdrop:
    """Backdrop of all heat maps of a film by one method; parameters as of :func:`write_sc`."""
    return Backdrop(pixels, _caption([saliency]), columns, aspect_ratio(source.header))


def strongest(report: Report) -> list[tuple[Finding, Saliency]]:
    """Findings that an overview outlines, the most certain first, each with its best heat map."""
    shown = [(finding, finding.saliency[0]) for finding in report.findings if finding.saliency]
    shown.sort(
        key=lambda pair: pair[0].score if pair[0].certainty is None else pair[0].certainty, reverse=True
    )
    return shown[:OVERVIEW_LIMIT]


def write_overview(
    report: Report,
    pixels: Mapping[str, FloatArray],
    *,
    equipment: Equipment,
    columns: int = 928,
    compression: Compression = "jpeg",
) -> Dataset:
    """Outline the strongest findings of a study on its films and write that as one Secondary Capture.

    Each finding of :func:`strongest` is outlined on the film of its best heat map; films without any are left
    out. Nothing that identifies a patient is drawn into the picture.

    Parameters
    ----------
    report
        Report with at least one heat map.
    pixels
        SOP Instance UID -> film of shape (Rows, Columns), float32 in [0, 1], lungs dark.
    equipment, columns, compression
        As in :func:`write_sc`.

    Returns
    -------
    pydicom.dataset.Dataset
        As :func:`write_sc` returns it.

    Raises
    ------
    EncodingFailed
        When heat maps and report do not belong together, or a value cannot be written.
    """
    outlined = strongest(report)
    origins = [_origin(report, *pair) for pair in outlined]
    algorithm = origins[0][1]
    sources = list(dict.fromkeys(source for source, _ in origins))
    films = [
        OutlinedFilm(
            pixels[source.sop_instance_uid],
            {
                number: saliency.values
                for number, (_, saliency) in enumerate(outlined, 1)
                if saliency.sop_instance_uid == source.sop_instance_uid
            },
            aspect_ratio(source.header),
        )
        for source in sources
    ]
    saliencies = [saliency for _, saliency in outlined]
    found = sum(bool(finding.saliency) for finding in report.findings)
    count = f"{len(outlined)} strongest of {found} findings with a heat map" if found > len(outlined) else ""
    model = f"{algorithm.name} {algorithm.version}"
    picture = overlay.draw_outlined(
        films,
        [(finding.name, _answer(finding)) for finding, _ in outlined],
        banner=_SEPARATOR.join(filter(None, (codes.RESEARCH_USE_ONLY, "Overview", model, count))),
        caption=_caption(saliencies),
        longer_side=columns,
    )
    names = ", ".join(finding.name for finding, _ in outlined)
    return _write(
        report,
        picture,
        sources,
        saliencies,
        equipment=equipment,
        compression=compression,
        instance_number=1,
        content=f"overview of {_methods(saliencies)} heat maps: {names}, {model}",
        key="overview",
    )


def _write(
    report: Report,
    picture: Picture,
    sources: Sequence[Source],
    saliencies: Sequence[Saliency],
    *,
    equipment: Equipment,
    compression: Compression,
    instance_number: int,
    content: str,
    key: str,
) -> Dataset:
    """Write a picture of heat maps on the films that it shows."""
    assert report.algorithm is not None
    ds = composite.begin_result(
        report,
        equipment,
        kind="sc",
        sop_class_uid=SecondaryCaptureImageStorage,
        modality="OT",
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        instance_number=instance_number,
    )
    headers = [source.header for source in sources]
    put(
        ds,
        ConversionType="WSD",
        DateOfSecondaryCapture=ds.ContentDate,
        TimeOfSecondaryCapture=ds.ContentTime,
        ImageType=["DERIVED", "SECONDARY"],
        BodyPartExamined="CHEST",
        # Films side by side need not lie alike.
        PatientOrientation=composite.orientation(headers[0]) if len(headers) == 1 else [],
        BurnedInAnnotation=burned_in_annotation(*headers),
        RecognizableVisualFeatures="NO",
        ImageComments=codes.INTENDED_USE,
        DerivationDescription=f"{codes.RESEARCH_USE_ONLY}. {content}",
        SourceImageSequence=[_source_image(source) for source in sources],
        ContributingEquipmentSequence=[_contribution(equipment, report.algorithm)],
    )
    if all(saliency.method.casefold().replace("-", "") == "gradcam" for saliency in saliencies):
        put(ds, DerivationCodeSequence=[code_item(codes.GRADIENT_CLASS_ACTIVATION)])
    put(ds, **next(filter(None, map(lossy_compression, headers)), {}))
    return composite.finish_result(
        ds, report, kind="sc", key=key, transfer_syntax_uid=put_picture(ds, picture, compression)
    )


def _origin(report: Report, finding: Finding, saliency: Saliency) -> tuple[Source, Algorithm]:
    """Film and algorithm of a heat map."""
    source = report.source(saliency.sop_instance_uid)
    if source is None or report.algorithm is None:
        raise EncodingFailed(f"the heat map of {finding.key} does not belong to a film of this report")
    return source, report.algorithm


def _number(report: Report, saliency: Saliency) -> int:
    """Place of a heat map among all of the report, from 1."""
    maps = [item for finding in report.findings for item in finding.saliency]
    return next((place for place, item in enumerate(maps, 1) if item is saliency), len(maps) + 1)


def _banner(finding: Finding, algorithm: Algorithm) -> str:
    model = f"{algorithm.name} {algorithm.version}"
    return _SEPARATOR.join((codes.RESEARCH_USE_ONLY, finding.name, model, _answer(finding)))


def _answer(finding: Finding) -> str:
    if finding.certainty is None:
        return f"score {finding.score:.2f}, not calibrated"
    return f"certainty {100 * finding.certainty:.0f} %"


def _methods(saliencies: Sequence[Saliency]) -> str:
    return ", ".join(dict.fromkeys(saliency.method for saliency in saliencies))


def _caption(saliencies: Sequence[Saliency]) -> str:
    return f"{_methods(saliencies)}: where the model looked, not where disease is. Not for clinical use."


def _source_image(source: Source) -> Dataset:
    item = composite.referenceable(
        source,
        SpatialLocationsPreserved="NO",
        PurposeOfReferenceCodeSequence=[code_item(codes.SOURCE_IMAGE)],
    )
    if item is None:
        raise EncodingFailed("the film of a heat map lacks a UID to refer to it by")
    return item


def _contribution(equipment: Equipment, algorithm: Algorithm) -> Dataset:
    return dataset(
        PurposeOfReferenceCodeSequence=[code_item(codes.PROCESSING_EQUIPMENT)],
        Manufacturer=equipment.manufacturer,
        ManufacturerModelName=MODEL_NAME,
        DeviceSerialNumber=equipment.serial_number,
        SoftwareVersions=equipment.software_version,
        StationName=equipment.station_name,
        ContributionDescription=f"Computed with the model {algorithm.name} {algorithm.version}",
    )
