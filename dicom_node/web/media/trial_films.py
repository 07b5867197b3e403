"""Trial films: conversion of a PNG, JPEG or DICOM file to a DICOM instance of a trial study.

The decoders work on files from outside, so the conversion runs as a separate program with limits:
``python -m dicom_node.web.media.trial_films SOURCE TARGET MAX_PIXELS BYTES STUDY``. It prints the reason of a
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
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from dicom_node.errors import BadInstance
from dicom_node.imaging import attributes
from dicom_node.results.uids import IMPLEMENTATION_CLASS_UID, derived_uid
from dicom_node.web.media.pictures import is_dicom, is_picture, read_grey, refusal
from dicom_node.web.media.uploaded_file import check_dicom

TRIAL_DESCRIPTION: Final = "Tried in the reading room"
"""Study Description of trial films."""
PICTURE_DESCRIPTION: Final = "Picture added in the reading room"
"""Study Description of pictures that were added to the node in place of DICOM files."""
TIMEOUT_SECONDS: Final = 30
HEAD_BYTES: Final = 132
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


def convert_to_dicom(
    source: Path, target: Path, *, max_pixels: int, most_bytes: int, study: str = "", trial: bool = True
) -> None:
    """Convert a film to a DICOM file; the same film in the same study always gives the same file.

    Parameters
    ----------
    max_pixels
        Most pixels of a picture.
    most_bytes
        Address space of the program, in bytes.
    study
        Name of the study that the film belongs to; empty for a study of its own.
    trial
        False for a picture that is added to the node as any film.

    Raises
    ------
    BadInstance
        When the file cannot be converted; the text is one sentence for the reader.
    """
    program = [sys.executable, "-m", "dicom_node.web.media.trial_films"]
    limits = [str(max_pixels), str(most_bytes)]
    command = [*program, str(source), str(target), *limits, study, "trial" if trial else "picture"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise BadInstance("the picture took too long to read") from None
    if done.returncode:
        raise BadInstance(done.stdout.strip()[:200] or "the picture cannot be read")


def _instance(source: Path, max_pixels: int, study: str, kind: str) -> Dataset:
    with source.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
        stream.seek(0)
        head = stream.read(HEAD_BYTES)
    if is_dicom(head):
        check_dicom(source)
        ds: Dataset = dcmread(source)
        if "PixelData" not in ds:
            raise BadInstance("the DICOM file holds no picture")
    elif is_picture(head):
        ds = _secondary_capture(read_grey(source, max_pixels))
    else:
        raise BadInstance(refusal(head))
    for keyword in _IDENTIFYING:
        if keyword in ds:
            del ds[keyword]
    ds.remove_private_tags()
    prefix, name, description = {
        "trial": ("try", "Tried^Film", TRIAL_DESCRIPTION),
        "picture": ("picture", "Added^Picture", PICTURE_DESCRIPTION),
    }[kind]
    group = hashlib.sha256(study.encode()).hexdigest() if study else digest
    instance = (digest, group) if study else (digest,)
    ds.PatientName, ds.PatientID = name, f"{prefix}-{group[:12]}"
    ds.StudyDescription = description
    ds.StudyInstanceUID = derived_uid(f"{prefix} study", group)
    ds.SeriesInstanceUID = derived_uid(f"{prefix} series", *instance)
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = UID(derived_uid(prefix, *instance))
    return ds


def _secondary_capture(pixels: NDArray[Any]) -> Dataset:
    """Convert a grey picture to a Secondary Capture (PS3.3 A.8.1)."""
    deep = pixels.dtype != np.uint8
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


def _main(source: str, target: str, max_pixels: str, most_bytes: str, study: str, kind: str) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (int(most_bytes),) * 2)
    resource.setrlimit(resource.RLIMIT_CPU, (TIMEOUT_SECONDS,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        with attributes.tolerance():
            ds = _instance(Path(source), int(max_pixels), study, kind)
            ds.save_as(target, enforce_file_format=True)
    except MemoryError:
        sys.stdout.write("the picture needs more memory than a trial may take\n")
    except RecursionError:
        sys.stdout.write("the picture holds sequences nested too deeply to be read\n")
    except BadInstance as error:
        sys.stdout.write(f"{' '.join(str(error).split())}\n")
    except (OSError, *attributes.MALFORMED) as error:
        sys.stdout.write(f"the picture cannot be read: {' '.join(str(error).split())[:150]}\n")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(_main(*sys.argv[1:7]))
