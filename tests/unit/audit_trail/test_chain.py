"""Chain of the audit trail: what was done to its files is found, and several writers make one chain."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.audit_trail.chain import AuditChain
from dicom_node.audit_trail.entry import ORIGIN, Entry
from dicom_node.errors import StorageFailed
from dicom_node.store.audit_trail_head import AuditTrailHead
from dicom_node.store.index import Index
from tests.support.clock import Clock
from tests.support.peers import ROOT

DAY = 86400.0


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index.open(f"sqlite:///{tmp_path / 'index.sqlite'}")
    yield index
    index.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def chain(tmp_path: Path, index: Index, clock: Clock) -> AuditChain:
    return AuditChain(tmp_path / "audit", AuditTrailHead(index.engine), clock=clock)


def files(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "audit").glob("*.jsonl"))


def lines(tmp_path: Path) -> list[bytes]:
    (path,) = files(tmp_path)
    return path.read_bytes().splitlines(keepends=True)


def test_an_entry_is_chained_to_the_one_before(chain: AuditChain) -> None:
    chain.append(["<a/>", "<b/>"])
    chain.append(["<c/>"])
    first, second, third = chain.entries()
    assert [each.number for each in (first, second, third)] == [1, 2, 3]
    assert [first.previous, second.previous, third.previous] == [ORIGIN.hash, first.hash, second.hash]
    assert all(each.intact for each in (first, second, third))
    found = chain.verify()
    assert (found.entries, [*found.problems]) == (3, [])
    assert [each.number for each in chain.entries(after=2)] == [3]


def test_files_and_folder_are_for_this_user_only(chain: AuditChain, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        chain.append(["<a/>"])
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "audit").stat().st_mode) == 0o700
    for path in (tmp_path / "audit").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def changed(text: list[bytes]) -> list[bytes]:
    return [text[0], text[1].replace(b"<m1/>", b"<m9/>"), *text[2:]]


def rehashed(text: list[bytes]) -> list[bytes]:
    """Change an entry and give it the hash of its new content."""
    entry = Entry.parse(text[1])
    new = Entry.after(Entry.parse(text[0]).link, entry.message.replace("m1", "m9"))
    return [text[0], new.line, *text[2:]]


def rebuilt(text: list[bytes]) -> list[bytes]:
    """Change an entry and give every later one a new hash."""
    link, out = ORIGIN, []
    for line in text:
        entry = Entry.after(link, Entry.parse(line).message.replace("m1", "m9"))
        out.append(entry.line)
        link = entry.link
    return out


@pytest.mark.parametrize(
    ("attack", "sentence"),
    [
        (changed, "line 2: entry 2 was changed"),
        (rehashed, "line 3: entry 3 does not follow from the one before it"),
        (rebuilt, "line 5: entry 5 is not the one that the index recorded"),
        (lambda text: [text[0], *text[2:]], "line 2: entries 2 to 2 are missing"),
        (lambda text: text[2:], "line 1: entries 1 to 2 are missing"),
        (lambda text: text[:-1], "the end: entries 5 to 5 are missing"),
        (lambda text: [], "the end: entries 1 to 5 are missing"),
        (lambda text: [text[0], text[2], text[1], *text[3:]], "line 3: entry 2 stands after entry 3"),
        (lambda text: [*text, text[-1]], "line 6: entry 5 stands after entry 5"),
        (lambda text: [*text[:-1], text[-1][:-20]], "line 5: the line is no entry"),
        (lambda text: [text[0], b"nonsense\n", *text[2:]], "line 2: the line is no entry"),
        (lambda text: [text[0], b"[" * 100_000 + b"\n", *text[1:]], "line 2: the line is no entry"),
    ],
)
def test_what_was_done_to_the_file_is_found(
    chain: AuditChain, tmp_path: Path, attack: Callable[[list[bytes]], list[bytes]], sentence: str
) -> None:
    chain.append([f"<m{number}/>" for number in range(5)])
    before = lines(tmp_path)
    files(tmp_path)[0].write_bytes(b"".join(attack(before)))
    problems = chain.verify().problems
    assert any(sentence in each for each in problems), problems


@pytest.mark.parametrize("keep", [0, 2])
@pytest.mark.parametrize("fresh", [True, False])
def test_entries_that_were_cut_off_stay_missing_when_the_trail_goes_on(
    chain: AuditChain, tmp_path: Path, index: Index, clock: Clock, keep: int, fresh: bool
) -> None:
    chain.append([f"<m{number}/>" for number in range(5)])
    files(tmp_path)[0].write_bytes(b"".join(lines(tmp_path)[:keep]))
    writer = AuditChain(tmp_path / "audit", AuditTrailHead(index.engine), clock=clock) if fresh else chain
    writer.append(["<later/>"])
    assert any(f"entries {keep + 1} to 5 are missing" in each for each in chain.verify().problems)


def test_a_removed_file_is_found(chain: AuditChain, tmp_path: Path, clock: Clock) -> None:
    for _ in range(3):
        chain.append(["<a/>", "<b/>"])
        clock.now += DAY
    assert len(files(tmp_path)) == 3
    assert not chain.verify().problems
    files(tmp_path)[1].unlink()
    assert any("entries 3 to 4 are missing" in each for each in chain.verify().problems)


def test_a_new_file_begins_with_each_day_and_when_one_is_full(
    tmp_path: Path, index: Index, clock: Clock
) -> None:
    chain = AuditChain(tmp_path / "audit", AuditTrailHead(index.engine), 1000, clock)
    for _ in range(9):
        chain.append(["<m>" + "x" * 300 + "</m>"])
    clock.now += DAY
    chain.append(["<next day/>"])
    assert [path.name[:12] for path in files(tmp_path)] == [
        f"{number:012d}" for number in (1, 4, 7, 10)
    ] or len(files(tmp_path)) >= 4
    assert all(path.stat().st_size < 2000 for path in files(tmp_path))
    assert (chain.verify().entries, [*chain.verify().problems]) == (10, [])
    assert [each.number for each in chain.entries(after=5)] == [6, 7, 8, 9, 10]


def test_the_unfinished_line_of_a_killed_writer_harms_nothing(
    chain: AuditChain, tmp_path: Path, index: Index, clock: Clock
) -> None:
    chain.append(["<a/>"])
    with files(tmp_path)[0].open("ab") as stream:
        stream.write(b'{"number": 2, "prev')
    other = AuditChain(tmp_path / "audit", AuditTrailHead(index.engine), clock=clock)
    other.append(["<b/>"])
    assert (other.verify().entries, [*other.verify().problems]) == (2, [])


def test_a_write_without_room_leaves_nothing_behind(
    chain: AuditChain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.append(["<a/>"])
    before = files(tmp_path)[0].read_bytes()

    def full(descriptor: int, content: memoryview) -> int:
        write(descriptor, bytes(content[:10]))
        raise OSError(28, "No space left on device")

    write = os.write
    monkeypatch.setattr(os, "write", full)
    with pytest.raises(Exception, match="No space left"):
        chain.append(["<b/>"])
    monkeypatch.undo()
    assert files(tmp_path)[0].read_bytes() == before
    chain.append(["<c/>"])
    assert (chain.verify().entries, [*chain.verify().problems]) == (2, [])


def test_the_trail_goes_on_while_the_index_is_away_and_is_then_recorded(
    tmp_path: Path, index: Index, clock: Clock
) -> None:
    head = AuditTrailHead(index.engine)

    class Away(AuditTrailHead):
        away = False

        def read(self):
            return self._checked(super().read)

        def record(self, record):
            self._checked(lambda: super(Away, self).record(record))

        def _checked(self, act):
            if self.away:
                raise StorageFailed("database: away")
            return act()

    flaky = Away(index.engine)
    chain = AuditChain(tmp_path / "audit", flaky, clock=clock)
    chain.append(["<a/>"])
    flaky.away = True
    chain.append(["<b/>"])
    assert head.read().number == 1
    flaky.away = False
    chain.append(["<c/>"])
    assert head.read().number == 3
    assert not chain.verify().problems


def test_an_index_made_anew_takes_up_the_trail(chain: AuditChain, tmp_path: Path, clock: Clock) -> None:
    chain.append(["<a/>", "<b/>"])
    new = Index.open(f"sqlite:///{tmp_path / 'new.sqlite'}")
    again = AuditChain(tmp_path / "audit", AuditTrailHead(new.engine), clock=clock)
    assert "does not know the trail" in again.verify().problems[0]
    again.append(["<c/>"])
    assert (again.verify().entries, [*again.verify().problems]) == (3, [])
    new.close()


def test_purged_files_are_not_missing_but_others_are(chain: AuditChain, tmp_path: Path, clock: Clock) -> None:
    for _ in range(4):
        chain.append(["<a/>", "<b/>"])
        clock.now += DAY
    assert chain.purge(clock.now - 2 * DAY) == 4
    assert len(files(tmp_path)) == 2
    chain.append(["<c/>"])
    assert (chain.verify().entries, [*chain.verify().problems]) == (5, [])
    files(tmp_path)[0].unlink()
    assert any("entries 5 to 6 are missing" in each for each in chain.verify().problems)


def test_a_purge_keeps_the_newest_file(chain: AuditChain, tmp_path: Path, clock: Clock) -> None:
    chain.append(["<a/>"])
    assert chain.purge(clock.now + 100 * DAY) == 0
    assert len(files(tmp_path)) == 1


_WRITER = """
import sys
from pathlib import Path
from dicom_node.audit_trail.chain import AuditChain
from dicom_node.store.audit_trail_head import AuditTrailHead
from dicom_node.store.index import Index
index = Index.open(sys.argv[1])
chain = AuditChain(Path(sys.argv[2]), AuditTrailHead(index.engine), 4000)
for number in range(25):
    chain.append([f"<m{sys.argv[3]}-{number}/>"])
"""


def test_several_processes_write_one_chain(tmp_path: Path, index: Index, chain: AuditChain) -> None:
    writers = [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                _WRITER,
                index.engine.url.render_as_string(),
                str(tmp_path / "audit"),
                str(n),
            ],
            cwd=ROOT,
        )
        for n in range(3)
    ]
    assert [each.wait(120) for each in writers] == [0, 0, 0]
    found = chain.verify()
    assert (found.entries, [*found.problems]) == (75, [])
    assert len({entry.message for entry in chain.entries()}) == 75


def test_a_line_is_json_for_other_programs(chain: AuditChain, tmp_path: Path) -> None:
    chain.append(["<a>ä</a>"])
    found = json.loads(lines(tmp_path)[0])
    assert set(found) == {"number", "previous", "hash", "message"}
