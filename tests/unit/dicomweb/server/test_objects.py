"""Headers as DICOM JSON: strict JSON whatever a device wrote, and in searches only values of their VR."""

from __future__ import annotations

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRBigEndian

from dicom_node.dicomweb.server.objects import (
    StoredObject,
    element_values,
    first_value,
    header_elements,
    read_metadata,
    tag_of,
)
from tests.support.factories import NATIVE, encoded, film, put, write

FILM = encoded(film(rows=8, columns=8, InstanceNumber=None))
NUMBERS = {"WindowCenter": "DS", "InstanceNumber": "IS", "NumberOfFrames": "IS", "RescaleSlope": "DS"}
TEXTS = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=16) | st.sampled_from(
    ["NaN", "nan", "Infinity", "-inf", "1e400", "1E9999", "2048,5", "1\\NaN", "", "1.5", "999999999999"]
)


def with_elements(content: bytes, elements: dict[str, tuple[str, bytes]]) -> bytes:
    """File with elements of any bytes at the beginning of its data set."""
    start = content.index(b"\x08\x00\x05\x00CS")
    parts = []
    for keyword, (vr, value) in elements.items():
        tag = int(tag_of(keyword), 16)
        padded = value + b" " * (len(value) % 2)
        parts.append(struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, vr.encode(), len(padded)) + padded)
    return content[:start] + b"".join(parts) + content[start:]


def stored(path: Path) -> StoredObject:
    return StoredObject(1, "1.2", "1.2.3", "1.2.840.10008.5.1.4.1.1.1", "film", path, "0", "1.2.4")


def strict(content: Any) -> Any:
    """Parse as a browser does: NaN and Infinity are no JSON."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(json.dumps(content), parse_constant=refuse)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("films") / "film.dcm"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.dictionaries(st.sampled_from(sorted(NUMBERS)), TEXTS),
    st.lists(st.floats(width=64), max_size=3),
    st.lists(st.floats(width=32), max_size=3),
)
def test_any_number_makes_strict_json(
    path: Path, texts: dict[str, str], doubles: list[float], floats: list[float]
) -> None:
    elements = {keyword: (NUMBERS[keyword], text.encode()) for keyword, text in texts.items()}
    elements["EventTimeOffset"] = "FD", struct.pack(f"<{len(doubles)}d", *doubles)
    elements["RecommendedDisplayFrameRateInFloat"] = "FL", struct.pack(f"<{len(floats)}f", *floats)
    path.write_bytes(with_elements(FILM, elements))
    metadata, header = read_metadata(stored(path), "/bulk"), header_elements(path, None)
    strict(metadata)
    strict(header)
    for keyword, text in texts.items():
        assert tag_of(keyword) in metadata, text
        assert all(isinstance(value, int | float) for value in element_values(header, keyword))


@pytest.mark.parametrize(
    ("keyword", "text", "answered", "kept"),
    [
        ("StudyDate", "2026.01.02", "20260102", "2026.01.02"),
        ("StudyDate", "20261345", "", "20261345"),
        ("StudyDate", "20260102101530", "20260102", "20260102101530"),
        ("StudyTime", "99:99", "", "99:99"),
        ("StudyTime", "10:15:30", "101530", "10:15:30"),
        ("StudyTime", "000000", "000000", "000000"),
        ("AcquisitionDateTime", "20260102101530.5+0100", "20260102101530.5+0100", "20260102101530.5+0100"),
        ("AcquisitionDateTime", "2026.01.02", "", "2026.01.02"),
        ("InstanceNumber", "seven", "", "seven"),
        ("WindowCenter", "2048,5", "", "2048,5"),
        ("WindowCenter", "NaN", "", "NaN"),
    ],
)
def test_a_search_answers_what_its_vr_allows_and_metadata_what_is_there(
    path: Path, keyword: str, text: str, answered: str, kept: str
) -> None:
    write(film(rows=8, columns=8, **{keyword: text}), path)
    assert first_value(header_elements(path, None), keyword) == answered
    assert first_value(read_metadata(stored(path), ""), keyword) == kept


def test_a_name_without_alphabetic_group_is_answered(path: Path) -> None:
    write(film(rows=8, columns=8, character_set="ISO_IR 192", patient_name="=山田^太郎"), path)
    (name,) = header_elements(path, None)[tag_of("PatientName")]["Value"]
    assert name["Ideographic"] == "山田^太郎"


@pytest.mark.parametrize("syntax", NATIVE)
@pytest.mark.parametrize("entries", [8, 4096])
def test_the_table_of_an_item_is_in_the_metadata_in_little_endian(
    tmp_path: Path, syntax: str, entries: int
) -> None:
    table = np.arange(entries)
    item = put(Dataset(), {"LUTDescriptor": [entries, 0, 12], "LUTExplanation": "x"})
    item.add_new(tag_for_keyword("LUTData"), "OW", table.astype(stored_order(syntax)).tobytes())
    path = write(film(transfer_syntax=syntax, VOILUTSequence=[item]), tmp_path / "film.dcm")
    (found,) = read_metadata(stored(path), "")[tag_of("VOILUTSequence")]["Value"]
    content = base64.b64decode(found[tag_of("LUTData")]["InlineBinary"])
    assert np.array_equal(np.frombuffer(content, "<u2"), table)


def stored_order(syntax: str) -> str:
    return ">u2" if syntax == ExplicitVRBigEndian else "<u2"


def test_elements_are_in_order_and_group_lengths_are_none_of_them(tmp_path: Path) -> None:
    content = with_elements(FILM, {})
    start = content.index(b"\x08\x00\x05\x00CS")
    length = struct.pack("<HH2sHI", 8, 0, b"UL", 4, 16)
    (tmp_path / "film.dcm").write_bytes(content[:start] + length + content[start:])
    found = read_metadata(stored(tmp_path / "film.dcm"), "")
    assert [*found] == sorted(found)
    assert "00080000" not in {*found, *header_elements(tmp_path / "film.dcm", None)}
    assert found["00080005"]["Value"] == ["ISO_IR 100"]
