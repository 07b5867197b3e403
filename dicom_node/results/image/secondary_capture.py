"""Secondary Capture: film and heat map side by side (PS3.3 A.8.1, C.8.6). highdicom writes it."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node import MODEL_NAME
from dicom_node.errors import EncodingFailed
from dicom_node.imaging.pixel_shape import aspect_ratio
from dicom_node.results import codes
from dicom_node.results.encoding import composite, highdicom_parts
from dicom_node.results.encoding.compression import Compression, put_picture
from dicom_node.results.encoding.part10 import code_item, dataset, put
from dicom_node.results.encoding.pixel_history import burned_in_annotation, lossy_compression
from dicom_node.results.equipment import Equipment
from dicom_node.results.image import overlay
from dicom_node.results.report import Algorithm, Finding, FloatArray, Report, Saliency, Source

SERIES_NUMBER: Final = 9902
SERIES_DESCRIPTION: Final = f"AI saliency - {codes.RESEARCH_USE_ONLY}"


def write_sc(
    report: Report,
    finding: Finding,
    saliency: Saliency,
    pixels: FloatArray,
    *,
    equipment: Equipment,
    columns: int = 928,
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
    from highdicom.sc import SCImage  # noqa: PLC0415 - takes 0.2 s that only the worker needs to spend

    source = report.source(saliency.sop_instance_uid)
    if source is None or report.algorithm is None:
        raise EncodingFailed(f"the heat map of {finding.key} does not belong to a film of this report")
    ds = composite.begin_result(
        report,
        equipment,
        kind="sc",
        sop_class_uid=SecondaryCaptureImageStorage,
        modality="OT",
        series_number=SERIES_NUMBER,
        series_description=SERIES_DESCRIPTION,
        instance_number=_number(report, saliency),
    )
    what = f"{finding.name}, {report.algorithm.name} {report.algorithm.version}"
    put(
        ds,
        ConversionType="WSD",
        DateOfSecondaryCapture=ds.ContentDate,
        TimeOfSecondaryCapture=ds.ContentTime,
        ImageType=["DERIVED", "SECONDARY"],
        BodyPartExamined="CHEST",
        PatientOrientation=composite.orientation(source.header),
        BurnedInAnnotation=burned_in_annotation(source.header),
        RecognizableVisualFeatures="NO",
        ImageComments=codes.INTENDED_USE,
        DerivationDescription=f"{codes.RESEARCH_USE_ONLY}. {saliency.method} heat map: {what}",
        SourceImageSequence=[_source_image(source)],
        ContributingEquipmentSequence=[_contribution(equipment, report.algorithm)],
    )
    if saliency.method.casefold().replace("-", "") == "gradcam":
        put(ds, DerivationCodeSequence=[code_item(codes.GRADIENT_CLASS_ACTIVATION)])
    put(ds, **lossy_compression(source.header))
    picture = overlay.draw(
        pixels,
        saliency.values,
        banner=_banner(finding, report.algorithm),
        caption=f"{saliency.method}: where the model looked, not where disease is. Not for clinical use.",
        longer_side=columns,
        aspect_ratio=aspect_ratio(source.header),
    )
    written = SCImage.from_ref_dataset(
        highdicom_parts.source_image(source, report.study_instance_uid),
        picture,
        "RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        # highdicom takes no picture of unknown orientation; what it writes of it is not adopted.
        patient_orientation=("L", "F"),
        **highdicom_parts.identity(ds),
    )
    highdicom_parts.adopt(ds, written)
    return composite.finish_result(
        ds,
        report,
        kind="sc",
        key=f"{finding.key}/{saliency.sop_instance_uid}",
        transfer_syntax_uid=put_picture(ds, picture, compression),
    )


def _number(report: Report, saliency: Saliency) -> int:
    """Place of a heat map among all of the report, from 1."""
    maps = [item for finding in report.findings for item in finding.saliency]
    return next((place for place, item in enumerate(maps, 1) if item is saliency), len(maps) + 1)


def _banner(finding: Finding, algorithm: Algorithm) -> str:
    if finding.certainty is None:
        said = f"score {finding.score:.2f}, not calibrated"
    else:
        said = f"certainty {100 * finding.certainty:.0f} %"
    model = f"{algorithm.name} {algorithm.version}"
    # Pillow's own font has no dash of any length; this dot it has.
    return " · ".join((codes.RESEARCH_USE_ONLY, finding.name, model, said))


def _source_image(source: Source) -> Dataset:
    item = composite.referenceable(source)
    if item is None:
        raise EncodingFailed("the film of a heat map lacks a UID to refer to it by")
    return put(
        item,
        SpatialLocationsPreserved="NO",
        PurposeOfReferenceCodeSequence=[code_item(codes.SOURCE_IMAGE)],
    )


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
