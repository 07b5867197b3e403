"""Reading of an instance: a film with dark lungs, or a reason."""

from __future__ import annotations

import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
)

from dicom_node.errors import NotAnalysable, StorageFailed
from dicom_node.imaging.pixels import read_film, read_header
from dicom_node.imaging.transfer_syntaxes import NATIVE
from dicom_node.imaging.voi import VoiWindow
from dicom_node.results.codes import REFUSALS
from tests.support.factories import chest, encoded, film, put, write

MAX_PIXELS = 64_000_000


def refusal(source: Dataset | Path, *, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(NotAnalysable) as caught:
        read_film(source, max_pixels=max_pixels)
    assert caught.value.reason in REFUSALS
    sentence = str(caught.value)
    assert sentence
    assert "\n" not in sentence
    return caught.value.reason


def grey(source: Dataset | Path) -> np.ndarray:
    pixels = read_film(source, max_pixels=MAX_PIXELS).pixels
    assert pixels.dtype == np.float32
    assert np.isfinite(pixels).all()
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    return pixels


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("bits", [8, 10, 12, 14, 15, 16])
@pytest.mark.parametrize("signed", [False, True])
def test_a_film_is_shown_alike_whatever_its_polarity_depth_and_sign(
    photometric: str, bits: int, signed: bool
) -> None:
    center = 0 if signed else 2 ** (bits - 1)
    ds = film(photometric=photometric, bits=bits, signed=signed, window=(center, 2**bits))
    assert np.abs(grey(ds) - chest()).max() < 1.5 / (2**bits - 1)


@pytest.mark.parametrize("syntax", sorted(NATIVE), ids=lambda uid: uid.name)
@pytest.mark.parametrize("bits", [8, 12])
def test_native_transfer_syntaxes_give_the_same_film(tmp_path: Path, syntax: str, bits: int) -> None:
    path = write(film(transfer_syntax=syntax, bits=bits, rows=101, columns=99), tmp_path / "film.dcm")
    expected = grey(film(bits=bits, rows=101, columns=99))
    assert np.array_equal(grey(path), expected)


def test_the_header_comes_without_pixels_and_with_everything_else(tmp_path: Path) -> None:
    path = write(film(patient_name="Тест^Пациент", character_set="ISO_IR 192"), tmp_path / "film.dcm")
    for header in (read_film(path, max_pixels=MAX_PIXELS).header, read_header(path)):
        assert "PixelData" not in header
        assert header.PatientName == "Тест^Пациент"
        assert header.Rows == 512


def test_reading_leaves_the_data_set_as_it_was() -> None:
    ds = film()
    before = encoded(ds)
    read_film(ds, max_pixels=MAX_PIXELS)
    assert encoded(ds) == before


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"PixelData": None}, "no_pixels"),
        ({"PixelData": b""}, "no_pixels"),
        ({"PixelData": b"\0" * 100}, "bad_header"),
        ({"PixelData": b"\1" * (512 * 448 * 2 + 4)}, "bad_header"),
        ({"Rows": 65535, "Columns": 65535}, "too_large"),
        ({"Rows": 0}, "too_small"),
        ({"Rows": 16, "Columns": 16}, "too_small"),
        ({"Rows": None}, "bad_header"),
        ({"BitsStored": 17}, "bad_header"),
        ({"BitsStored": 7}, "bad_header"),
        ({"BitsAllocated": 12}, "bad_header"),
        ({"BitsAllocated": 1}, "bad_header"),
        ({"BitsAllocated": 32}, "bad_header"),
        ({"BitsAllocated": 8}, "bad_header"),
        ({"BitsAllocated": None}, "bad_header"),
        ({"SamplesPerPixel": 3}, "not_grayscale"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "not_grayscale"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "not_grayscale"),
        ({"PhotometricInterpretation": "YBR_FULL_422"}, "not_grayscale"),
        ({"PhotometricInterpretation": None}, "not_grayscale"),
        ({"NumberOfFrames": "2"}, "multi_frame"),
    ],
)
def test_what_a_header_cannot_mean_is_refused_before_decoding(
    elements: dict[str, object], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason not in ("bad_header", "no_pixels"):
        monkeypatch.setattr("dicom_node.imaging.pixels.get_decoder", lambda _: pytest.fail("decoded"))
    assert refusal(film(**elements)) == reason


@pytest.mark.parametrize("value", ["1", "0", "", None])
def test_one_frame_is_no_multi_frame(value: str | None) -> None:
    assert np.array_equal(grey(film(NumberOfFrames=value)), grey(film()))


@pytest.mark.parametrize("padding", [b"\0", b"\0" * 2, b"\0" * 100])
def test_padding_behind_the_pixels_is_accepted(padding: bytes) -> None:
    ds = film(bits=8, rows=101, columns=101)
    put(ds, {"PixelData": ds.PixelData[: 101 * 101] + padding})
    assert grey(ds).shape == (101, 101)


@pytest.mark.parametrize("value", [0, 4095, 77])
def test_a_picture_of_one_value_is_blank(value: int) -> None:
    assert refusal(film(pixels=np.full((128, 128), value))) == "blank"


def test_a_black_frame_with_a_marker_is_blank() -> None:
    pixels = np.zeros((512, 512), np.int64)
    pixels[10:20, 10:20] = 4000
    assert refusal(film(pixels=pixels)) == "blank"


def test_a_picture_of_padding_only_is_blank() -> None:
    assert refusal(film(PixelPaddingValue=0, PixelPaddingRangeLimit=4095)) == "blank"


def test_an_unknown_transfer_syntax_is_refused_by_name(tmp_path: Path) -> None:
    ds = film()
    ds.file_meta.TransferSyntaxUID = MPEG2MPML
    assert refusal(ds) == "transfer_syntax"
    path = tmp_path / "film.dcm"
    path.write_bytes(encoded(film()).replace(ExplicitVRLittleEndian.encode(), b"1.2.840.10008.1.2.9"))
    assert refusal(path) == "transfer_syntax"
    assert read_header(path).Rows == 512


def test_a_deflated_file_is_refused_unread(tmp_path: Path) -> None:
    bomb = zlib.compressobj(wbits=-15)
    ds = film()
    ds.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    ds.file_meta.FileMetaInformationGroupLength = 0
    path = tmp_path / "film.dcm"
    head = encoded(film()).split(b"\x08\0\x05\0", 1)[0]
    head = head.replace(
        b"\x02\0\x10\0UI" + (20).to_bytes(2, "little") + b"1.2.840.10008.1.2.1\0",
        b"\x02\0\x10\0UI" + (22).to_bytes(2, "little") + b"1.2.840.10008.1.2.1.99",
    )
    body = bomb.compress(bytes(200 << 20)) + bomb.flush()
    path.write_bytes(head + body)
    assert refusal(path) == "transfer_syntax"
    with pytest.raises(NotAnalysable, match="Deflated"):
        read_header(path)


def test_a_file_without_preamble_and_file_meta_is_read(tmp_path: Path) -> None:
    whole = encoded(film())
    for name, data in (("no preamble", whole[132:]), ("no meta", whole[whole.index(b"\x08\0\x05\0CS") :])):
        path = tmp_path / name
        path.write_bytes(data)
        assert np.array_equal(grey(path), grey(film())), name


def test_a_header_behind_the_pixels_is_refused_by_name(tmp_path: Path) -> None:
    data = encoded(film())
    header, pixels = (data.index(tag) for tag in (b"\x28\x00\x10\x00US", b"\xe0\x7f\x10\x00O"))
    path = tmp_path / "film.dcm"
    path.write_bytes(data[:header] + data[pixels:] + data[header:pixels])
    with pytest.raises(NotAnalysable, match="behind the pixel data"):
        read_film(path, max_pixels=MAX_PIXELS)


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"GET / HTTP/1.1\r\n\r\n", b"\0" * 4096, b"\x89PNG\r\n\x1a\n" * 99]
)
def test_what_is_not_dicom_is_undecodable(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "film.dcm"
    path.write_bytes(data)
    assert refusal(path) == "undecodable"
    with pytest.raises(NotAnalysable):
        read_header(path)


def test_sequences_nested_beyond_reason_are_undecodable(tmp_path: Path) -> None:
    opening = b"\x40\0\x75\x02SQ\0\0\xff\xff\xff\xff\xfe\xff\0\xe0\xff\xff\xff\xff"
    whole = encoded(film())
    place = whole.index(b"\x28\0\x02\0US")
    path = tmp_path / "film.dcm"
    path.write_bytes(whole[:place] + opening * 5000 + whole[place:])
    assert refusal(path) == "undecodable"
    with pytest.raises(NotAnalysable, match="nested"):
        read_header(path)


def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path: Path) -> None:
    whole = encoded(film(rows=96, columns=80))
    path = tmp_path / "film.dcm"
    for length in (*range(132, 1100, 61), len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refusal(path) in set(REFUSALS) - {"blank"}, length


@pytest.mark.parametrize("syntax", [RLELossless, JPEGBaseline8Bit], ids=lambda uid: uid.name)
def test_damaged_compressed_pixels_are_undecodable(syntax: str) -> None:
    ds = film(bits=8, transfer_syntax=syntax)
    put(ds, {"PixelData": encapsulate([b"\xff\xd8" + bytes(500)])})
    assert refusal(ds) == "undecodable"


def test_compressed_pixels_of_another_size_are_refused() -> None:
    ds = film(bits=8, transfer_syntax=JPEGBaseline8Bit)
    assert refusal(put(ds, {"Rows": 100})) == "undecodable"


def test_a_file_that_is_not_there_is_a_matter_of_storage(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="No such file"):
        read_film(tmp_path / "film.dcm", max_pixels=MAX_PIXELS)


def test_large_elements_stay_out_of_the_header(tmp_path: Path) -> None:
    ds = film()
    ds.add(DataElement(0x00091001, "OB", bytes(2 << 20)))
    ds.add(DataElement(0x00090010, "LO", "FACTORY"))
    path = write(ds, tmp_path / "film.dcm")
    header = read_header(path)
    assert 0x00091001 not in header
    path.unlink()
    assert header.PatientName == "Doe^Jane"


def test_tables_that_stay_out_of_the_header_are_not_used_for_the_film_either(tmp_path: Path) -> None:
    item = Dataset()
    item["LUTDescriptor"] = DataElement("LUTDescriptor", "US", [0, 0, 16])
    item["LUTData"] = DataElement("LUTData", "OW", np.arange(1 << 16).astype("<u2").tobytes())
    ds = film(VOILUTSequence=Sequence([item] * 9), window=(2048, 4096))
    path = write(ds, tmp_path / "film.dcm")
    read = read_film(path, max_pixels=MAX_PIXELS)
    assert read.grey is not None
    assert read.grey.voi == VoiWindow(2048, 4096)
    assert read.grey.voi_transform(read_header(path)) == read.grey.voi


def test_bad_values_are_read_without_a_warning(tmp_path: Path) -> None:
    ds = film(PatientAge="62", StudyDate="20240229101112345", StudyID="x" * 99, WindowCenter="abc")
    path = write(ds, tmp_path / "film.dcm")
    assert np.array_equal(grey(path), grey(film()))


def test_an_item_of_a_sequence_is_not_taken_for_the_film() -> None:
    icon = Dataset()
    put(icon, {"Rows": 16, "Columns": 16, "PixelData": bytes(256)})
    ds = film()
    ds["IconImageSequence"] = DataElement("IconImageSequence", "SQ", Sequence([icon]))
    assert grey(ds).shape == (512, 448)


@pytest.mark.parametrize("name", ["RG1_UNCR.dcm", "RG1_J2KR.dcm"])
def test_the_public_cr_chest_has_dark_lungs(name: str) -> None:
    path = get_testdata_file(name, download=False)
    pixels = grey(Path(path))
    assert pixels.shape == (1955, 1841)
    lung, spine = pixels[300:600, 350:500].mean(), pixels[1200:1500, 880:960].mean()
    assert lung < 0.75 < spine


def test_its_compressed_twin_is_the_same_film() -> None:
    plain, compressed = (
        grey(Path(get_testdata_file(name, download=False))) for name in ("RG1_UNCR.dcm", "RG1_J2KR.dcm")
    )
    assert np.array_equal(plain, compressed)


@pytest.mark.films
def test_the_real_films_have_dark_lungs_but_the_one_whose_header_lies(films_root: Path) -> None:
    bright = {}
    for path in sorted((films_root / "dicom").glob("*.dcm")):
        pixels = grey(path)
        rows, columns = pixels.shape
        upper = pixels[int(0.3 * rows) : int(0.5 * rows)]
        sides = [
            upper[:, int(a * columns) : int(b * columns)].ravel() for a, b in ((0.22, 0.35), (0.65, 0.78))
        ]
        lungs = np.concatenate(sides)
        spine = upper[:, int(0.46 * columns) : int(0.54 * columns)]
        bright[path.name] = bool(np.median(lungs) > np.median(spine))
    assert len(bright) == 9
    assert [name for name, inverted in bright.items() if inverted] == ["Fake_MONOHR1.dcm"]


@pytest.mark.films
def test_a_missing_transfer_syntax_changes_nothing(films_root: Path) -> None:
    folder = films_root / "dicom"
    without = grey(folder / "CR-MONO1-10-chest-no-transfer-syntax.dcm")
    assert np.array_equal(without, grey(folder / "gdcm-CR-MONO1-10-chest.dcm"))


def test_reading_films_imports_no_model_and_no_network() -> None:
    code = (
        "import sys, dicom_node.imaging.pixels, dicom_node.imaging.selection\n"
        "sys.exit(any(name in sys.modules for name in sys.argv[1:]))"
    )
    heavy = ("torch", "celery", "highdicom", "pynetdicom", "models", "PIL.ImageDraw")
    subprocess.run([sys.executable, "-c", code, *heavy], check=True)


def test_implicit_vr_resolves_what_explicit_vr_states(tmp_path: Path) -> None:
    elements = {"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 5}
    one = write(film(transfer_syntax=ImplicitVRLittleEndian, **elements), tmp_path / "implicit.dcm")
    other = write(film(**elements), tmp_path / "explicit.dcm")
    assert dcmread(one).file_meta.TransferSyntaxUID != dcmread(other).file_meta.TransferSyntaxUID
    assert np.array_equal(grey(one), grey(other))
