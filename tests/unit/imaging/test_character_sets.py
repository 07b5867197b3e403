"""Text of received headers, in the sets of PS3.5 annexes H to K and in what devices write instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_node.imaging import attributes
from dicom_node.imaging.character_sets import correct_text, normalized_term
from dicom_node.imaging.pixels import read_header
from dicom_node.results.encoding import header
from dicom_node.results.encoding.part10 import encoded
from tests.support.factories import film, put

E = b"\x1b"
NAME = Tag(0x00100010)


def named(declared: str | list[str] | None, name: bytes) -> Dataset:
    """Header with a name as it would be read from a file."""
    ds = Dataset()
    if declared is not None:
        put(ds, {"SpecificCharacterSet": declared})
    ds[NAME] = RawDataElement(NAME, "PN", len(name), name, 0, False, True)
    return ds


def written(ds: Dataset) -> tuple[str, list[str]]:
    """Patient's name of a result of this source, and the character set that it is written in."""
    name = header.copied(correct_text(ds))["PatientName"]
    return name, header.character_set(ds, [name])


@pytest.mark.parametrize(
    ("declared", "name", "text"),
    [
        (
            ["", "ISO 2022 IR 87"],
            b"Yamada^Tarou=" + E + b"$B;3ED" + E + b"(B^" + E + b"$BB@O:" + E + b"(B="
            + E + b"$B$d$^$@" + E + b"(B^" + E + b"$B$?$m$&" + E + b"(B",
            "Yamada^Tarou=山田^太郎=やまだ^たろう",
        ),
        (
            ["ISO 2022 IR 13", "ISO 2022 IR 87"],
            b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=" + E + b"$B;3ED" + E + b"(J^" + E + b"$BB@O:" + E + b"(J="
            + E + b"$B$d$^$@" + E + b"(J^" + E + b"$B$?$m$&" + E + b"(J",
            "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        ),
        (
            ["", "ISO 2022 IR 149"],
            b"Hong^Gildong=" + E + b"$)C\xfb\xf3^" + E + b"$)C\xd1\xce\xd4\xd7="
            + E + b"$)C\xc8\xab^" + E + b"$)C\xb1\xe6\xb5\xbf",
            "Hong^Gildong=洪^吉洞=홍^길동",
        ),
        (["", "ISO 2022 IR 87", "ISO 2022 IR 159"], b"Test=" + E + b"$(D0!" + E + b"(B", "Test=丂"),
        (
            ["ISO 2022 IR 6", "ISO 2022 IR 100", "ISO 2022 IR 144"],
            b"Buc^J" + E + b"-A\xe9r\xf4me=" + E + b"-L\xbb\xee",
            "Buc^Jérôme=Лю",
        ),
        ("ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
        ("GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
        ("ISO_IR 100", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        ("ISO_IR 144", "Люк^Иван".encode("iso8859_5"), "Люк^Иван"),
        (["", "ISO 2022 IR 87"], b"=" + E + b"$B;3ED" + E + b"(B^" + E + b"$BB@O:" + E + b"(B", "=山田^太郎"),
    ],
    ids=["H.3.1", "H.3.2", "I.2", "159", "100 and 144", "J.1", "J.3", "100", "144", "ideographic only"],
)  # fmt: skip
def test_a_set_that_is_declared_rightly_is_read_and_kept(
    declared: str | list[str], name: bytes, text: str
) -> None:
    terms = [declared] if isinstance(declared, str) else declared
    assert written(named(declared, name)) == (text, terms)


@pytest.mark.parametrize(
    ("declared", "name", "text"),
    [
        (
            ["", "ISO 2022 IR 58"],
            b"Zhang^XiaoDong=" + E + b"$)A\xd5\xc5^" + E + b"$)A\xd0\xa1\xb6\xab=",
            "Zhang^XiaoDong=张^小东",
        ),
        ("ISO_IR 203", "Œuvre^Šar€".encode("iso8859_15"), "Œuvre^Šar€"),
        ("ISO_IR 100", "Müller^Jörg".encode(), "Müller^Jörg"),
        ("ISO 2022 IR 6", "Müller^Jörg".encode(), "Müller^Jörg"),
        (None, "Müller^Jörg".encode(), "Müller^Jörg"),
        ("ISO_IR 100", "Šimon^“x”".encode("cp1252"), "Šimon^“x”"),
        ("ISO_IR 192", "Müller^Jörg".encode("latin-1"), "Müller^Jörg"),
        ("ISO_IR_192", "Müller^Jörg".encode(), "Müller^Jörg"),
        ("UTF-8", "Müller^Jörg".encode(), "Müller^Jörg"),
        ("nonsense", "Müller^Jörg".encode(), "Müller^Jörg"),
    ],
)
def test_a_set_that_is_declared_wrongly_is_known_by_its_bytes(
    declared: str | list[str] | None, name: bytes, text: str
) -> None:
    assert written(named(declared, name)) == (text, ["ISO_IR 192"])


def test_katakana_that_would_be_utf_8_too_are_katakana() -> None:
    # pydicom cannot write them alone, so that the result is in UTF-8.
    assert written(named("ISO_IR 13", b"\xc4\xb2^\xc0\xb3")) == ("ﾄｲ^ﾀｳ", ["ISO_IR 192"])


def test_bytes_of_no_set_are_kept() -> None:
    name, terms = written(named("ISO_IR 100", b"M\x81ller^J\xf6rg"))
    assert name.encode("latin-1") == b"M\x81ller^J\xf6rg"
    assert terms == ["ISO_IR 100"]


def test_items_of_sequences_are_corrected_with_the_text_around_them() -> None:
    ds, item = named("ISO_IR 100", "Müller".encode()), Dataset()
    tag, meaning = Tag(0x00080104), "Übersicht".encode()
    item[tag] = RawDataElement(tag, "LO", len(meaning), meaning, 0, False, True)
    ds.ProcedureCodeSequence = Sequence([item])
    correct_text(ds)
    assert attributes.text(ds.ProcedureCodeSequence[0], "CodeMeaning") == "Übersicht"


def test_a_file_is_read_by_its_bytes(tmp_path: Path) -> None:
    data = encoded(film(patient_name="Müller^Jörg", character_set="ISO_IR 192"))
    path = tmp_path / "film.dcm"
    path.write_bytes(data.replace(b"ISO_IR 192", b"ISO_IR 100"))
    assert attributes.text(read_header(path), "PatientName") == "Müller^Jörg"


@pytest.mark.parametrize(
    ("found", "meant"),
    [
        ("ISO_IR_192", "ISO_IR 192"),
        ("ISO IR 100", "ISO_IR 100"),
        ("iso_ir 100", "ISO_IR 100"),
        ("ISO-2022-IR-87", "ISO 2022 IR 87"),
        ("utf-8", "ISO_IR 192"),
        ("GB18030", "GB18030"),
        ("", ""),
    ],
)
def test_the_spelling_of_terms_is_repaired(found: str, meant: str) -> None:
    assert normalized_term(found) == meant
