"""Parts that highdicom writes of an object: its own modules, beside those that every result has.

highdicom reads the film that an object is derived from, and takes valid values for granted. It is given a
source image of valid values; what it writes of patient, study, series and equipment gives way to
:mod:`dicom_node.results.encoding.composite`, as do its UIDs and times, which differ from run to run.

highdicom takes 0.1 s and 16 MiB to import, and the first object 0.2 s and 65 MiB more: it is imported by the
functions that need it, when they run, and writes nothing that is set by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node import MODEL_NAME
from dicom_node.results import uids
from dicom_node.results.encoding import header
from dicom_node.results.encoding.part10 import dataset, with_file_meta
from dicom_node.results.report import Algorithm, Code, Source

if TYPE_CHECKING:
    from highdicom.content import AlgorithmIdentificationSequence
    from highdicom.sr.coding import CodedConcept

_LEFT_OUT: Final = frozenset({"SOPInstanceUID", "ContributingEquipmentSequence", "TimezoneOffsetFromUTC"})
"""Attributes that name highdicom or the moment, or that the object has of its own."""
_PATIENT_AND_STUDY: Final = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)


def concept(code: Code) -> CodedConcept:
    """Coded concept of highdicom."""
    from highdicom.sr.coding import CodedConcept  # noqa: PLC0415 - see above

    return CodedConcept(code.value, code.scheme, code.meaning)


def algorithm_identification(algorithm: Algorithm, family: Code) -> AlgorithmIdentificationSequence:
    """Algorithm identification (PS3.3 table 10-19); parameters as ``name=value``."""
    from highdicom.content import AlgorithmIdentificationSequence  # noqa: PLC0415 - see above

    parameters = dict(parameter.partition("=")[::2] for parameter in algorithm.parameters)
    return AlgorithmIdentificationSequence(
        algorithm.name[:64], concept(family), algorithm.version[:64], parameters=parameters or None
    )


def source_image(source: Source, study_instance_uid: str) -> Dataset:
    """Source image as highdicom wants one: UIDs and size of the film, and nothing of the patient."""
    film = source.header
    rows, columns = source.shape
    ds = dataset(
        **dict.fromkeys(_PATIENT_AND_STUDY, ""),
        StudyInstanceUID=study_instance_uid,
        SeriesInstanceUID=header.repaired(film, "SeriesInstanceUID"),
        SOPInstanceUID=header.repaired(film, "SOPInstanceUID"),
        SOPClassUID=header.repaired(film, "SOPClassUID"),
        Modality="CR",
        ImageType=["ORIGINAL", "PRIMARY"],
        Rows=rows,
        Columns=columns,
        SamplesPerPixel=1,
    )
    with_file_meta(ds)
    return ds


def identity(ds: Dataset) -> dict[str, Any]:
    """Arguments that every constructor of highdicom takes, from an object that was begun."""
    return {
        "series_instance_uid": str(ds.SeriesInstanceUID),
        "series_number": int(ds.SeriesNumber),
        "sop_instance_uid": uids.derived_uid("unnamed"),
        "instance_number": int(ds.InstanceNumber),
        "manufacturer": str(ds.Manufacturer),
        "manufacturer_model_name": MODEL_NAME,
        "software_versions": str(ds.SoftwareVersions),
        "device_serial_number": str(ds.DeviceSerialNumber),
        "transfer_syntax_uid": ExplicitVRLittleEndian,
    }


def adopt(ds: Dataset, written: Dataset) -> Dataset:
    """Add to an object what highdicom wrote of its own modules.

    Parameters
    ----------
    ds
        Object as :func:`dicom_node.results.encoding.composite.begin_result` begins one; its elements stay.
    written
        The same object by highdicom.
    """
    for element in written:
        if element.keyword == "PixelData":
            # Of 8 bits: highdicom leaves its VR open, and padding to those who write files.
            ds.add_new(element.tag, "OB", element.value + b"\0" * (len(element.value) % 2))
        elif element.tag not in ds and element.keyword not in _LEFT_OUT:
            ds.add(element)
    return ds
