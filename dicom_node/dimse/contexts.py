"""Presentation contexts that the SCP accepts: SOP classes, transfer syntaxes and roles.

Everything else is refused in its presentation context, which is the result that the peer sees: a Structured
Report is "abstract syntax not supported" (result 3), a deflated film "transfer syntaxes not supported"
(result 4; PS3.8 table 9-18). The node's own saliency images are Secondary Captures, so they are accepted and
stored; :mod:`dicom_node.imaging.selection` then excludes them from analysis, with a reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom.presentation import PresentationContext, build_context
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    StorageCommitmentPushModel,
    Verification,
)

from dicom_node.imaging.radiographs import ACCEPTED_SOP_CLASSES
from dicom_node.imaging.transfer_syntaxes import TRANSFER_SYNTAXES

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)
"""Transfer syntaxes of services that carry no pixels, in order of preference."""


@dataclass(frozen=True, slots=True)
class AcceptedContext:
    """Accepted SOP class: a row of the conformance statement's table of contexts (PS3.2 annex A).

    Attributes
    ----------
    sop_class
        Abstract syntax.
    transfer_syntaxes
        Transfer syntaxes in order of preference.
    peer_is_scp
        Whether the peer that opens the association is the SCP of the service, and may say so by role
        selection (PS3.7 D.3.3.4).
    """

    sop_class: UID
    transfer_syntaxes: tuple[UID, ...]
    peer_is_scp: bool = False


ACCEPTED_CONTEXTS: tuple[AcceptedContext, ...] = (
    AcceptedContext(Verification, UNCOMPRESSED),
    *(AcceptedContext(sop_class, TRANSFER_SYNTAXES) for sop_class in ACCEPTED_SOP_CLASSES),
    # For the answers to the node's own requests; the node itself commits to nothing.
    AcceptedContext(StorageCommitmentPushModel, UNCOMPRESSED, peer_is_scp=True),
)
"""All accepted contexts, in the order of the conformance statement."""


def presentation_contexts() -> list[PresentationContext]:
    """Return the accepted contexts as pynetdicom needs them."""
    built = [build_context(row.sop_class, list(row.transfer_syntaxes)) for row in ACCEPTED_CONTEXTS]
    for row, context in zip(ACCEPTED_CONTEXTS, built, strict=True):
        if row.peer_is_scp:
            # Both: some archives answer without role selection, and an association without it must open too.
            context.scu_role = context.scp_role = True
    return built


def context_rows() -> Iterator[tuple[str, str, str, str]]:
    """Yield the accepted contexts, one row for each transfer syntax.

    Yields
    ------
    tuple of str
        SOP class name, SOP class UID, transfer syntax name, transfer syntax UID.
    """
    for row in ACCEPTED_CONTEXTS:
        for syntax in row.transfer_syntaxes:
            yield row.sop_class.name, str(row.sop_class), syntax.name, str(syntax)
