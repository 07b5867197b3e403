"""Composite modules of every result: patient, study, series, equipment, SOP Common (PS3.3 C.7, C.12)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from dicom_node import MODEL_NAME
from dicom_node.imaging import attributes
from dicom_node.results import codes, uids
from dicom_node.results.encoding import header
from dicom_node.results.encoding.item import Item
from dicom_node.results.encoding.part10 import dataset, encoded, item, put, texts, with_file_meta
from dicom_node.results.equipment import Equipment
from dicom_node.results.report import Report, Source

_CODING_SCHEME: Final = {
    "CodingSchemeDesignator": codes.PRIVATE_SCHEME,
    "CodingSchemeUID": codes.PRIVATE_SCHEME_UID,
    "CodingSchemeName": codes.PRIVATE_SCHEME_NAME,
    "CodingSchemeResponsibleOrganization": "dicom-node",
}
_ORIENTATION = re.compile(r"[APRLHF]{1,3}")
_DIRECTIONS: Final = 2
_LONG_STRING: Final = 64
"""Most characters of an LO (PS3.5 6.2)."""


def lead_source(sources: Sequence[Source]) -> Source:
    """Source that patient and study elements are copied from: the first that was analysed, else the first."""
    return next((source for source in sources if source.analysed), sources[0])


def begin_result(
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
        Kind of the result (``sr``, ``sc``); each kind has a series of its own.
    """
    model = report.algorithm.name if report.algorithm else ""
    if report.one_of_several and model:
        series_description = f"{series_description} - {model}"[:_LONG_STRING]
    ds = begin_from_header(
        lead_source(report.sources).header,
        equipment,
        study_instance_uid=report.study_instance_uid,
        series_instance_uid=uids.series_uid(report.study_instance_uid, report.revision, kind, model),
        created=report.created,
        sop_class_uid=sop_class_uid,
        modality=modality,
        series_number=series_number,
        series_description=series_description,
        instance_number=instance_number,
    )
    ds.CodingSchemeIdentificationSequence.extend(_own_schemes(report))
    return ds


def begin_from_header(
    source: Dataset,
    equipment: Equipment,
    *,
    study_instance_uid: str,
    series_instance_uid: str,
    created: datetime,
    sop_class_uid: str,
    modality: str,
    series_number: int,
    series_description: str,
    instance_number: int,
) -> Dataset:
    """Begin an object as :func:`begin_result` does, with patient and study taken from any header."""
    local, offset = header.local_time(created, source)
    day, moment = local.strftime("%Y%m%d"), local.strftime("%H%M%S.%f")
    ds = dataset(
        SOPClassUID=sop_class_uid,
        StudyInstanceUID=study_instance_uid,
        SeriesInstanceUID=series_instance_uid,
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
        **header.issuers(source),
    )
    if offset:
        put(ds, TimezoneOffsetFromUTC=offset)
    return ds


def _own_schemes(report: Report) -> list[Dataset]:
    """Items for the private coding schemes of labels that the bundle defines (PS3.3 C.12.1.1.2)."""
    used = {
        code.scheme
        for finding in report.findings
        for code in (finding.code, finding.site, finding.qualifier)
        if code is not None and codes.is_private(code.scheme)
    }
    name = f"labels of the model {report.algorithm.name}" if report.algorithm else ""
    return [
        dataset(CodingSchemeDesignator=scheme, CodingSchemeName=name)
        for scheme in sorted(used - {codes.PRIVATE_SCHEME})
    ]


def finish_result(
    ds: Dataset,
    report: Report,
    *,
    kind: str,
    key: str,
    transfer_syntax_uid: UID = ExplicitVRLittleEndian,
) -> Dataset:
    """Choose the character set, name the content by its hash, add the file meta information.

    Parameters
    ----------
    transfer_syntax_uid
        Transfer syntax of Pixel Data; everything else is in Explicit VR Little Endian.

    Raises
    ------
    EncodingFailed
        When a value cannot be written.
    """
    return finish_from_header(
        lead_source(report.sources).header, ds, kind=kind, key=key, transfer_syntax_uid=transfer_syntax_uid
    )


def finish_from_header(
    source: Dataset,
    ds: Dataset,
    *,
    kind: str,
    key: str,
    transfer_syntax_uid: UID = ExplicitVRLittleEndian,
) -> Dataset:
    """Finish an object as :func:`finish_result` does, with the character set of any header."""
    terms = header.character_set(source, texts(ds))
    if terms:
        put(ds, SpecificCharacterSet=terms if len(terms) > 1 else terms[0])
    put(ds, SOPInstanceUID=uids.derived_uid("unnamed"))
    content = encoded(with_file_meta(ds, transfer_syntax_uid))
    put(ds, SOPInstanceUID=uids.instance_uid(str(ds.SeriesInstanceUID), kind, key, content))
    return with_file_meta(ds, transfer_syntax_uid)


def referenceable(source: Source, **values: Any) -> Item | None:
    """Item that refers to a source, with further elements by keyword; None for one that lacks a UID."""
    sop_class = header.repaired(source.header, "SOPClassUID")
    instance = header.repaired(source.header, "SOPInstanceUID")
    series = header.repaired(source.header, "SeriesInstanceUID")
    if not (sop_class and instance and series):
        return None
    return item(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=instance, **values)


def orientation(source: Dataset) -> list[str]:
    """Patient Orientation of a film, for a picture that lies as it does; empty when it is not known."""
    found = [part.upper() for part in attributes.texts(source, "PatientOrientation")]
    return found if len(found) == _DIRECTIONS and all(map(_ORIENTATION.fullmatch, found)) else []


def position(source: Source) -> str:
    """Position of a source in its study, for a person, such as ``series 1, image 2``."""
    parts = {"series": "SeriesNumber", "image": "InstanceNumber"}
    found = {name: attributes.text(source.header, keyword) for name, keyword in parts.items()}
    return ", ".join(f"{name} {number}" for name, number in found.items() if number.isdigit()) or "image"
