"""De-identification by the table of PS3.15 E.1-1: what goes, what stays, and what still fits together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEGLSLossless,
)

from dicom_node.errors import NotDeidentified
from dicom_node.imaging.deidentification import (
    DeidentificationOptions,
    Retention,
    profile,
)
from dicom_node.imaging.deidentifier import Deidentifier
from dicom_node.imaging.pixel_mask import Rectangle
from dicom_node.imaging.pixels import read_cells
from dicom_node.imaging.pseudonyms import Pseudonyms
from tests.support import factories

SECRETS = Pseudonyms(b"s" * 32), Pseudonyms(b"t" * 32)


def done(
    ds: Dataset,
    tmp_path: Path,
    *,
    retain: Sequence[Retention] = (),
    masks: Sequence[Rectangle] = (),
    clean: bool = False,
    pseudonyms: Pseudonyms = SECRETS[0],
) -> Dataset:
    """De-identify a data set through files."""
    path = factories.write(ds, tmp_path / "film.dcm")
    options = DeidentificationOptions(frozenset(retain), tuple(masks), clean)
    decode = lambda source: read_cells(source, max_pixels=10**7).tobytes()  # noqa: E731
    return dcmread(DicomBytesIO(Deidentifier(pseudonyms, options, decode).file(path).content))


def film(**elements: object) -> Dataset:
    values: dict[str, object] = {"rows": 64, "columns": 64, "BurnedInAnnotation": "NO", **elements}
    return factories.film(**values)  # type: ignore[arg-type]


def test_the_table_is_whole() -> None:
    rows = profile()
    assert len(rows) == 652
    # PS3.15 table E.1-1.
    expected = {
        0x00100010: "Z", 0x00100020: "Z/D", 0x00080050: "Z", 0x00080080: "X/Z/D", 0x0008103E: "X",
        0x00080018: "U", 0x00081155: "U", 0x00081140: "X/Z/U*", 0x0040A730: "D", 0x00204000: "X",
        0x0040A124: "U", 0x00102160: "X", 0x00080022: "X/Z", 0x00181030: "X/D", 0x00700084: "Z/D",
    }  # fmt: skip
    assert {tag: rows[tag].action for tag in expected} == expected
    assert {row.action for row in rows.values()} == {
        "X", "D", "U", "Z", "X/D", "X/Z", "X/Z/D", "Z/D", "X/Z/U*",
    }  # fmt: skip


def test_the_options_keep_what_the_table_says() -> None:
    """PS3.15 table E.1-1, columns of devices, patient characteristics and institutions, the cells with K."""
    kept = {each: {tag for tag, row in profile().items() if row.option == each} for each in Retention}
    assert {option: len(tags) for option, tags in kept.items() if tags} == {
        Retention.DEVICE: 34,
        Retention.PATIENT: 8,
        Retention.INSTITUTION: 9,
    }
    # Station, serial number, detector, UDI, lens, place in a schedule, and devices of radiotherapy.
    assert kept[Retention.DEVICE] >= {
        0x00081010, 0x00181000, 0x0018700A, 0x00181009, 0x0018100A, 0x0016004E, 0x00160051, 0x00321020,
        0x00400011, 0x00404027, 0x00404030, 0x300A0216, 0x3010002D, 0x30100043,
    }  # fmt: skip
    # A cell with C asks for cleaning, which nothing here does: what is told of a patient in words goes.
    assert not kept[Retention.PATIENT] & {0x00102110, 0x00380050, 0x00380500, 0x00400012}


def test_identity_goes_and_the_picture_stays(tmp_path: Path) -> None:
    ds = film(InstitutionName="General", SeriesDescription="of Doe", OperatorsName="Roe^Rick")
    out = done(ds, tmp_path)
    for keyword in (
        "InstitutionName",
        "SeriesDescription",
        "OperatorsName",
        "PatientAge",
        "StudyDescription",
    ):
        assert keyword not in out
    assert out.PatientName == out.PatientID
    assert str(out.PatientID).startswith("P")
    assert (out.AccessionNumber, out.StudyDate, out.PatientBirthDate, out.PatientSex) == ("", "", "", "")
    assert out.BodyPartExamined == "CHEST"
    assert out.ViewPosition == "PA"
    assert out.PixelData == ds.PixelData
    assert out.PatientIdentityRemoved == "YES"
    assert out.LongitudinalTemporalInformationModified == "REMOVED"
    assert [item.CodeValue for item in out.DeidentificationMethodCodeSequence] == ["113100"]


def test_private_elements_planes_and_unknown_ones_go_at_every_depth(tmp_path: Path) -> None:
    ds = factories.with_overlay(film(), np.ones((64, 64), bool))
    item = Dataset()
    for each in (ds, item):
        each.add(DataElement(0x00090010, "LO", "VENDOR"))
        each.add(DataElement(0x00091001, "LO", "Doe"))
        each.add(DataElement(0x50003000, "OW", b"\1\2"))
        each.add(DataElement(0x00189FFE, "LO", "Doe"))
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "1", "99X", "meaning"
    ds.AdmittingDiagnosesCodeSequence = [item]
    ds.AnatomicRegionSequence = [item]
    out = done(ds, tmp_path)
    assert "AdmittingDiagnosesCodeSequence" not in out
    for each in (out, out.AnatomicRegionSequence[0]):
        assert not [e.tag for e in each if e.tag.is_private or e.tag.group in (0x5000, 0x6000)]
        assert 0x00189FFE not in each


def test_uids_names_and_dates_change_the_same_way_wherever_they_stand(tmp_path: Path) -> None:
    first, second = film(instance=1), film(instance=2, StudyDate="20240310")
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = first.SOPClassUID, first.SOPInstanceUID
    second.SourceImageSequence = [item]
    one = done(first, tmp_path, retain=[Retention.DATES])
    two = done(second, tmp_path, retain=[Retention.DATES])
    assert two.SourceImageSequence[0].ReferencedSOPInstanceUID == one.SOPInstanceUID != first.SOPInstanceUID
    assert two.SourceImageSequence[0].ReferencedSOPClassUID == first.SOPClassUID
    assert one.StudyInstanceUID == two.StudyInstanceUID
    assert one.PatientID == two.PatientID
    days = [dcmdate(two.StudyDate) - dcmdate(one.StudyDate), dcmdate("20240310") - dcmdate("20240229")]
    assert days[0] == days[1]
    assert one.StudyDate < "20240229"
    assert one.StudyTime == first.StudyTime
    assert one.PatientBirthDate == ""
    # Another site, and another patient, are moved by other days.
    other = done(first, tmp_path, retain=[Retention.DATES], pseudonyms=SECRETS[1])
    assert (other.PatientID, other.SOPInstanceUID) != (one.PatientID, one.SOPInstanceUID)
    assert other.StudyDate != one.StudyDate
    assert done(film(patient_id="PAT-2"), tmp_path, retain=[Retention.DATES]).StudyDate != one.StudyDate


def dcmdate(text: str) -> np.datetime64:
    return np.datetime64(f"{text[:4]}-{text[4:6]}-{text[6:]}")


def test_each_option_keeps_what_it_names_and_is_stated(tmp_path: Path) -> None:
    ds = film(InstitutionName="General", StationName="ROOM2", PatientWeight="70")
    kept = {
        Retention.UIDS: ("SOPInstanceUID", "113110"),
        Retention.DEVICE: ("StationName", "113109"),
        Retention.PATIENT: ("PatientWeight", "113108"),
        Retention.INSTITUTION: ("InstitutionName", "113112"),
    }
    for option, (keyword, code) in kept.items():
        out = done(ds, tmp_path, retain=[option])
        assert out.get(keyword) == ds[keyword].value
        assert [item.CodeValue for item in out.DeidentificationMethodCodeSequence] == ["113100", code]
        for other, (absent, _) in kept.items():
            assert other == option or out.get(absent) != ds[absent].value
    dated = done(ds, tmp_path, retain=[Retention.DATES])
    assert dated.DeidentificationMethodCodeSequence[1].CodeValue == "113107"
    assert dated.LongitudinalTemporalInformationModified == "MODIFIED"


def test_the_uid_of_a_device_is_kept_with_devices_and_with_uids(tmp_path: Path) -> None:
    ds = film(DeviceUID="1.2.3.4")
    assert done(ds, tmp_path).DeviceUID != "1.2.3.4"
    for option in (Retention.DEVICE, Retention.UIDS):
        assert done(ds, tmp_path, retain=[option]).DeviceUID == "1.2.3.4"


def test_a_name_that_a_device_wrote_elsewhere_goes_too(tmp_path: Path) -> None:
    ds = film(
        patient_name="Quixotely^Zebedee",
        Manufacturer="made for QUIXOTELY",
        RequestedContrastAgent="zebedee's",
        ManufacturerModelName="Model 7",
    )
    out = done(ds, tmp_path)
    assert out.Manufacturer == "ANONYMIZED"
    assert out.ManufacturerModelName == "Model 7"
    assert "zebedee" not in str(out).casefold()


@pytest.mark.parametrize(
    ("identity", "text"),
    [
        ({"patient_name": "山田^太郎"}, "山田太郎 胸部"),
        ({"patient_name": "Yamada^Tarou=山田^太郎=やまだ^たろう"}, "胸部 たろう様"),
        ({"patient_name": "김^길동"}, "김길동"),
        ({"patient_name": "สมชาย^ใจดี"}, "คุณสมชายใจดี"),
        ({"patient_id": "12-34-56"}, "ID 123456"),
        ({"patient_id": "123456"}, "ID 12-34-56"),
        ({"PatientBirthDate": "19700203"}, "born 1970-02-03"),
        ({"AccessionNumber": "A 77/1234"}, "order A771234"),
    ],
)
def test_a_name_without_blanks_and_a_number_with_other_separators_go(
    identity: dict[str, str], text: str, tmp_path: Path
) -> None:
    ds = film(character_set="ISO_IR 192", DetectorDescription=text, FilterMaterial="ALUMINUM", **identity)
    out = done(ds, tmp_path)
    assert out.DetectorDescription == "ANONYMIZED"
    assert out.FilterMaterial == "ALUMINUM"


def test_who_sent_the_file_and_what_precedes_it_stays_behind(tmp_path: Path) -> None:
    ds = film()
    ds.file_meta.SourceApplicationEntityTitle = "DOES_ROOM"
    ds.file_meta.PrivateInformationCreatorUID, ds.file_meta.PrivateInformation = "1.2", b"Doe^Jane"
    path = factories.write(ds, tmp_path / "film.dcm")
    path.write_bytes(b"Doe^Jane" + path.read_bytes()[8:])
    content = Deidentifier(SECRETS[0], DeidentificationOptions()).file(path).content
    assert content[:128] == bytes(128)
    assert b"Doe" not in content
    assert b"DOES_ROOM" not in content


@pytest.mark.parametrize(
    ("elements", "clean", "answer"),
    [
        ({"BurnedInAnnotation": "YES"}, True, "text is burned into its picture"),
        ({"BurnedInAnnotation": None}, False, "does not say whether text is burned"),
        ({"BurnedInAnnotation": ""}, False, "does not say whether text is burned"),
        ({"BurnedInAnnotation": "PERHAPS"}, False, "does not say whether text is burned"),
        ({"BurnedInAnnotation": None}, True, ""),
        ({"BurnedInAnnotation": "NO"}, False, ""),
        ({"EncapsulatedDocument": b"%PDF"}, True, "it holds a document"),
        ({"SOPClassUID": "1.2.840.10008.1.3.10"}, True, "it is a DICOMDIR"),
    ],
)
def test_what_may_hold_text_is_refused(
    elements: dict[str, object], clean: bool, answer: str, tmp_path: Path
) -> None:
    ds = film(**elements)
    if not answer:
        assert done(ds, tmp_path, clean=clean).PatientIdentityRemoved == "YES"
        return
    with pytest.raises(NotDeidentified, match=answer):
        done(ds, tmp_path, clean=clean)


def test_what_repeats_an_unclean_picture_is_refused(tmp_path: Path) -> None:
    burned = film(BurnedInAnnotation="YES")
    picture = film(instance=2)
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = burned.SOPClassUID, burned.SOPInstanceUID
    picture.SourceImageSequence = [item]
    paths = [factories.write(ds, tmp_path / f"{n}.dcm") for n, ds in enumerate((burned, picture))]
    deidentifier = Deidentifier(SECRETS[0], DeidentificationOptions())
    unclean = frozenset(map(deidentifier.unclean, paths))
    assert unclean == {burned.SOPInstanceUID, ""}
    with pytest.raises(NotDeidentified, match="it repeats a picture"):
        deidentifier.file(paths[1], unclean)
    masked = Deidentifier(SECRETS[0], DeidentificationOptions(masks=(Rectangle(0, 0, 1, 1),)))
    assert masked.unclean(paths[0]) == burned.SOPInstanceUID


@pytest.mark.parametrize(
    ("shape", "darkest"),
    [
        ({}, 0),
        ({"photometric": "MONOCHROME1"}, 4095),
        ({"signed": True}, -2048),
        ({"signed": True, "photometric": "MONOCHROME1"}, 2047),
        ({"bits": 8}, 0),
        ({"transfer_syntax": ImplicitVRLittleEndian}, 0),
        ({"transfer_syntax": ExplicitVRBigEndian}, 0),
        ({"transfer_syntax": JPEGLSLossless}, 0),
        ({"transfer_syntax": JPEGLSLossless, "bits": 8}, 0),
    ],
)
def test_a_mask_is_black_and_nothing_else_changes(
    shape: dict[str, object], darkest: int, tmp_path: Path
) -> None:
    ds = film(BurnedInAnnotation="YES", **shape)
    before = dcmread(factories.write(ds, tmp_path / "before.dcm")).pixel_array
    out = done(ds, tmp_path, masks=[Rectangle(4, 8, 20, 10), Rectangle(60, 60, 100, 100)])
    after = out.pixel_array
    hidden = np.zeros(before.shape, bool)
    hidden[8:18, 4:24] = hidden[60:, 60:] = True
    assert (after[hidden] == darkest).all()
    assert np.array_equal(after[~hidden], before[~hidden])
    assert out.BurnedInAnnotation == "NO"
    assert "113101" in [item.CodeValue for item in out.DeidentificationMethodCodeSequence]
    assert not out.file_meta.TransferSyntaxUID.is_compressed


@pytest.mark.parametrize("rows", [64, 65])
def test_a_mask_fits_cells_of_a_byte_in_words_of_big_endian(rows: int, tmp_path: Path) -> None:
    ds = film(rows=rows, columns=65, bits=8, transfer_syntax=ExplicitVRBigEndian, BurnedInAnnotation="YES")
    cells = ds.pixel_array
    padded = cells.tobytes() + b"\0" * (cells.size % 2)
    ds["PixelData"] = DataElement(0x7FE00010, "OW", np.frombuffer(padded, "<u2").byteswap().tobytes())
    out = done(ds, tmp_path, masks=[Rectangle(10, 20, 31, 40)])
    words = np.frombuffer(out.PixelData, "<u2").byteswap().tobytes()
    after = np.frombuffer(words, np.uint8)[: cells.size].reshape(cells.shape)
    expected = cells.copy()
    expected[20:60, 10:41] = 0
    assert np.array_equal(after, expected)


@pytest.mark.parametrize("planar", [0, 1])
def test_a_mask_covers_every_colour(planar: int, tmp_path: Path) -> None:
    colours = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(64, 64, 3) % 251 + 1
    stored = colours if planar == 0 else np.moveaxis(colours, -1, 0)
    ds = film(
        bits=8,
        SamplesPerPixel=3,
        PhotometricInterpretation="RGB",
        PlanarConfiguration=planar,
        PixelData=stored.astype(np.uint8).tobytes(),
    )
    after = done(ds, tmp_path, masks=[Rectangle(0, 0, 10, 5)]).pixel_array
    assert not after[:5, :10].any()
    assert np.array_equal(after[5:], colours[5:])


def test_a_picture_that_cannot_be_masked_is_refused(tmp_path: Path) -> None:
    for elements in ({"PhotometricInterpretation": "YBR_FULL"}, {"PixelData": b"\0\0"}):
        with pytest.raises(NotDeidentified, match="not masked"):
            done(film(**elements), tmp_path, masks=[Rectangle(0, 0, 1, 1)])


def test_without_a_patient_id_the_study_is_the_patient(tmp_path: Path) -> None:
    out = [done(film(patient_id="", study=n), tmp_path).PatientID for n in (1, 1, 2)]
    assert out[0] == out[1] != out[2]


def test_a_malformed_value_goes(tmp_path: Path) -> None:
    ds = film(sop_class=DigitalXRayImageStorageForPresentation, StudyDate="yesterday", PatientWeight="heavy")
    out = done(ds, tmp_path, retain=[Retention.DATES, Retention.PATIENT])
    assert out.StudyDate == "19000101"
    assert "heavy" not in str(out)
