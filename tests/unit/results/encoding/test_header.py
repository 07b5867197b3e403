"""Values from a source: kept, repaired or left out, never passed on bad."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.valuerep import validate_value

from dicom_node.imaging.pixels import read_header
from dicom_node.results.encoding import header
from tests.support.factories import encoded, film, put


@pytest.mark.parametrize(
    ("keyword", "text", "expected"),
    [
        ("PatientAge", "062Y", "062Y"),
        ("PatientAge", "010d", "010D"),
        ("PatientAge", "62", ""),
        ("PatientAge", "62Y", "062Y"),
        ("PatientAge", "62 years", ""),
        ("StudyDate", "20240229", "20240229"),
        ("StudyDate", "20230229", ""),
        ("StudyDate", "1995.07.20", "19950720"),
        ("StudyDate", "2024-02-29", "20240229"),
        ("StudyDate", "20240229101112345", "20240229"),
        ("StudyDate", "2024022910", ""),
        ("StudyDate", "yesterday", ""),
        ("StudyDate", "2026.01.02", "20260102"),
        ("StudyDate", "2026/01/02", "20260102"),
        ("StudyDate", "2026-01.02", ""),
        ("StudyDate", "2026-01-02T10:15:30", "20260102"),
        ("StudyDate", "20260102101530.5+0100", "20260102"),
        ("StudyDate", "20261345", ""),
        ("StudyDate", "٢٠٢٤٠٢٢٩", ""),
        ("StudyTime", "101530", "101530"),
        ("StudyTime", "11:22:07", "112207"),
        ("StudyTime", "101530.123456789", "101530.123456"),
        ("StudyTime", "10", "10"),
        ("StudyTime", "1015", "1015"),
        ("StudyTime", "996199", ""),
        ("StudyTime", "99:99", ""),
        ("StudyTime", "000000", "000000"),
        ("StudyTime", "10:15", "1015"),
        ("StudyTime", "20261345", ""),
        ("StudyTime", "240000", ""),
        ("StudyTime", "235960", "235960"),
        ("PatientSex", "f", "F"),
        ("PatientSex", "female", "F"),
        ("PatientSex", "w", ""),
        ("PatientID", "x" * 64, "x" * 64),
        ("PatientID", "x" * 65, "x" * 65),
        ("PatientID", "A\x01B", "A\x01B"),
        ("PatientID", "A\\B", "A\\B"),
        ("PatientID", "x" * 1025, ""),
        ("IssuerOfPatientID", "x" * 70, "x" * 70),
        ("AccessionNumber", "1234567890123456", "1234567890123456"),
        ("AccessionNumber", "12345678901234567", "12345678901234567"),
        ("StudyID", "x" * 20, "x" * 20),
        ("StudyDescription", "one\r\ntwo", "one two"),
        ("StudyDescription", "x" * 65, "x" * 64),
        *(
            ("PatientName", name, name)
            for name in (
                "Doe^Jane^^Dr^",
                "Doe^Jane^Ann^Dr.^Jr.",
                "single",
                "=山田^太郎",
                "==やまだ^たろう",
                "Yamada^Tarou=山田^太郎=やまだ^たろう",
                "a^b^c^d^e^f^g",
                "a=b=c=d",
                "x" * 70 + "^y",
                "Doe\\Smith^Jane",
                "^",
                "",
            )
        ),
        ("ReferringPhysicianName", "x" * 70 + "^y", "x" * 70 + "^y"),
        ("TimezoneOffsetFromUTC", "+0100", "+0100"),
        ("TimezoneOffsetFromUTC", "UTC+1", ""),
        ("StudyInstanceUID", "1.2.840.10008", "1.2.840.10008"),
        ("StudyInstanceUID", "1.2.", ""),
        ("StudyInstanceUID", "1.02", "1.02"),
        ("StudyInstanceUID", "1.2.03.4\0", "1.2.03.4"),
        ("SOPInstanceUID", "1.2.abc", ""),
        ("SOPClassUID", "1.02", ""),
        ("StudyInstanceUID", "../../etc/passwd", ""),
        ("StudyInstanceUID", "1." + "2" * 63, ""),
    ],
)
def test_repairs(keyword: str, text: str, expected: str) -> None:
    assert header.repaired(put(Dataset(), {keyword: text}), keyword) == expected


@given(st.sampled_from(sorted(header._REPAIRS)), st.text(max_size=80))
def test_what_stands_there_is_written_as_it_is_or_made_valid(keyword: str, text: str) -> None:
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 192"
    value = header.repaired(put(ds, {keyword: text}), keyword)
    if keyword in header.AS_GIVEN and not keyword.endswith("UID"):
        parts = [part.strip(" \0") for part in text.split("\\")]
        if dictionary_VR(keyword) == "PN":  # empty groups at the end say nothing
            assert [part.rstrip("= \0") for part in value.split("\\")] == [
                part.rstrip("= \0") for part in parts
            ]
        else:
            assert value == "\\".join(parts)
    elif not (keyword in header.AS_GIVEN and value):
        validate_value(dictionary_VR(keyword), value, RAISE)
    # Repairing is done once: what is valid stays as it is.
    assert header.repaired(put(ds, {keyword: value}), keyword) == value


def test_type_2_elements_are_there_even_when_empty() -> None:
    copied = header.copied(Dataset())
    assert copied["PatientID"] == copied["StudyID"] == copied["StudyDate"] == ""
    assert "PatientAge" not in copied
    assert "StudyDescription" not in copied


def test_utf_8_that_declares_nothing_is_read_as_utf_8(tmp_path: Path) -> None:
    data = encoded(film(patient_name="Müller^Jörg", character_set="ISO_IR 192"))
    undeclared = tmp_path / "film.dcm"
    undeclared.write_bytes(data.replace(b"\x08\0\x05\0CS\x0a\0ISO_IR 192", b""))
    source = read_header(undeclared)
    assert source.SpecificCharacterSet == "ISO_IR 192"
    assert header.copied(source)["PatientName"] == "Müller^Jörg"
    assert header.character_set(source, ["Müller^Jörg"]) == ["ISO_IR 192"]


def test_bytes_that_are_no_utf_8_are_taken_for_latin_1(tmp_path: Path) -> None:
    data = encoded(film(patient_name="Müller^Jörg", character_set="ISO_IR 100"))
    undeclared = tmp_path / "film.dcm"
    undeclared.write_bytes(data.replace(b"\x08\0\x05\0CS\x0a\0ISO_IR 100", b""))
    assert header.copied(read_header(undeclared))["PatientName"] == "Müller^Jörg"


@pytest.mark.parametrize(
    ("declared", "text", "expected"),
    [
        (None, "plain", []),
        ("", "plain", []),
        (None, "Jörg", ["ISO_IR 192"]),
        ("ISO_IR 100", "Jörg", ["ISO_IR 100"]),
        ("ISO_IR 100", "Тест", ["ISO_IR 192"]),
        ("ISO_IR 144", "Тест", ["ISO_IR 144"]),
        ("ISO_IR 6", "plain", ["ISO_IR 192"]),
        ("ISO 2022 IR 6", "plain", ["ISO_IR 192"]),
        ("ISO_IR 999", "plain", ["ISO_IR 192"]),
        ("latin1", "Jörg", ["ISO_IR 192"]),
        (["", "ISO 2022 IR 87"], "山田", ["", "ISO 2022 IR 87"]),
        (["", "ISO 2022 IR 87"], "Тест™", ["ISO_IR 192"]),
        (["ISO 2022 IR 100", "ISO_IR 144"], "Jörg", ["ISO_IR 192"]),
        ("GB18030", "王小东", ["GB18030"]),
        ("ISO_IR 192", "王 Тест Jörg", ["ISO_IR 192"]),
    ],
)
def test_a_character_set_is_inherited_when_it_can_hold_the_text(
    declared: str | list[str] | None, text: str, expected: list[str]
) -> None:
    source = put(Dataset(), {"SpecificCharacterSet": declared})
    assert header.character_set(source, ["plain", text]) == expected


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        ({"LocalNamespaceEntityID": "WEST"}, {"LocalNamespaceEntityID": "WEST"}),
        (
            {"UniversalEntityID": "1.2.3", "UniversalEntityIDType": "ISO"},
            {"UniversalEntityID": "1.2.3", "UniversalEntityIDType": "ISO"},
        ),
        (
            {"LocalNamespaceEntityID": "WEST", "UniversalEntityID": "1.2.3"},
            {"LocalNamespaceEntityID": "WEST"},
        ),
        ({"UniversalEntityID": "1.2.3", "UniversalEntityIDType": "OID"}, None),
        ({"LocalNamespaceEntityID": ""}, None),
    ],
)
@pytest.mark.parametrize(
    "keyword", ["IssuerOfPatientIDQualifiersSequence", "IssuerOfAccessionNumberSequence"]
)
def test_who_issued_a_number_is_repeated_where_it_is_whole(
    keyword: str, item: dict[str, str], expected: dict[str, str] | None
) -> None:
    found = header.issuers(put(Dataset(), {keyword: [put(Dataset(), item)]}))
    assert found == ({} if expected is None else {keyword: [put(Dataset(), expected)]})


def test_times_are_in_the_zone_of_the_source() -> None:
    moment = dt.datetime(2024, 3, 1, 12, 30, tzinfo=dt.UTC)
    local, offset = header.local_time(moment, put(Dataset(), {"TimezoneOffsetFromUTC": "-0430"}))
    assert (local.strftime("%Y%m%d%H%M"), offset) == ("202403010800", "-0430")
    assert local == moment


def test_without_a_zone_in_the_source_none_is_claimed() -> None:
    moment = dt.datetime(2024, 3, 1, 12, 30, tzinfo=dt.UTC)
    local, offset = header.local_time(moment, Dataset())
    assert offset == ""
    assert local == moment
    assert local.utcoffset() == moment.astimezone().utcoffset()
