"""Pixel history of a source image: annotation burned into it, and compression with loss (PS3.3 C.7.6.1)."""

from __future__ import annotations

from typing import Final

from pydicom.dataset import Dataset
from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
)

from dicom_node.imaging import attributes, value_representations

_METHODS: Final[dict[UID, str]] = {
    JPEGBaseline8Bit: "ISO_10918_1",
    JPEGExtended12Bit: "ISO_10918_1",
    JPEGLSNearLossless: "ISO_14495_1",
    JPEG2000: "ISO_15444_1",
    HTJ2K: "ISO_15444_15",
}
"""Transfer syntaxes that lose detail, or may, and the method of each (PS3.3 C.7.6.1.1.5.1)."""


def burned_in_annotation(*sources: Dataset) -> str:
    """Burned In Annotation of a picture that repeats the pixels of sources: ``YES`` when one says so."""
    stated = {attributes.text(source, "BurnedInAnnotation").upper() for source in sources}
    return "YES" if "YES" in stated else "NO"


def lossy_compression(source: Dataset) -> dict[str, str]:
    """Lossy Image Compression attributes of an image that is derived from a source; none without loss.

    Pixels that lost detail once have lost it for good, whatever they are stored in later. The source says
    so itself, or its transfer syntax does: many writers of JPEG Baseline leave the attribute out. The ratio
    is written only where the source tells it.
    """
    meta = getattr(source, "file_meta", None)
    syntax = UID(attributes.text(meta, "TransferSyntaxUID")) if meta is not None else UID("")
    stated = attributes.text(source, "LossyImageCompression")
    # JPEG 2000 may be reversible in either syntax; a source that says it lost nothing is believed there.
    reversible = syntax in (JPEG2000, HTJ2K) and stated == "00"
    if stated != "01" and (syntax not in _METHODS or reversible):
        return {}
    found = {"LossyImageCompression": "01"}
    method = value_representations.code_string(attributes.text(source, "LossyImageCompressionMethod"))
    if method := method or _METHODS.get(syntax, ""):
        found["LossyImageCompressionMethod"] = method
    ratios = attributes.numbers(source, "LossyImageCompressionRatio")
    if ratios and ratios[0] >= 1:
        found["LossyImageCompressionRatio"] = f"{ratios[0]:.6g}"
    return found
