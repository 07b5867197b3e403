from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import BadInstance, StorageFailed, StorageFull
from dicom_node.store import files
from dicom_node.store.files import Spool, data_set_offset, digest_of
from tests.support.part10 import META, part10


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


def _damaged(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "missing":
        path.unlink()
    elif how == "unreadable":
        path.unlink()
        path.mkdir()
        path.rmdir()
        path.symlink_to(path.name)  # a loop: opening it fails with ELOOP
    else:
        flipped = bytearray(content)
        flipped[-1] ^= 0x40
        meta = content.replace(b"1.2\0", b"1.3\0", 1)
        path.write_bytes(
            {
                "truncated": content[:-3],
                "cut in its head": content[:100],
                "empty": b"",
                "zeroed": bytes(len(content)),
                "flipped": bytes(flipped),
                "longer": content + b"\0\0",
                "flipped in its transfer syntax": meta,
            }[how]
        )


@pytest.mark.parametrize(
    "how",
    [
        "missing", "unreadable", "truncated", "cut in its head", "empty", "zeroed", "flipped", "longer",
        "flipped in its transfer syntax",
    ],
)  # fmt: skip
def test_a_damaged_file_is_replaced_when_the_same_data_set_comes_again(spool: Spool, how: str) -> None:
    content = part10(b"data set" * 20)
    first = spool.adopt(temporary(spool, content, "one"))
    assert first.placed_at > 0
    path = spool.path(first.name)
    _damaged(path, how)
    again = spool.adopt(temporary(spool, content, "two"))
    assert (again.name, again.placed_at > 0) == (first.name, True)
    assert path.read_bytes() == content
    assert sorted(entry.name for entry in spool.incoming.iterdir()) == ["one", "two"]


def test_an_intact_file_is_left_alone(spool: Spool) -> None:
    first = spool.adopt(temporary(spool, part10(b"x"), "one"))
    inode = spool.path(first.name).stat().st_ino
    again = spool.adopt(temporary(spool, part10(b"x"), "two"))
    assert again.placed_at == 0
    assert spool.path(first.name).stat().st_ino == inode


@pytest.mark.parametrize("step", ["damage", "described", "_sync_file"])
def test_a_file_that_a_purge_removes_while_it_is_compared_is_placed_again(
    spool: Spool, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = part10(b"x")
    target = spool.path(spool.adopt(temporary(spool, content, "one")).name)
    undisturbed = getattr(files, step)

    def purged_before(path: Path, *rest: object) -> object:
        if path == target:
            target.unlink(missing_ok=True)
        return undisturbed(path, *rest)

    monkeypatch.setattr(files, step, purged_before)
    assert spool.adopt(temporary(spool, content, "two")).placed_at > 0
    assert target.read_bytes() == content
