"""What the Storage SCP negotiates: the one home of accepted SOP classes and transfer syntaxes.

Everything else is refused in the presentation context, which is the outcome the peer sees: a Structured
Report is "abstract syntax not supported" (result 3), a deflated film "transfer syntaxes not supported"
(result 4; PS3.8 table 9-18). Our own saliency images are Secondary Captures and so are accepted and
stored; the selection of films sets them aside with a reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version

from pydicom.uid import (
    HTJ2K,
    JPEG2000,
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
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
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    Verification,
)

IMPLEMENTATION_CLASS_UID = UID("2.25.182061352263117467330318443276325401967")
"""Names this implementation in associations and file meta information (PS3.7 D.3.3.2)."""
IMPLEMENTATION_VERSION_NAME = f"DICOMNODE_{version('dicom-node')}"[:16]

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)

TRANSFER_SYNTAXES: tuple[UID, ...] = (
    *UNCOMPRESSED,
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
"""In the order of preference within one context, so that a peer that offers several is never made to lose
detail. Deflated syntaxes are absent: what they inflate to is not bounded."""

FILM_SOP_CLASSES: tuple[UID, ...] = (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    SecondaryCaptureImageStorage,
    MultiFrameGrayscaleByteSecondaryCaptureImageStorage,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
    MultiFrameTrueColorSecondaryCaptureImageStorage,
)
"""Objects that can hold a chest radiograph (single-bit Secondary Capture cannot)."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """One row of the conformance statement's table of presentation contexts (PS3.2 annex A).

    Attributes
    ----------
    sop_class
        Abstract syntax.
    transfer_syntaxes
        In order of preference.
    peer_is_scp
        Whether the peer that opens the association is the SCP of the service, and may say so by role
        selection (PS3.7 D.3.3.4).
    """

    sop_class: UID
    transfer_syntaxes: tuple[UID, ...]
    peer_is_scp: bool = False


ACCEPTED: tuple[Accepted, ...] = (
    Accepted(Verification, UNCOMPRESSED),
    *(Accepted(sop_class, TRANSFER_SYNTAXES) for sop_class in FILM_SOP_CLASSES),
    # For the answers to our own requests; we promise nobody to keep anything.
    Accepted(StorageCommitmentPushModel, UNCOMPRESSED, peer_is_scp=True),
)


def presentation_contexts() -> list[PresentationContext]:
    """Return what the SCP supports, as pynetdicom wants it."""
    built = [build_context(row.sop_class, list(row.transfer_syntaxes)) for row in ACCEPTED]
    for row, context in zip(ACCEPTED, built, strict=True):
        if row.peer_is_scp:
            # Both: some archives answer without role selection, and an association without it must open too.
            context.scu_role = context.scp_role = True
    return built


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield the accepted contexts for printing.

    Yields
    ------
    tuple of str
        SOP class name, SOP class UID, transfer syntax name, transfer syntax UID.
    """
    for row in ACCEPTED:
        for syntax in row.transfer_syntaxes:
            yield row.sop_class.name, str(row.sop_class), syntax.name, str(syntax)
