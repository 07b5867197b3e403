"""Conversion of Open-i films to DICOM, each with the header of its original.

The collection is distributed as images, with a table of the original headers. Oddities of the headers are
kept: polarity, number of bits, missing windows, views and body parts.
"""

from __future__ import annotations

import ast
import csv
import gzip
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node.imaging.attributes import tolerance
from dicom_node.results.encoding.part10 import put, with_file_meta

HEADERS_FILE = "nlmcxr_dicom_metadata.csv.gz"

# Columns of the table whose name without spaces is not the keyword of the attribute.
_RENAMED = {
    "Patient's Name": "PatientName",
    "Patient's Birth Date": "PatientBirthDate",
    "Patient's Sex": "PatientSex",
    "Focal Spot(s)": "FocalSpots",
    "Window Center & Width Explanation": "WindowCenterWidthExplanation",
}
# Attributes that are set from the image, or that belong to a sequence that the table flattened.
_SKIPPED = frozenset(
    {"Rows", "Columns", "LUTDescriptor", "LUTExplanation", "CodeValue", "CodeMeaning", "PixelData"}
    | {"CodingSchemeDesignator", "ContextIdentifier", "ContextGroupVersion", "MappingResource"}
    | {"SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation"}
)
_TEXT_VRS = frozenset(
    {"AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UI", "UT"}
)
NO_HEADER = {
    "Rows": "256",
    "Columns": "256",
    "Bits Stored": "8",
    "Photometric Interpretation": "MONOCHROME2",
    "Modality": "CR",
    "SOP Class UID": "1.2.840.10008.5.1.4.1.1.1",
}
"""Header of a film without a row in the table: Computed Radiography with the required attributes only."""


def read_headers(path: Path) -> dict[str, dict[str, str]]:
    """Read the original headers: film name, such as ``1000_IM-0003-2001`` -> column -> value.

    Raises
    ------
    OSError
        If the table cannot be read.
    """
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        return {row["imageid"].removeprefix("CXR"): row for row in csv.DictReader(stream)}


def to_dicom(row: Mapping[str, str], grey: NDArray[np.uint8], **elements: Any) -> Dataset:
    """Make a DICOM data set of an image with the original header.

    The stored values are chosen so that a viewer that applies the header shows the image.

    Parameters
    ----------
    row
        Row of :func:`read_headers`, or :data:`NO_HEADER`.
    grey
        Image, shape (rows, columns), lungs dark.
    elements
        Further elements by keyword, set last and unchecked; None deletes the element. A row without a SOP
        Instance UID needs one.

    Returns
    -------
    pydicom.dataset.Dataset
        Data set with file meta information, Explicit VR Little Endian.
    """
    bits = int(float(row["Bits Stored"]))
    ds = Dataset()
    with tolerance():
        put(
            ds,
            SOPClassUID=row["SOP Class UID"],
            SamplesPerPixel=1,
            PhotometricInterpretation=row["Photometric Interpretation"],
            Rows=grey.shape[0],
            Columns=grey.shape[1],
            BitsAllocated=16,
            BitsStored=bits,
            HighBit=bits - 1,
            PixelRepresentation=0,
        )
        put(ds, **_original(row))
        for keyword, value in elements.items():
            if value is None:
                ds.pop(keyword, None)
            else:
                put(ds, **{keyword: value})
        stored = _stored(row, grey, bits).astype("<u2").tobytes()
        ds[Tag(0x7FE00010)] = DataElement(0x7FE00010, "OW", stored)
        return with_file_meta(ds)


def _stored(row: Mapping[str, str], grey: NDArray[np.uint8], bits: int) -> NDArray[np.floating]:
    """Return stored values that the header's window and polarity map to the image."""
    image = grey / 255.0
    shown = 1 - image if row["Photometric Interpretation"] == "MONOCHROME1" else image
    stored = shown * (2**bits - 1)
    if row.get("Window Center") and row.get("Window Width"):
        center, width = (float(_first(row[name])) for name in ("Window Center", "Window Width"))
        slope = float(row.get("Rescale Slope") or 1)
        # A window shows black at center - 0.5 - (width - 1) / 2 and white at center - 0.5 + (width - 1) / 2
        # (PS3.3 C.11.2.1.2).
        stored = (
            shown * (width - 1) + center - 0.5 - (width - 1) / 2 - float(row.get("Rescale Intercept") or 0)
        ) / slope
    clipped: NDArray[np.floating] = np.clip(np.round(stored), 0, 2**bits - 1)
    return clipped


def _original(row: Mapping[str, str]) -> dict[str, Any]:
    elements: dict[str, Any] = {}
    for name, text in row.items():
        keyword = _RENAMED.get(name) or "".join(
            word[0].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", name) if word
        )
        tag = tag_for_keyword(keyword)
        if text == "" or tag is None or keyword in _SKIPPED or dictionary_VR(tag) not in _TEXT_VRS:
            continue
        elements[keyword] = [str(part) for part in ast.literal_eval(text)] if text.startswith("[") else text
    return elements


def _first(text: str) -> str:
    return str(ast.literal_eval(text)[0]) if text.startswith("[") else text


def read_grey(path: Path) -> NDArray[np.uint8]:
    """Return the pixels of an image file in grayscale, shape (rows, columns)."""
    with Image.open(path) as image:
        return np.asarray(image.convert("L"))


def restore_aspect_ratio(
    row: Mapping[str, str], grey: NDArray[np.uint8], longer_side: int
) -> NDArray[np.uint8]:
    """Stretch an image to the aspect ratio of its original.

    Parameters
    ----------
    row
        Row of :func:`read_headers`.
    grey
        Image, shape (rows, columns).
    longer_side
        Longer side of the returned image, in pixels.
    """
    rows, columns = int(float(row["Rows"])), int(float(row["Columns"]))
    scale = longer_side / max(rows, columns)
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    return np.asarray(Image.fromarray(grey).resize(size, Image.Resampling.BILINEAR))
