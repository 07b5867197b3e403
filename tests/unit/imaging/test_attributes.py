"""Values as they are met: one that can be used, or none."""

from __future__ import annotations

import errno
import math
import threading
import warnings

import pytest
from pydicom import config
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.tag import Tag

from dicom_node.imaging import attributes
from tests.support.factories import put


def raw(keyword: str, vr: str, data: bytes) -> Dataset:
    ds = Dataset()
    tag = Tag(keyword)
    ds[tag] = RawDataElement(tag, vr, len(data), data, 0, False, True)
    return ds


def test_what_is_missing_or_empty_is_none() -> None:
    assert attributes.value(Dataset(), "PatientID") is None
    assert attributes.value(put(Dataset(), {"PatientID": ""}), "PatientID") is None
    assert attributes.text(Dataset(), "PatientID") == ""
    assert attributes.texts(Dataset(), "ImageType") == []
    assert attributes.numbers(Dataset(), "WindowCenter") == []
    assert attributes.items(Dataset(), "SourceImageSequence") == []


def test_values_come_in_order_without_their_padding() -> None:
    ds = put(Dataset(), {"ImageType": ["DERIVED ", "", "PRIMARY\0"], "WindowCenter": ["1.5", "2"]})
    assert attributes.texts(ds, "ImageType") == ["DERIVED", "", "PRIMARY"]
    assert attributes.numbers(ds, "WindowCenter") == [1.5, 2.0]
    assert attributes.numbers(put(Dataset(), {"Rows": 7}), "Rows") == [7.0]


@pytest.mark.parametrize(
    ("keyword", "vr", "data"),
    [
        ("WindowCenter", "DS", b"abc "),
        ("NumberOfFrames", "IS", b"many"),
        ("Rows", "US", b"\1"),
        ("SourceImageSequence", "SQ", b"\xfe\xff\0\xe0\xff"),
        ("PatientName", "PN", b"\x1b$B\xff\xff^\x1b(Z"),
        ("StudyDate", "DA", b"\xff\xfe\xfd\0"),
    ],
)
def test_malformed_values_never_raise_or_warn(keyword: str, vr: str, data: bytes) -> None:
    for read in (attributes.value, attributes.text, attributes.texts, attributes.numbers, attributes.items):
        read(raw(keyword, vr, data), keyword)


def test_a_number_that_is_none_is_not_a_number() -> None:
    assert all(map(math.isnan, attributes.numbers(put(Dataset(), {"ImageType": ["A", "B"]}), "ImageType")))


def test_bytes_of_an_ambiguous_vr_are_read_as_unsigned_words() -> None:
    assert attributes.numbers(raw("LUTDescriptor", "OW", b"\0\1\2\0\x10\0"), "LUTDescriptor") == [256, 2, 16]


def test_tolerance_ends() -> None:
    modes = (config.settings.reading_validation_mode, config.settings.writing_validation_mode)
    filters = list(warnings.filters)
    with attributes.tolerance():
        pass
    assert (config.settings.reading_validation_mode, config.settings.writing_validation_mode) == modes
    assert list(warnings.filters) == filters


def test_threads_that_read_at_once_leave_no_trace() -> None:
    modes = (config.settings.reading_validation_mode, config.settings.writing_validation_mode)
    filters = list(warnings.filters)
    ds = put(Dataset(), {"PatientAge": "62", "PatientName": "a" * 99})

    def work() -> None:
        for _ in range(300):
            attributes.texts(ds, "PatientAge")

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (config.settings.reading_validation_mode, config.settings.writing_validation_mode) == modes
    assert list(warnings.filters) == filters


def test_bytes_that_pydicom_cannot_follow_are_malformed_and_errors_of_the_disk_are_not() -> None:
    with pytest.raises(InvalidDicomError, match="no tag"), attributes.tolerance():
        raise OSError("no tag to read at file position 29D0")
    with pytest.raises(PermissionError), attributes.tolerance():
        raise PermissionError(errno.EACCES, "Permission denied")
    with attributes.tolerance():
        assert config.settings.reading_validation_mode == config.IGNORE  # it is counted out after an error
