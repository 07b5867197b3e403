from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import BadInstance, StorageFailed, StorageFull
from dicom_node.store.files import Spool, data_set_offset, digest_of

META = b"\x02\x00\x10\x00UI\x04\x001.2\x00"


def part10(data_set: bytes, meta: bytes = META, preamble: bytes = bytes(128)) -> bytes:
    head = b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little")
    return preamble + b"DICM" + head + meta + data_set


def temporary(spool: Spool, content: bytes, name: str = "t") -> Path:
    path = spool.incoming / name
    path.write_bytes(content)
    return path


def test_an_adopted_file_keeps_its_bytes_and_the_temporary_stays_with_its_owner(spool: Spool) -> None:
    content = part10(b"data set")
    path = temporary(spool, content)
    stored = spool.adopt(path)
    assert spool.path(stored.name).read_bytes() == content
    assert stored.size == len(content)
    assert path.exists()


def test_the_digest_is_of_the_data_set_alone(spool: Spool) -> None:
    one = spool.adopt(temporary(spool, part10(b"same"), "one"))
    two = spool.adopt(temporary(spool, part10(b"same", META * 2, b"\x01" * 128), "two"))
    other = spool.adopt(temporary(spool, part10(b"other"), "three"))
    assert one.digest == two.digest != other.digest


def test_the_same_data_set_twice_is_one_file(spool: Spool) -> None:
    names = {spool.adopt(temporary(spool, part10(b"x"), str(n))).name for n in range(3)}
    assert set(spool.names()) == names
    assert len(names) == 1


@pytest.mark.parametrize("content", [b"", b"GET / HTTP/1.1\r\n\r\n", bytes(200), part10(b"")[:140]])
def test_what_is_no_part_10_file_is_not_kept(spool: Spool, content: bytes) -> None:
    with pytest.raises(BadInstance, match="Part 10"):
        spool.adopt(temporary(spool, content))
    assert not list(spool.names())


@given(st.binary(max_size=300))
def test_no_bytes_break_the_offset(head: bytes) -> None:
    with contextlib.suppress(BadInstance):
        assert data_set_offset(head) >= 144


def test_left_over_temporaries_are_removed_only_by_whoever_is_alone(spool: Spool) -> None:
    path = temporary(spool, b"half")
    spool.prepare()
    assert path.exists()
    spool.prepare(alone=True)
    assert not path.exists()


def test_a_spool_below_its_reserve_refuses(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "s", min_free_bytes=2**62)
    spool.prepare()
    with pytest.raises(StorageFull, match="below the reserve"):
        spool.check_room()


def test_a_missing_folder_is_a_storage_error_not_a_traceback(tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match="check the disk"):
        Spool(tmp_path / "nowhere").keep(part10(b"x"))


def test_kept_content_leaves_no_temporary(spool: Spool) -> None:
    stored = spool.keep(part10(b"result"))
    assert digest_of(spool.path(stored.name)) == stored.digest
    assert not list(spool.incoming.iterdir())
