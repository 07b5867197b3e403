"""Headers of films as archives hold them: complete, incomplete, and wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable

from pydicom.dataset import Dataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    SecondaryCaptureImageStorage,
)

from tests.support.factories import film, put
from tests.support.vendor_headers import VENDOR_FILMS


def _small(**elements: object) -> Dataset:
    return film(rows=96, columns=80, **elements)  # type: ignore[arg-type]


_LONG = "x" * 200

_MISSING = {
    "body": "BodyPartExamined",
    "view": "ViewPosition",
    "orientation": "PatientOrientation",
    "window": "WindowCenter",
    "rescale": "RescaleSlope",
    "shape": "PresentationLUTShape",
    "charset": "SpecificCharacterSet",
    "series": "SeriesNumber",
    "type": "ImageType",
    "spacing": "PixelSpacing",
}

OPENI = (
    # films, photometric, bits, modality, character set, missing elements
    (2878, 1, 12, "CR", "ISO 2022 IR 6", "window shape"),
    (2503, 2, 12, "CR", "ISO_IR 100", "body view orientation rescale spacing"),
    (866, 2, 15, "CR", "ISO_IR 100", ""),
    (439, 1, 15, "CR", "ISO_IR 100", ""),
    (281, 2, 12, "CR", "ISO_IR 100", "orientation window rescale series"),
    (105, 1, 15, "CR", "ISO_IR 100", "window"),
    (96, 2, 12, "CR", "", "charset"),
    (73, 2, 12, "CR", "ISO_IR 100", "orientation rescale shape"),
    (58, 1, 10, "CR", "", "view orientation window shape charset"),
    (32, 1, 12, "CR", "", "orientation rescale shape charset type"),
    (28, 1, 15, "CR", "", "window charset"),
    (26, 2, 14, "DX", "ISO_IR 100", "spacing"),
    (25, 1, 12, "CR", "ISO_IR 100", "shape"),
    (20, 2, 15, "CR", "ISO_IR 100", "view orientation rescale shape"),
    (18, 2, 15, "CR", "ISO_IR 100", "rescale shape"),
    (16, 1, 12, "CR", "", "orientation window rescale shape charset type spacing"),
    (3, 1, 10, "CR", "", "view orientation shape charset"),
    (2, 2, 12, "SC", "", "body view orientation shape charset spacing"),
)
"""Every combination of polarity, bits, class and missing elements among the 7,469 headers of Open-i."""


def _openi(photometric: int, bits: int, modality: str, character_set: str, missing: str) -> Dataset:
    """Make a film with one combination of OPENI; its values are typical of those headers."""
    inverted = photometric == 1
    elements: dict[str, object] = {
        "AccessionNumber": "8124495960591761",
        "StudyTime": None,
        "StudyID": None,
        "ReferringPhysicianName": None,
        "PatientAge": None,
        "ImagerPixelSpacing": ["0.1500", "0.1500"],
        "PixelSpacing": ["0.1500", "0.1500"],
        "ImageType": ["DERIVED", "SECONDARY", "", "CSA RESAMPLED"],
        "PresentationLUTShape": "INVERSE" if inverted else "IDENTITY",
        "RescaleIntercept": "0",
        "RescaleSlope": "1",
        "RescaleType": "LOG_E REL",
    }
    left_out = [_MISSING[word] for word in missing.split()]
    left_out += ["RescaleIntercept", "RescaleType"] if "RescaleSlope" in left_out else []
    left_out += ["WindowWidth"] if "WindowCenter" in left_out else []
    return _small(
        photometric=f"MONOCHROME{photometric}",
        bits=bits,
        allocated=16,
        modality="CR" if modality == "SC" else modality,
        sop_class=SecondaryCaptureImageStorage if modality == "SC" else ComputedRadiographyImageStorage,
        character_set=character_set or None,
        patient_name="1000",
        patient_id="1000",
        window=(2 ** (bits - 1), 2**bits),
        **elements | dict.fromkeys(left_out),
    )


SOURCES: dict[str, Callable[[], Dataset]] = {
    "plain CR": _small,
    "MONOCHROME1, 10 bits": lambda: _small(photometric="MONOCHROME1", bits=10),
    "MONOCHROME1, 15 bits, no window, no body part, no view": lambda: _small(
        photometric="MONOCHROME1", bits=15, body_part=None, view=None
    ),
    "DX for presentation, 14 bits, coded view": lambda: _small(
        sop_class=DigitalXRayImageStorageForPresentation, modality="DX", bits=14, view="LL"
    ),
    "DX in a Secondary Capture, nothing of a study": lambda: _small(
        sop_class=SecondaryCaptureImageStorage,
        modality="DX",
        bits=8,
        PatientAge="62",
        PatientName=None,
        StudyDate=None,
        StudyTime=None,
        StudyID=None,
        AccessionNumber=None,
        ReferringPhysicianName=None,
        PatientBirthDate=None,
        SeriesNumber=None,
        InstanceNumber=None,
        SpecificCharacterSet=None,
        PatientOrientation=None,
    ),
    "numbers of two assigning authorities": lambda: _small(
        IssuerOfPatientIDQualifiersSequence=[
            put(Dataset(), {"UniversalEntityID": "1.2.3.4", "UniversalEntityIDType": "ISO"})
        ],
        IssuerOfAccessionNumberSequence=[put(Dataset(), {"LocalNamespaceEntityID": "WEST"})],
    ),
    "age without unit, one-component name": lambda: _small(PatientAge="62", patient_name="16d7f894-55d7"),
    "dates of 17 digits": lambda: _small(
        StudyDate="20240229101112345", PatientBirthDate="19700101000000000", StudyTime="101530.1234567890"
    ),
    "dates of another age": lambda: _small(
        StudyDate="1995.07.20", StudyTime="11:22:07", PatientBirthDate="01/02/1970"
    ),
    "impossible dates and times": lambda: _small(
        StudyDate="20240230", StudyTime="996199", PatientBirthDate="unknown", TimezoneOffsetFromUTC="UTC+1"
    ),
    "overlong values": lambda: _small(
        StudyDescription=_LONG,
        AccessionNumber=_LONG,
        StudyID=_LONG,
        patient_name=f"{_LONG}^{_LONG}",
        patient_id=_LONG,
        ReferringPhysicianName=_LONG,
    ),
    "invalid code strings": lambda: _small(
        PatientSex="female", BodyPartExamined="chest (pa)", PatientOrientation=["L", "?"], Modality="cr"
    ),
    "control characters and backslashes": lambda: _small(
        patient_id="A\x01B\x1b", StudyDescription="one\r\ntwo\ttab", patient_name="Doe\x07^Jane"
    ),
    "markup": lambda: _small(
        patient_name='<script>alert(1)</script>^"><img onerror>', StudyDescription="</p><script>"
    ),
    "no patient and study identifiers": lambda: _small(patient_id=None, StudyID="", AccessionNumber=""),
    "everything empty": lambda: _small(
        patient_id="",
        patient_name="",
        PatientSex="",
        PatientAge="",
        StudyDate="",
        StudyTime="",
        StudyDescription="",
        Manufacturer="",
        PatientOrientation="",
        body_part="",
        view="",
        SeriesNumber="",
        InstanceNumber="",
    ),
    "ISO 2022 IR 6 alone": lambda: _small(character_set="ISO 2022 IR 6"),
    "unknown character set": lambda: _small(character_set="ISO_IR 999"),
    "Latin-1 name": lambda: _small(character_set="ISO_IR 100", patient_name="Müller^Jörg"),
    "Cyrillic, ISO_IR 144": lambda: _small(character_set="ISO_IR 144", patient_name="Тестов^Пациент"),
    "Cyrillic, UTF-8": lambda: _small(character_set="ISO_IR 192", patient_name="Тестов^Пациент"),
    "Japanese, ISO 2022": lambda: _small(
        character_set=["", "ISO 2022 IR 87"], patient_name="Yamada^Tarou=山田^太郎=やまだ^たろう"
    ),
    "Korean, ISO 2022": lambda: _small(
        character_set=["", "ISO 2022 IR 149"], patient_name="Hong^Gildong=洪^吉洞=홍^길동"
    ),
    "Chinese, GB18030": lambda: _small(
        character_set="GB18030", patient_name="Wang^XiaoDong=王^小东", StudyDescription="胸部正位片"
    ),
    "lossy": lambda: _small(bits=8, LossyImageCompression="01", LossyImageCompressionMethod="ISO_10918_1"),
    "lossy with ratio": lambda: _small(
        bits=8,
        LossyImageCompression="01",
        LossyImageCompressionMethod="ISO_10918_1",
        LossyImageCompressionRatio="10",
    ),
    "time zone": lambda: _small(TimezoneOffsetFromUTC="-0430"),
    "local procedure code": lambda: put(
        _small(),
        {
            "ProcedureCodeSequence": [
                put(
                    Dataset(),
                    {
                        "CodeValue": "XR2017",
                        "CodingSchemeDesignator": "LOCAL",
                        "CodeMeaning": "Xray Chest PA and Lateral",
                    },
                )
            ]
        },
    ),
    "incomplete procedure code": lambda: put(
        _small(), {"ProcedureCodeSequence": [put(Dataset(), {"CodeValue": "X" * 40, "CodeMeaning": ""})]}
    ),
    "UIDs of no registered root": lambda: _small(
        SOPInstanceUID="9999.254590698274435768774328300546744332531",
        SeriesInstanceUID="9999.137845358416638333676551920168294432259",
        StudyInstanceUID="9999.231391321566400544527466321584985938652",
    ),
}
SOURCES |= {
    f"Open-i: MONOCHROME{row[0]}, {row[1]} bits, {row[2]}, without {row[4] or 'nothing'}": functools.partial(
        _openi, *row
    )
    for _, *row in OPENI
}
SOURCES |= VENDOR_FILMS
"""Films by description of their header; every result that is made from one must be valid."""

_REPEATED = {
    "PatientName": "Patient's Name",
    "PatientID": "Patient ID",
    "IssuerOfPatientID": "Issuer of Patient ID",
    "AccessionNumber": "Accession Number",
    "ReferringPhysicianName": "Referring Physician's Name",
    "StudyID": "Study ID",
}
"""Attributes that results repeat as they stand, with the names that dciodvfy calls them by."""


def is_repeated(error: str) -> bool:
    """Whether a line of dciodvfy is of a value that a result repeats as its film has it."""
    words = [word for keyword, name in _REPEATED.items() for word in (f"<{keyword}>", f" {name} ")]
    return "contains invalid data values" in error or any(word in error for word in words)
