"""Transfer syntaxes that the node accepts and decodes (PS3.5 annex A)."""

from __future__ import annotations

from typing import Final

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

TRANSFER_SYNTAXES: Final[tuple[UID, ...]] = (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGLosslessSV1,
    JPEGLossless,
    JPEGLSLossless,
    JPEG2000Lossless,
    HTJ2KLossless,
    HTJ2KLosslessRPCL,
    RLELossless,
    ExplicitVRBigEndian,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLSNearLossless,
    JPEG2000,
    HTJ2K,
)
"""Transfer syntaxes that are accepted and decoded, in the order of preference within one presentation
context: lossy ones come last, so that a peer that offers several is never made to lose detail."""

NATIVE: Final = frozenset({ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian})
"""Transfer syntaxes without compression."""

ENCAPSULATED: Final = frozenset(TRANSFER_SYNTAXES) - NATIVE
"""Transfer syntaxes with compressed pixel data (PS3.5 A.4)."""

DEFLATED: Final = frozenset(
    {DeflatedExplicitVRLittleEndian, UID("1.2.840.10008.1.2.4.95"), UID("1.2.840.10008.1.2.4.205")}
)
"""Transfer syntaxes that are refused and never parsed: 300 KiB of deflated data may hold gigabytes, and
pydicom inflates all of it at once."""

SEQUENTIAL_DCT = frozenset({JPEGBaseline8Bit, JPEGExtended12Bit})
"""Transfer syntaxes of JPEG whose scans hold all coefficients at once (processes 1, 2 and 4)."""
