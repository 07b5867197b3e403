"""Negotiated presentation contexts, and their rows in the conformance statement."""

from __future__ import annotations

import pytest
from pydicom import uid
from pydicom.uid import UID

from dicom_node.dimse import contexts, implementation
from dicom_node.dimse.contexts import ACCEPTED_CONTEXTS
from dicom_node.imaging.radiographs import ACCEPTED_SOP_CLASSES
from dicom_node.imaging.transfer_syntaxes import TRANSFER_SYNTAXES


def test_no_accepted_syntax_inflates_without_bound() -> None:
    deflated = {
        syntax for row in ACCEPTED_CONTEXTS for syntax in row.transfer_syntaxes if "Deflat" in syntax.name
    }
    assert deflated == set()
    assert uid.DeflatedExplicitVRLittleEndian not in TRANSFER_SYNTAXES


def test_uncompressed_is_preferred_and_lossy_comes_last() -> None:
    lossy = [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit, uid.JPEGLSNearLossless, uid.JPEG2000, uid.HTJ2K]
    assert list(TRANSFER_SYNTAXES[-5:]) == lossy
    assert TRANSFER_SYNTAXES[:2] == (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian)


def test_every_row_is_known_to_the_standard_and_stands_once() -> None:
    rows = list(contexts.context_rows())
    assert len({(row[1], row[3]) for row in rows}) == len(rows)
    for sop_class, sop_class_uid, syntax, syntax_uid in rows:
        assert (sop_class, syntax) == (UID(sop_class_uid).name, UID(syntax_uid).name)
        assert sop_class != sop_class_uid
        assert UID(syntax_uid).is_transfer_syntax


def test_reports_and_other_modalities_are_not_negotiated() -> None:
    names = [name.name for name in ACCEPTED_SOP_CLASSES]
    assert all("X-Ray" in name or "Radiography" in name or "Secondary Capture" in name for name in names)


def test_pynetdicom_gets_the_same_table() -> None:
    built = contexts.presentation_contexts()
    assert [(cx.abstract_syntax, tuple(cx.transfer_syntax)) for cx in built] == [
        (row.sop_class, row.transfer_syntaxes) for row in ACCEPTED_CONTEXTS
    ]


@pytest.mark.parametrize("length", [len(implementation.IMPLEMENTATION_VERSION_NAME)])
def test_the_implementation_has_a_name(length: int) -> None:
    assert 1 <= length <= 16
    assert implementation.IMPLEMENTATION_CLASS_UID.is_valid
