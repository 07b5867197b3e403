"""Films without a DICOM header: image files and arrays, written as DICOM so that a study reader reads them.

What the header does not say stays empty. Study, series and instance get UIDs that follow from name and
content, so the same film is the same study again, wherever it lies.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_node.errors import BadInstance, NodeError
from dicom_node.results.encoding.part10 import dataset, encoded, put, with_file_meta
from dicom_node.results.uids import derived_uid

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from pydicom.dataset import Dataset

_WHITE: Final = 65535
"""Stored value of white: 16 bits, so that an array loses less than 1/65535."""


def image_uid(path: Path) -> str:
    """Return the Study Instance UID of the film of an image file, which follows from its name and content.

    Raises
    ------
    NodeError
        If the file cannot be read.
    """
    try:
        content = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise NodeError(f"film {path} cannot be read: {error.strerror}") from error
    return derived_uid("image", path.name, content)


def array_uid(pixels: NDArray[Any], name: str) -> str:
    """Return the Study Instance UID of a film that is an array, which follows from its name and content."""
    film = np.ascontiguousarray(pixels)
    return derived_uid("array", name, *film.shape, hashlib.sha256(film.tobytes()).hexdigest())


def check_film(pixels: NDArray[Any], name: str) -> None:
    """Check that an array is a film: numbers in [0, 1], shape (rows, columns).

    Raises
    ------
    BadInstance
        If it has another shape or range, or holds a value that is not finite.
    """
    film = np.asarray(pixels)
    if film.ndim != 2 or 0 in film.shape or film.dtype.kind not in "fiub":
        raise BadInstance(
            f"{name}: an array of {film.dtype} {film.shape}; give numbers of shape (rows, columns)"
        )
    # NaN fails both comparisons.
    if not (float(film.min()) >= 0 and float(film.max()) <= 1):
        raise BadInstance(
            f"{name}: values from {film.min()} to {film.max()}; divide them so that they lie in [0, 1], "
            "lungs dark"
        )


def array_film(pixels: NDArray[Any], study_instance_uid: str) -> Dataset:
    """Return a film as a DICOM data set: Secondary Capture, MONOCHROME2, Explicit VR Little Endian.

    Parameters
    ----------
    pixels
        Film, as :func:`check_film` accepts it.
    study_instance_uid
        UID of its study, from which those of series and instance follow.
    """
    stored = np.round(np.asarray(pixels, np.float64) * _WHITE).astype("<u2")
    study = study_instance_uid
    ds = dataset(
        SOPClassUID=SecondaryCaptureImageStorage,
        SOPInstanceUID=derived_uid(study, "instance"),
        StudyInstanceUID=study,
        SeriesInstanceUID=derived_uid(study, "series"),
        Modality="CR",
        ConversionType="WSD",
        PatientName="",
        PatientID="",
        PatientBirthDate="",
        PatientSex="",
        StudyDate="",
        StudyTime="",
        StudyID="",
        AccessionNumber="",
        ReferringPhysicianName="",
        SeriesNumber="1",
        InstanceNumber="1",
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        Rows=stored.shape[0],
        Columns=stored.shape[1],
        BitsAllocated=16,
        BitsStored=16,
        HighBit=15,
        PixelRepresentation=0,
        # Greys as they are: value / 65535 (PS3.3 C.11.2.1.3.2).
        WindowCenter=str(_WHITE / 2),
        WindowWidth=str(_WHITE),
        VOILUTFunction="LINEAR_EXACT",
    )
    put(ds, PixelData=stored.tobytes())
    ds["PixelData"].VR = "OW"
    return with_file_meta(ds)


def write_film(ds: Dataset, folder: Path) -> Path:
    """Write a film into a folder as a Part 10 file named by its SOP Instance UID, and return the file."""
    path = folder / f"{ds.SOPInstanceUID}.dcm"
    path.write_bytes(encoded(ds))
    return path
