"""A film that somebody tries out -> a DICOM instance of a study of its own.

PNG, JPEG and DICOM alike. Decoders are foreign code on foreign bytes, so this runs as a program of its own
under limits: ``python -m dicom_node.web.media.trial_films SOURCE TARGET MAX_PIXELS``. What it cannot use it
says in one line and ends with 1.
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

DESCRIPTION: Final = "Tried in the reading room"
"""Study Description of what was tried."""
SECONDS: Final = 30
_BYTES = 4 * 2**30
_TAKEN = ("PNG", "JPEG")
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


def as_instance(source: Path, target: Path, max_pixels: int) -> None:
    """Write a film that is tried out as a DICOM file; the same film gives the same file.

    Raises
    ------
    BadInstance
        With one sentence for whoever tried.
    """
    program = [sys.executable, "-m", "dicom_node.web.media.trial_films"]
    command = [*program, str(source), str(target), str(max_pixels)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BadInstance("the picture took too long to read") from None
    if done.returncode:
        raise BadInstance(done.stdout.strip()[:200] or "the picture cannot be read")


def _instance(source: Path, max_pixels: int) -> Dataset:
    content = source.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    ds = dcmread(source) if content[128:132] == b"DICM" else _captured(source, max_pixels)
    for keyword in _IDENTIFYING:
        if keyword in ds:
            del ds[keyword]
    ds.remove_private_tags()
    ds.PatientName, ds.PatientID = "Tried^Film", f"try-{digest[:12]}"
    ds.StudyDescription = DESCRIPTION
    ds.StudyInstanceUID = derived_uid("try study", digest)
    ds.SeriesInstanceUID = derived_uid("try series", digest)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(derived_uid("try", digest))
    return ds


def _captured(source: Path, max_pixels: int) -> Dataset:
    """Put a picture into a Secondary Capture (PS3.3 A.8.1)."""
    with Image.open(source, formats=_TAKEN) as opened:
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
    if not deep:  # all of its greys, not those between its percentiles
        values |= {"WindowCenter": "128", "WindowWidth": "256"}
    for keyword, value in values.items():
        setattr(ds, keyword, value)
    return ds


def _main(source: str, target: str, max_pixels: str) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
    try:
        with attributes.tolerance():
            _instance(Path(source), int(max_pixels)).save_as(target, enforce_file_format=True)
    except UnidentifiedImageError:
        sys.stdout.write("the file is no DICOM, PNG or JPEG picture\n")
    except (BadInstance, MemoryError, OSError, *attributes.MALFORMED) as error:
        sys.stdout.write(f"the picture cannot be read: {' '.join(str(error).split())[:150]}\n")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:4]))
