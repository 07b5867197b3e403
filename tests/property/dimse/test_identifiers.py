"""The walk over a data set agrees with pydicom on what is right, and survives what is not."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.config import disable_value_validation
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from dicom_node import MODEL_NAME
from dicom_node.dimse.server.identifiers import (
    MAX_DEPTH,
    MAX_ELEMENTS,
    Identifiers,
    RefusedInstance,
    elements,
    read_identifiers,
    uid_of,
)
from dicom_node.dimse.status import Status

SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)
UIDS = Identifiers("1.2.840.10008.5.1.4.1.1.1", "1.2.3", "2.25.0", "1." + "2" * 62, own_result=False)

component = st.one_of(st.just("0"), st.integers(1, 10**12).map(str))
uids = st.lists(component, min_size=2, max_size=8).map(".".join).filter(lambda text: len(text) <= 64)


@st.composite
def data_sets(draw: st.DrawFn, depth: int = 3) -> Dataset:
    ds = Dataset()
    for tag, vr in draw(
        st.lists(
            st.tuples(st.integers(0x00090010, 0x00090040), st.sampled_from(["LO", "OB", "UN", "UT", "US"])),
            max_size=5,
        )
    ):
        value: object = draw(st.integers(0, 65535)) if vr == "US" else b"x" * draw(st.integers(0, 9)) * 2
        if vr in ("LO", "UT"):
            value = "text"
        ds[tag] = DataElement(tag, vr, value)
    if depth and draw(st.booleans()):
        items = draw(st.lists(data_sets(depth=depth - 1), max_size=3))
        for item in items:
            item.is_undefined_length_sequence_item = draw(st.booleans())
        element = DataElement(0x00081140, "SQ", Sequence(items))
        element.is_undefined_length = draw(st.booleans())
        ds[0x00081140] = element
    return ds


def encode(ds: Dataset, syntax: str) -> bytes:
    stream = DicomBytesIO()
    stream.is_little_endian = syntax != ExplicitVRBigEndian
    stream.is_implicit_VR = syntax == ImplicitVRLittleEndian
    with disable_value_validation():
        write_dataset(stream, ds)
    return bytes(stream.getvalue())


def film(ds: Dataset, identifiers: Identifiers = UIDS) -> Dataset:
    ds.SOPClassUID = identifiers.sop_class_uid
    ds.SOPInstanceUID = identifiers.sop_instance_uid
    ds.StudyInstanceUID = identifiers.study_instance_uid
    ds.SeriesInstanceUID = identifiers.series_instance_uid
    ds.ManufacturerModelName = MODEL_NAME if identifiers.own_result else "Another"
    ds.Rows = ds.Columns = 4
    ds[0x7FE00010] = DataElement(0x7FE00010, "OW", bytes(32))
    return ds


@given(data_sets(), st.builds(Identifiers, uids, uids, uids, uids, st.booleans()), st.sampled_from(SYNTAXES))
def test_what_pydicom_writes_is_read_as_it_is(ds: Dataset, identifiers: Identifiers, syntax: str) -> None:
    content = encode(film(ds, identifiers), syntax)
    for start in (0, 7):
        assert read_identifiers(bytes(start) + content, start, syntax) == identifiers
    tags = [tag for tag, _, _ in elements(content, 0, syntax)]
    assert tags == [int(element.tag) for element in ds]


@given(data_sets(), st.sampled_from(SYNTAXES), st.data())
def test_a_data_set_that_ends_early_is_never_taken(ds: Dataset, syntax: str, data: st.DataObject) -> None:
    content = encode(film(ds), syntax)
    missing = data.draw(st.integers(1, 39))  # with its header, the last element takes 40 at least
    with pytest.raises(RefusedInstance) as caught:
        read_identifiers(content[:-missing], 0, syntax)
    assert caught.value.status in (Status.TRUNCATED, Status.MISSING_UID)


@given(st.binary(max_size=2000), st.sampled_from(SYNTAXES))
def test_any_bytes_are_refused_with_a_reason(content: bytes, syntax: str) -> None:
    with pytest.raises(RefusedInstance) as caught:
        read_identifiers(content, 0, syntax)
    assert 0 < len(str(caught.value)) <= 64
    assert caught.value.status >> 8 == 0xC0


@given(data_sets(), st.sampled_from(SYNTAXES), st.data())
def test_any_byte_may_be_wrong(ds: Dataset, syntax: str, data: st.DataObject) -> None:
    content = bytearray(encode(film(ds), syntax))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        identifiers = read_identifiers(content, 0, syntax)
    except RefusedInstance:
        return
    assert all(uid_of(getattr(identifiers, name).encode()) for name in Identifiers.__slots__[:4])


@given(uids | st.sampled_from(["1.2.03.4", "01.2", "1.00", "1." + "0" * 62]))
def test_a_uid_is_read_with_either_padding(uid: str) -> None:
    for padding in (b"", b"\0", b" ", b"  ", b"\0\0"):
        assert uid_of(uid.encode() + padding) == uid


@pytest.mark.parametrize(
    "value",
    [
        *(
            b"",
            b"\0",
            b"1",
            b"1.",
            b".1",
            b"1..2",
            b"1.2\n",
            b"1.2a",
            b"1.2\\1.3",
        ),
        *(b"-1.2", b"1." + b"2" * 63, "1.\u0662".encode(), b" 1.2"),
    ],
)
def test_what_is_no_uid_is_not_taken_for_one(value: bytes) -> None:
    assert uid_of(value) == ""


def test_encapsulated_frames_are_stepped_over_and_their_delimiter_may_be_missing() -> None:
    ds = film(Dataset())
    del ds[0x7FE00010]
    head = encode(ds, ExplicitVRLittleEndian) + struct.pack("<HH2sHL", 0x7FE0, 0x10, b"OB", 0, 0xFFFFFFFF)
    items = struct.pack("<HHL", 0xFFFE, 0xE000, 0) + struct.pack("<HHL", 0xFFFE, 0xE000, 6) + b"frame!"
    end = struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    for content in (head + items + end, head + items, head + items + end + b"whatever follows"):
        assert read_identifiers(content, 0, ExplicitVRLittleEndian) == UIDS
    for cut in (1, 6, 7):
        with pytest.raises(RefusedInstance, match="ends inside"):
            read_identifiers((head + items)[:-cut], 0, ExplicitVRLittleEndian)


def test_a_sequence_within_an_unknown_value_is_implicit() -> None:
    """PS3.5 6.2.2: the content of a UN element of undefined length is implicit VR little endian."""
    inner = struct.pack("<HHL", 0x0009, 0x1001, 4) + b"text"
    item = struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + inner + struct.pack("<HHL", 0xFFFE, 0xE00D, 0)
    unknown = struct.pack("<HH2sHL", 0x0008, 0x0001, b"UN", 0, 0xFFFFFFFF) + item
    unknown += struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    content = unknown + encode(film(Dataset()), ExplicitVRLittleEndian)
    assert read_identifiers(content, 0, ExplicitVRLittleEndian) == UIDS


@pytest.mark.parametrize("depth", [MAX_DEPTH, 100_000])
def test_nesting_has_an_end(depth: int) -> None:
    opening = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    opening += struct.pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(RefusedInstance, match="nested deeper"):
        read_identifiers(opening * depth, 0, ExplicitVRLittleEndian)


def in_items(content: bytes, levels: int, syntax: str) -> bytes:
    """Content of an item, in sequences and items of defined length."""
    vr = b"" if syntax == ImplicitVRLittleEndian else b"SQ\0\0"
    for _ in range(levels):
        content = struct.pack("<HHL", 0xFFFE, 0xE000, len(content)) + content
        content = struct.pack("<HH", 0x0008, 0x1140) + vr + struct.pack("<L", len(content)) + content
    return content


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_nesting_of_defined_length_has_an_end(syntax: str) -> None:
    end = encode(film(Dataset()), syntax)
    assert read_identifiers(in_items(b"", MAX_DEPTH // 2, syntax) + end, 0, syntax) == UIDS
    with pytest.raises(RefusedInstance, match="nested deeper"):
        read_identifiers(in_items(b"", MAX_DEPTH // 2 + 1, syntax) + end, 0, syntax)


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_elements_of_items_of_defined_length_are_counted(syntax: str) -> None:
    vr = struct.pack("<L", 0) if syntax == ImplicitVRLittleEndian else b"LO\0\0"
    content = in_items((struct.pack("<HH", 0x0009, 0x1001) + vr) * MAX_ELEMENTS, 1, syntax)
    with pytest.raises(RefusedInstance, match="more than"):
        read_identifiers(content, 0, syntax)


def test_a_sequence_of_defined_length_that_contradicts_itself_ends_where_it_says() -> None:
    broken = in_items(b"no data set at all", 2, ExplicitVRLittleEndian)
    content = broken + encode(film(Dataset()), ExplicitVRLittleEndian)
    assert read_identifiers(content, 0, ExplicitVRLittleEndian) == UIDS


def test_an_element_without_a_vr_has_the_length_that_pydicom_reads() -> None:
    """Otherwise a length of two bytes would hide the elements that follow from the limits."""
    opening = struct.pack("<HHL", 0x0008, 0x1140, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    closing = struct.pack("<HHL", 0xFFFE, 0xE00D, 0) + struct.pack("<HHL", 0xFFFE, 0xE0DD, 0)
    content = opening + closing + encode(film(Dataset()), ExplicitVRLittleEndian)
    assert read_identifiers(content, 0, ExplicitVRLittleEndian) == UIDS
    with pytest.raises(RefusedInstance, match="nested deeper"):
        read_identifiers(opening * MAX_DEPTH + closing * MAX_DEPTH, 0, ExplicitVRLittleEndian)


@pytest.mark.parametrize(
    ("found", "told", "sentence"),
    [
        (ExplicitVRLittleEndian, ImplicitVRLittleEndian, "explicit VR in a transfer syntax of implicit VR"),
        (ImplicitVRLittleEndian, ExplicitVRLittleEndian, "implicit VR in a transfer syntax of explicit VR"),
    ],
)
def test_a_data_set_in_another_kind_of_syntax_is_refused(found: UID, told: UID, sentence: str) -> None:
    with pytest.raises(RefusedInstance, match=sentence):
        read_identifiers(encode(film(Dataset()), found), 0, told)


def test_the_number_of_elements_has_an_end() -> None:
    content = struct.pack("<HH2sH", 0x0009, 0x1001, b"LO", 0) * (20 * MAX_ELEMENTS)
    begun = time.perf_counter()
    with pytest.raises(RefusedInstance, match="more than"):
        read_identifiers(content, 0, ExplicitVRLittleEndian)
    assert time.perf_counter() - begun < 10


def test_an_identifier_that_stands_twice_is_refused() -> None:
    content = encode(film(Dataset()), ExplicitVRLittleEndian)
    with pytest.raises(RefusedInstance, match="stands twice"):
        read_identifiers(content[:34] + content, 0, ExplicitVRLittleEndian)


@given(
    st.sampled_from([0x00080016, 0x00080018, 0x0020000D, 0x0020000E]),
    st.sampled_from(["US", "FL", "AT", "LO", "CS", "DS"]),
    st.sampled_from([ExplicitVRLittleEndian, ExplicitVRBigEndian]),
)
def test_an_identifier_of_another_vr_is_refused(tag: int, vr: str, syntax: str) -> None:
    """A reader that goes by the VR, such as pydicom, finds no UID in it."""
    content = encode(film(Dataset()), syntax)
    order = "<" if syntax == ExplicitVRLittleEndian else ">"
    header = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    assert content.count(header + b"UI") == 1
    with pytest.raises(RefusedInstance, match="has another VR than UI") as caught:
        read_identifiers(content.replace(header + b"UI", header + vr.encode()), 0, syntax)
    assert caught.value.status is Status.INVALID_UID
