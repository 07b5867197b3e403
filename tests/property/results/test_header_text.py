"""Whatever text a header holds, a report can be written of it, reads back, and names the same patient."""

from __future__ import annotations

import copy
import io
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_node.imaging import attributes
from dicom_node.results.encoding.part10 import encoded
from dicom_node.results.sr.findings import write_sr
from dicom_node.results.validation import check_result, dciodvfy
from tests.support.factories import film, put
from tests.support.reports import EQUIPMENT, finding, report_of
from tests.support.source_headers import is_repeated

SOURCE = film(rows=8, columns=8)
SETS = st.sampled_from(
    [
        None,
        "ISO_IR 100",
        "ISO_IR 144",
        "ISO_IR 192",
        "GB18030",
        ["", "ISO 2022 IR 87"],
        ["", "ISO 2022 IR 149"],
    ]
)
TEXTS = st.text(max_size=90) | st.sampled_from(
    ["=山田^太郎", "==やまだ", "Yamada=山田\\Doe", "Müller\\山田^太郎", "a=b=c=d", "^^^^^^", "x" * 300,
     "\x1b$B", "2026.01.02", "20261345", "99:99", "000000", "062Y", "62", "f", "A\x01B", "1.2.03", "?" * 17]
)  # fmt: skip
KEYWORDS = (
    "PatientName", "PatientID", "IssuerOfPatientID", "PatientBirthDate", "PatientSex", "PatientAge",
    "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName", "StudyID", "StudyDescription",
    "TimezoneOffsetFromUTC", "BodyPartExamined",
)  # fmt: skip
NAMED = ("PatientName", "PatientID", "IssuerOfPatientID", "AccessionNumber", "StudyID")


def with_text(character_set: object, texts: dict[str, str]) -> Dataset:
    return put(copy.deepcopy(SOURCE), {"SpecificCharacterSet": character_set, **texts})


def written(source: Dataset) -> bytes:
    ds = write_sr(report_of(source, findings=[finding()]), equipment=EQUIPMENT)
    check_result(ds)
    return encoded(ds)


@settings(max_examples=100, deadline=None)
@given(SETS, st.dictionaries(st.sampled_from(KEYWORDS), TEXTS))
def test_a_report_names_the_patient_of_its_film(character_set: object, texts: dict[str, str]) -> None:
    source = with_text(character_set, texts)
    with attributes.tolerance():
        again = dcmread(io.BytesIO(written(source)))
        for keyword in NAMED:
            assert attributes.whole_text(again, keyword) == attributes.whole_text(source, keyword), keyword


def test_a_validator_objects_to_nothing_but_what_is_repeated(tmp_path: Path) -> None:
    samples = [
        {"PatientName": "=山田^太郎", "StudyDate": "2026.01.02", "StudyTime": "99:99"},
        {
            "PatientName": "Doe^Jane^Ann^Dr.^Jr.",
            "PatientAge": "62",
            "PatientSex": "f",
            "StudyDate": "20261345",
        },
        {"PatientName": "", "PatientID": "", "StudyDescription": "one\r\ntwo" * 20, "PatientBirthDate": "?"},
        {
            "PatientID": "P" * 80,
            "AccessionNumber": "A" * 20,
            "StudyID": "S" * 20,
            "IssuerOfPatientID": "I" * 70,
        },
        {"PatientName": "N" * 70 + "^Jane", "ReferringPhysicianName": "a^b^c^d^e^f^g"},
        {"PatientID": "A\\B", "PatientName": "Doe\\Smith^Jane"},
    ]
    for number, texts in enumerate(samples):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(written(with_text("ISO_IR 192", texts)))
        errors = dciodvfy(path)
        assert [line for line in errors if not is_repeated(line)] == [], texts
        assert bool(errors) is (number >= 3), texts
