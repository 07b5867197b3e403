"""Study lists of reader studies, from CSV files as people write them."""

from __future__ import annotations

import pytest

from dicom_node.store.reader_studies import InvalidReaderStudy, NewCase
from dicom_node.web.reader_studies.study_list import parse_study_list

KNOWN = {"pleural_effusion": "Pleural effusion", "nodule": "Nodule"}


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("heading", ["Study Instance UID", "StudyInstanceUID", "study_instance_uid"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_a_file_is_read_as_spreadsheets_write_it(separator: str, heading: str, end: str) -> None:
    lines = [
        [heading, "pleural effusion", "Rib Fracture"],
        ["1.2.3", "1", ""],
        ["", "", ""],
        ["1.2.4", "0", "1"],
    ]
    text = "\ufeff" + end.join(separator.join(line) for line in lines) + end
    found = parse_study_list(text, KNOWN)
    assert found.findings == {"pleural_effusion": "Pleural effusion", "rib_fracture": "Rib Fracture"}
    assert found.cases == [
        NewCase("1.2.3", {"pleural_effusion": True}),
        NewCase("1.2.4", {"pleural_effusion": False, "rib_fracture": True}),
    ]


def test_a_list_needs_no_reference() -> None:
    found = parse_study_list("Study Instance UID\n1.2.3\n", KNOWN)
    assert (found.cases, found.findings) == ([NewCase("1.2.3", {})], {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: name one column Study Instance UID"),
        ("Nodule\n1\n", "line 1: name one column Study Instance UID"),
        ("Study Instance UID,nodule,Nodule\n1.2,1,1\n", "line 1: two columns"),
        ("Study Instance UID,\n1.2,1\n", "line 1: '' cannot be the name"),
        ("Study Instance UID,Nodule\n1.2,1\n1.3,yes\n", "line 3: Nodule must be 0, 1 or empty"),
        ("Study Instance UID,Nodule\n1.2\n", "line 2: 1 fields"),
        ("Study Instance UID,Nodule\nMeier,1\n", "line 2: not a Study Instance UID"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, said: str) -> None:
    with pytest.raises(InvalidReaderStudy, match=said):
        parse_study_list(text, KNOWN)
