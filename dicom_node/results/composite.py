"""What every result has: patient, study, series, equipment and SOP Common modules (PS3.3 C.7, C.12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pydicom.dataset import Dataset

from dicom_node import elements
from dicom_node.results import codes, header, uids
from dicom_node.results.encoding import dataset, encoded, put, texts, with_file_meta
from dicom_node.results.equipment import MODEL_NAME, Equipment
from dicom_node.results.report import Report, Source

_CODING_SCHEME: Final = {
    "CodingSchemeDesignator": codes.PRIVATE_SCHEME,
    "CodingSchemeUID": codes.PRIVATE_SCHEME_UID,
    "CodingSchemeName": codes.PRIVATE_SCHEME_NAME,
    "CodingSchemeResponsibleOrganization": "dicom-node",
}


def lead_source(sources: Sequence[Source]) -> Source:
    """Source that patient and study elements are copied from: the first that was analysed, else the first."""
    return next((source for source in sources if source.analysed), sources[0])


def begin(
    report: Report,
    equipment: Equipment,
    *,
    kind: str,
    sop_class_uid: str,
    modality: str,
    series_number: int,
    series_description: str,
    instance_number: int,
) -> Dataset:
    """Return a result without its content, SOP Instance UID and character set.

    Parameters
    ----------
    kind
        Of the result (``sr``, ``sc``): a series of its own.
    """
    source = lead_source(report.sources).header
    created, offset = header.local_time(report.created, source)
    day, moment = created.strftime("%Y%m%d"), created.strftime("%H%M%S.%f")
    model = report.algorithm.name if report.algorithm else ""
    ds = dataset(
        SOPClassUID=sop_class_uid,
        StudyInstanceUID=report.study_instance_uid,
        SeriesInstanceUID=uids.series_uid(report.study_instance_uid, report.revision, kind, model),
        Modality=modality,
        SeriesNumber=series_number,
        SeriesDescription=series_description,
        InstanceNumber=instance_number,
        SeriesDate=day,
        SeriesTime=moment,
        ContentDate=day,
        ContentTime=moment,
        InstanceCreationDate=day,
        InstanceCreationTime=moment,
        Manufacturer=equipment.manufacturer,
        ManufacturerModelName=MODEL_NAME,
        DeviceSerialNumber=equipment.serial_number,
        SoftwareVersions=equipment.software_version,
        StationName=equipment.station_name,
        CodingSchemeIdentificationSequence=[dataset(**_CODING_SCHEME)],
        **header.copied(source),
    )
    if offset:
        put(ds, TimezoneOffsetFromUTC=offset)
    return ds


def finish(ds: Dataset, report: Report, *, kind: str, key: str) -> Dataset:
    """Choose the character set, name the content by its hash, add the file meta information.

    Raises
    ------
    EncodingFailed
        When a value cannot be written.
    """
    terms = header.character_set(lead_source(report.sources).header, texts(ds))
    if terms:
        put(ds, SpecificCharacterSet=terms if len(terms) > 1 else terms[0])
    put(ds, SOPInstanceUID=uids.derived_uid("unnamed"))
    content = encoded(with_file_meta(ds))
    put(ds, SOPInstanceUID=uids.instance_uid(str(ds.SeriesInstanceUID), kind, key, content))
    return with_file_meta(ds)


def referenceable(source: Source) -> Dataset | None:
    """Item that refers to a source; None for one that lacks a UID."""
    sop_class = header.repaired(source.header, "SOPClassUID")
    instance = header.repaired(source.header, "SOPInstanceUID")
    series = header.repaired(source.header, "SeriesInstanceUID")
    if not (sop_class and instance and series):
        return None
    return dataset(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=instance)


def position(source: Source) -> str:
    """Where a person finds a source in its study, such as ``series 1, image 2``."""
    parts = {"series": "SeriesNumber", "image": "InstanceNumber"}
    found = {name: elements.text(source.header, keyword) for name, keyword in parts.items()}
    return ", ".join(f"{name} {number}" for name, number in found.items() if number.isdigit()) or "image"
