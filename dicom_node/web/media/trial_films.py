"""Trial films: conversion of a PNG, JPEG or DICOM file to a DICOM instance in a study of its own.

The decoders work on files from outside, so the conversion runs as a separate program with limits:
``python -m dicom_node.web.media.trial_films SOURCE TARGET MAX_PIXELS BYTES``. It prints the reason of a
failure as one line, and ends with status 1.
"""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from dicom_node.errors import BadInstance
from dicom_node.imaging import attributes
from dicom_node.results.uids import IMPLEMENTATION_CLASS_UID, derived_uid
from dicom_node.web.media.uploaded_file import check_dicom

TRIAL_DESCRIPTION: Final = "Tried in the reading room"
"""Study Description of trial films."""
TIMEOUT_SECONDS: Final = 30
_PICTURE_FORMATS = ("PNG", "JPEG")
_GREY_16 = ("I;16", "I;16B", "I")
_IDENTIFYING = (
    "PatientBirthDate",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "PatientAddress",
    "PatientTelephoneNumbers",
    "AccessionNumber",
    "ReferringPhysicianName",
    "InstitutionName",
    "InstitutionAddress",
)


def convert_to_dicom(source: Path, target: Path, *, max_pixels: int, most_bytes: int) -> None:
    """Convert a trial film to a DICOM file; the same film always gives the same file.

    Parameters
    ----------
    max_pixels
        Most pixels of a picture.
    most_bytes
        Address space of the program, in bytes.

    Raises
    ------
    BadInstance
        When the file cannot be converted; the text is one sentence for the reader.
    """
    program = [sys.executable, "-m", "dicom_node.web.media.trial_films"]
    command = [*program, str(source), str(target), str(max_pixels), str(most_bytes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BadInstance("the picture took too long to read") from None
    if done.returncode:
        raise BadInstance(done.stdout.strip()[:200] or "the picture cannot be read")


def _instance(source: Path, max_pixels: int) -> Dataset:
    with source.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        head = stream.read(132)
    if head[128:] == b"DICM":
        check_dicom(source)
        ds: Dataset = dcmread(source)
    else:
        ds = _secondary_capture(source, max_pixels)
    for keyword in _IDENTIFYING:
        if keyword in ds:
            del ds[keyword]
    ds.remove_private_tags()
    ds.PatientName, ds.PatientID = "Tried^Film", f"try-{digest[:12]}"
    ds.StudyDescription = TRIAL_DESCRIPTION
    ds.StudyInstanceUID = derived_uid("try study", digest)
    ds.SeriesInstanceUID = derived_uid("try series", digest)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(derived_uid("try", digest))
    return ds


def _secondary_capture(source: Path, max_pixels: int) -> Dataset:
    """Convert a PNG or JPEG picture to a Secondary Capture (PS3.3 A.8.1)."""
    with Image.open(source, formats=_PICTURE_FORMATS) as opened:
        if opened.width * opened.height > max_pixels:
            raise BadInstance(f"{opened.width} x {opened.height} pixels are more than {max_pixels}")
        deep = opened.mode in _GREY_16
        upright = ImageOps.exif_transpose(opened)
        pixels = np.asarray(upright.convert("I" if deep else "L"))
    pixels = pixels.clip(0, 65535).astype("<u2") if deep else pixels.astype(np.uint8)
    bits = 16 if deep else 8
    data = pixels.tobytes()
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = SecondaryCaptureImageStorage
    ds.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    values: dict[str, Any] = {
        "Modality": "OT", "ConversionType": "WSD", "BodyPartExamined": "CHEST", "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2", "Rows": pixels.shape[0], "Columns": pixels.shape[1],
        "BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0,
        "PixelData": data + b"\0" * (len(data) % 2),
    }  # fmt: skip
    if not deep:  # the full range, instead of a window from percentiles
        values |= {"WindowCenter": "128", "WindowWidth": "256"}
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def _main(source: str, target: str, max_pixels: str, most_bytes: str) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (int(most_bytes),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT_SECONDS,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with attributes.tolerance():
            _instance(Path(source), int(max_pixels)).save_as(target, enforce_file_format=True)
    except UnidentifiedImageError:
        sys.stdout.write("the file is not a DICOM, PNG or JPEG picture\n")
    except MemoryError:
        sys.stdout.write("the picture needs more memory than a trial may take\n")
    except RecursionError:
        sys.stdout.write("the picture holds sequences nested too deeply to be read\n")
    except (BadInstance, Image.DecompressionBombError, OSError, *attributes.MALFORMED) as error:
        sys.stdout.write(f"the picture cannot be read: {' '.join(str(error).split())[:150]}\n")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:5]))
