"""The bytes are pydicom's, and what cannot be written is said, not replaced."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import dcmread, dcmwrite
from pydicom.dataset import Dataset

from dicom_node.errors import EncodingFailed
from dicom_node.imaging import attributes
from dicom_node.results.encoding.part10 import dataset, encoded, put, texts, with_file_meta
from dicom_node.results.image.secondary_capture import write_sc
from dicom_node.results.sr.findings import write_sr
from tests.support.factories import chest, film
from tests.support.reports import EQUIPMENT, report_of


def of_pydicom(ds: Dataset) -> bytes:
    stream = io.BytesIO()
    dcmwrite(stream, ds, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return stream.getvalue()


def minimal(**values: object) -> Dataset:
    return with_file_meta(dataset(SOPClassUID="1.2.840.10008.5.1.4.1.1.7", SOPInstanceUID="1.2.3", **values))


@pytest.mark.parametrize(
    ("character_set", "name"),
    [
        ("ISO_IR 100", "Müller^Jörg"),
        ("ISO_IR 192", "Тестов^Пациент"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
    ],
)
def test_results_are_encoded_as_pydicom_encodes_them(character_set: str | list[str], name: str) -> None:
    ds = film(rows=96, columns=80, character_set=character_set, patient_name=name)
    report = report_of(ds)
    finding = report.findings[0]
    sr = write_sr(report, equipment=EQUIPMENT)
    sc = write_sc(report, finding, finding.saliency[0], chest(96, 80), equipment=EQUIPMENT)
    for result in (sr, sc):
        assert encoded(result) == of_pydicom(result)
        assert str(dcmread(io.BytesIO(encoded(result))).PatientName) == name


PRINTED = st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters="\\^=")
LINES = st.text(PRINTED, max_size=40)


@given(name=LINES, text=LINES, codes=st.lists(st.sampled_from(["A", "BC", "D_E"]), max_size=3))
def test_any_text_is_encoded_as_pydicom_encodes_it(name: str, text: str, codes: list[str]) -> None:
    ds = minimal(
        SpecificCharacterSet="ISO_IR 192",
        PatientName=name,
        StudyDescription=text,
        ImageType=codes,
        Rows=3,
        GraphicData=[0.0, 1.5, 2.0, 3.25],
        PixelData=b"abc\0",
        ContentSequence=[dataset(TextValue=text, ContentSequence=[dataset(UID="1.2.3", NumericValue="1.5")])],
        SourceImageSequence=[],
    )
    assert encoded(ds) == of_pydicom(ds)
    assert sorted(texts(ds)) == sorted([name, text, text])


@pytest.mark.parametrize(
    "values",
    [
        {"PatientName": "Тест"},
        {"SpecificCharacterSet": "ISO_IR 100", "StudyDescription": "Тест"},
        {"SpecificCharacterSet": "ISO_IR 192", "ImageType": "Ä"},
        {"StudyDescription": "x" * 70000},
        {"Rows": 70000},
    ],
)
def test_what_cannot_be_written_is_an_error(values: dict[str, object]) -> None:
    with pytest.raises(EncodingFailed, match="cannot be written"):
        encoded(minimal(**values))
    # Another thread may read a header meanwhile, which silences pydicom for all.
    with attributes.tolerance(), pytest.raises(EncodingFailed, match="cannot be written"):
        encoded(minimal(**values))


def test_an_unknown_keyword_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="NoSuchThing"):
        put(Dataset(), NoSuchThing=1)
