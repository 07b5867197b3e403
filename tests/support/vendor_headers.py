"""Headers of chest films by their maker, around drawn pixels.

Where the values come from:

* *Open-i*: the table of original headers that comes with the collection; its private creators name the maker;
* *pydicom*, *GDCM*: test films of these libraries (``CR-MONO1-10-chest.dcm``, ``JPEG-lossy.dcm`` and others);
* *typical*: values as conformance statements of the maker and public dumps have them, put together here and
  taken from no single film.

None holds a name, a date or an identifier of a film: those are of the factory.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation

from tests.support.factories import film, put

ROWS, COLUMNS = 96, 80


@dataclass(frozen=True, slots=True)
class VendorHeader:
    """Header of one maker.

    Attributes
    ----------
    origin
        Open-i, pydicom, GDCM or typical.
    drawn
        Arguments of :func:`tests.support.factories.film`.
    elements
        Elements by keyword, as the maker writes them.
    private
        Private creator and text of one element below it, by group.
    refused
        Key of the reason why the film is not analysed; empty when it is.
    """

    origin: str
    drawn: Mapping[str, Any]
    elements: Mapping[str, Any]
    private: Mapping[int, tuple[str, str]] = field(default_factory=dict)
    refused: str = ""


def make(vendor: VendorHeader) -> Dataset:
    """Make a drawn film with the header of a maker."""
    ds = film(**{"rows": ROWS, "columns": COLUMNS, **vendor.drawn}, **vendor.elements)
    for group, (creator, text) in vendor.private.items():
        ds.private_block(group, creator, create=True).add_new(0x01, "LO", text)
    return ds


def _lut(bits: int, explanation: str) -> Dataset:
    """VOI LUT of as many entries as there are values, a straight line (PS3.3 C.11.2.1.1)."""
    entries = np.arange(2**bits, dtype="<u2")
    return put(
        Dataset(),
        {
            "LUTDescriptor": [2**bits, 0, bits],
            "LUTExplanation": explanation,
            "LUTData": entries.tobytes(),
        },
    )


_CR: Mapping[str, Any] = {"modality": "CR", "sop_class": ComputedRadiographyImageStorage}
_DX: Mapping[str, Any] = {"modality": "DX", "sop_class": DigitalXRayImageStorageForPresentation}

VENDORS: Mapping[str, VendorHeader] = {
    "Fuji, CR 9000": VendorHeader(
        "pydicom",
        {**_CR, "photometric": "MONOCHROME1", "bits": 10, "character_set": None, "window": (550, 1024)},
        {
            "Manufacturer": "FUJI PHOTO FILM CO. LTD.",
            "ManufacturerModelName": "9000",
            "PixelAspectRatio": "01",
            "PatientOrientation": None,
        },
    ),
    "Fuji, FCR with pixels of 0.15 mm": VendorHeader(
        "typical",
        {
            **_CR,
            "photometric": "MONOCHROME1",
            "bits": 10,
            "character_set": ["", "ISO 2022 IR 87"],
            "window": (511, 1023),
            "patient_name": "Yamada^Hanako=山田^花子",
        },
        {
            "Manufacturer": "FUJIFILM Corporation",
            "ManufacturerModelName": "CR-IR 392",
            "SoftwareVersions": "A18",
            "ImageType": ["DERIVED", "PRIMARY", "POST_PROCESSED"],
            "ImagerPixelSpacing": ["0.15", "0.15"],
            "PixelSpacing": ["0.15", "0.15"],
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
            "Sensitivity": "200",
            "AcquisitionDeviceProcessingDescription": "CHEST,GENERAL",
            "PlateType": "ST-VI",
        },
        {0x0009: ("FDMS 1.0", "A1")},
    ),
    "Agfa, ADC NX": VendorHeader(
        "Open-i",
        {**_CR, "photometric": "MONOCHROME1", "bits": 15},
        {
            "Manufacturer": "Agfa-Gevaert",
            "ManufacturerModelName": "ADC_51xx",
            "SoftwareVersions": "NX_2.0",
            "ImageType": ["ORIGINAL", "PRIMARY"],
            "ImagerPixelSpacing": ["0.1699", "0.1699"],
            "PixelSpacing": ["0.16990000009536", "0.16990000009536"],
            "PresentationLUTShape": "INVERSE",
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "P-VALUES",
            "LossyImageCompression": "00",
        },
        {0x0019: ("Agfa ADC NX", "1")},
    ),
    "Agfa, through its archive": VendorHeader(
        "Open-i",
        {**_CR, "photometric": "MONOCHROME1", "bits": 12, "character_set": "ISO 2022 IR 6"},
        {
            "Manufacturer": "Agfa",
            "ImageType": ["DERIVED", "PRIMARY"],
            "ImagerPixelSpacing": ["0.1500", "0.1500"],
            "PixelSpacing": ["0.150000", "0.150000"],
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "LOG_E REL",
        },
        {0x0029: ("MITRA OBJECT UTF8 ATTRIBUTES 1.0", "")},
    ),
    "Kodak, DirectView": VendorHeader(
        "typical",
        {**_CR, "photometric": "MONOCHROME1", "bits": 12, "character_set": None},
        {
            "Manufacturer": "KODAK",
            "ManufacturerModelName": "DirectView CR 975",
            "ImageType": ["DERIVED", "PRIMARY"],
            "ImagerPixelSpacing": ["0.168", "0.168"],
            "PixelSpacing": ["0.168", "0.168"],
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
            "VOILUTSequence": [_lut(12, "NORMAL")],
            "PatientOrientation": ["L", "F"],
        },
        {0x0029: ("Kodak Image Information", "")},
    ),
    "Carestream, DRX": VendorHeader(
        "typical",
        {**_DX, "bits": 12, "window": (2048, 4096), "character_set": "ISO_IR 192"},
        {
            "Manufacturer": "Carestream Health",
            "ManufacturerModelName": "DRX-Evolution",
            "ImageType": ["DERIVED", "PRIMARY"],
            "ImagerPixelSpacing": ["0.139", "0.139"],
            "PixelSpacing": ["0.139", "0.139"],
            "PixelIntensityRelationship": "LOG",
            "PixelIntensityRelationshipSign": -1,
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
            "WindowCenterWidthExplanation": "NORMAL",
            "BurnedInAnnotation": "NO",
            "LossyImageCompression": "00",
        },
    ),
    "Philips, DigitalDiagnost": VendorHeader(
        "Open-i",
        {**_DX, "bits": 12, "window": (2047, 4095), "character_set": None},
        {
            "Manufacturer": "Philips Medical Systems",
            "ManufacturerModelName": "digital DIAGNOST",
            "ImageType": ["ORIGINAL", "PRIMARY", ""],
            "ImagerPixelSpacing": ["0.143", "0.143"],
            "PixelSpacing": ["0.1438633369923", "0.1438633369923"],
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
            "LossyImageCompression": "00",
        },
        {0x0009: ("Philips RAD Imaging DD 097", ""), 0x2001: ("Philips Imaging DD 001", "")},
    ),
    "Siemens, resampled by its workplace": VendorHeader(
        "Open-i",
        {**_CR, "bits": 12, "view": None, "body_part": None},
        {
            "Manufacturer": "SIEMENS",
            "ManufacturerModelName": "Fluorospot Compact FD",
            "ImageType": ["DERIVED", "SECONDARY", "", "CSA RESAMPLED"],
            "ImagerPixelSpacing": ["0.143", "0.143"],
            "PresentationLUTShape": "IDENTITY",
            "PatientOrientation": None,
            "LossyImageCompression": "00",
        },
        {0x0029: ("SIEMENS MEDCOM OOG", ""), 0x0051: ("SIEMENS MEDCOM HEADER2", "")},
    ),
    "Siemens, Ysio": VendorHeader(
        "typical",
        {**_DX, "bits": 14, "window": (8192, 16384)},
        {
            "Manufacturer": "SIEMENS",
            "ManufacturerModelName": "Fluorospot Compact FD",
            "SoftwareVersions": "VE10J",
            "StationName": "YSIO",
            "ImageType": ["DERIVED", "PRIMARY"],
            "ImagerPixelSpacing": ["0.148", "0.148"],
            "PixelIntensityRelationship": "LOG",
            "PixelIntensityRelationshipSign": -1,
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
            "VOILUTFunction": "LINEAR",
        },
        {0x0019: ("SIEMENS DLR.01", "1")},
    ),
    "GE, Revolution XQi": VendorHeader(
        "pydicom",
        {**_DX, "bits": 14, "window": (-600, 1600), "view": None},
        {
            "Manufacturer": "GE MEDICAL SYSTEMS",
            "ManufacturerModelName": "Revolution XQi ADS_27.5",
            "SoftwareVersions": "Ads Application Package VERSION ADS_27.5",
            "ImageType": ["ORIGINAL", "PRIMARY", ""],
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "PatientOrientation": ["L", "F"],
        },
        {0x0099: ("CTP", "")},
    ),
    "GE, Discovery XR656 with three windows": VendorHeader(
        "typical",
        {**_DX, "bits": 14},
        {
            "Manufacturer": "GE Healthcare",
            "ManufacturerModelName": "Discovery XR656",
            "SoftwareVersions": "dm_Platform_release_superbee-FW11_4",
            "ImageType": ["DERIVED", "PRIMARY", ""],
            "ImagerPixelSpacing": ["0.20", "0.20"],
            "PixelSpacing": ["0.194556", "0.194556"],
            "WindowCenter": ["8192", "8192", "8192"],
            "WindowWidth": ["16384", "13107", "19660"],
            "WindowCenterWidthExplanation": ["NORMAL", "HARDER", "SOFTER"],
            "VOILUTFunction": "SIGMOID",
            "PixelIntensityRelationship": "LOG",
            "PixelIntensityRelationshipSign": -1,
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
        },
        {0x0011: ("GEIIS PACS", ""), 0x0045: ("GEMS_DRS_1", "")},
    ),
    "Canon, CXDI": VendorHeader(
        "typical",
        {**_DX, "bits": 12, "window": (2048, 4096), "character_set": "ISO_IR 13"},
        {
            "Manufacturer": "Canon Inc.",
            "ManufacturerModelName": "CXDI Control Software NE",
            "SoftwareVersions": "2.10.0.4",
            "ImageType": ["DERIVED", "PRIMARY"],
            "ImagerPixelSpacing": ["0.125", "0.125"],
            "PixelIntensityRelationship": "LOG",
            "PixelIntensityRelationshipSign": 1,
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
        },
        {0x0019: ("Canon Inc.", "")},
    ),
    "Konica Minolta, 0013": VendorHeader(
        "GDCM",
        {
            **_CR,
            "photometric": "MONOCHROME1",
            "bits": 8,
            "character_set": "ISO_IR 192",
            "window": (114.516, 255.0623),
            "view": None,
        },
        {
            "Manufacturer": "KONICA MINOLTA",
            "ManufacturerModelName": "0013",
            "SoftwareVersions": "Ver1.60R02E",
            "ImageType": ["DERIVED", "PRIMARY"],
            "ImagerPixelSpacing": ["0.175", "0.175"],
            "PixelSpacing": ["0.17500000000000", "0.17500000000000"],
            "WindowCenterWidthExplanation": "center=114.516/width=255.0623",
            "PatientOrientation": "",
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
        },
    ),
    "Samsung, XGEO": VendorHeader(
        "typical",
        {
            **_DX,
            "bits": 15,
            "window": (16384, 32768),
            "character_set": ["", "ISO 2022 IR 149"],
            "patient_name": "Kim^Minji=金^民智=김^민지",
        },
        {
            "Manufacturer": "Samsung Electronics",
            "ManufacturerModelName": "XGEO GC80",
            "ImageType": ["DERIVED", "PRIMARY"],
            "ImagerPixelSpacing": ["0.143", "0.143"],
            "PixelSpacing": ["0.143", "0.143"],
            "PixelIntensityRelationship": "LIN",
            "PixelIntensityRelationshipSign": 1,
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
        },
    ),
    "Shimadzu, RADspeed": VendorHeader(
        "typical",
        {**_DX, "photometric": "MONOCHROME1", "bits": 12, "window": (2048, 4096), "view": "AP"},
        {
            "Manufacturer": "SHIMADZU CORPORATION",
            "ManufacturerModelName": "RADspeed Pro",
            "ImageType": ["DERIVED", "PRIMARY"],
            "PresentationLUTShape": "INVERSE",
            "ImagerPixelSpacing": ["0.160", "0.160"],
            "RescaleIntercept": "0",
            "RescaleSlope": "1",
            "RescaleType": "US",
        },
    ),
    "Shimadzu, of another body part": VendorHeader(
        "typical",
        {**_DX, "bits": 12, "body_part": "ABDOMEN"},
        {"Manufacturer": "SHIMADZU CORPORATION", "ManufacturerModelName": "RADspeed Pro"},
        refused="body_part",
    ),
}
"""Headers by maker and device."""

VENDOR_FILMS: Mapping[str, Callable[[], Dataset]] = {
    name: functools.partial(make, vendor) for name, vendor in VENDORS.items()
}
"""Drawn films by maker and device."""
