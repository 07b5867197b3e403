"""Group commit by itself: who leads, who waits, and whose outcome is whose."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.errors import StorageFailed
from dicom_node.store.group_commit import GroupCommit
from tests.support.peers import until


class Disk:
    """Commit that can be held up; notes its groups, and refuses negative numbers."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()
        self._alone = threading.Lock()

    def commit(self, items: Sequence[int]) -> list[int | Exception]:
        assert self._alone.acquire(blocking=False), "two commits at once"
        self.groups.append([*items])
        assert self.free.wait(20)
        self._alone.release()
        return [ValueError(item) if item < 0 else item * 2 for item in items]


@pytest.fixture
def disk() -> Disk:
    return Disk()


def handed_in(commits: GroupCommit[int, int], count: int) -> bool:
    return len(commits._waiting) == count


def held_up(
    pool: ThreadPoolExecutor, disk: Disk, commits: GroupCommit[int, int], *items: int
) -> list[Future[int]]:
    """Hand in items one after another, the first of which is being committed."""
    disk.free.clear()
    futures = [pool.submit(commits.commit, items[0])]
    until(lambda: bool(disk.groups), 20, "the first is being committed")
    for count, item in enumerate(items[1:], start=1):
        futures.append(pool.submit(commits.commit, item))
        until(lambda count=count: handed_in(commits, count), 20, "the next waits")  # type: ignore[misc]
    return futures


def test_a_lone_item_is_committed_at_once_by_its_own_thread(disk: Disk) -> None:
    threads: list[threading.Thread] = []

    def commit(items: Sequence[int]) -> list[int | Exception]:
        threads.append(threading.current_thread())
        return disk.commit(items)

    commits = GroupCommit(commit)
    assert [commits.commit(1), commits.commit(2)] == [2, 4]
    assert disk.groups == [[1], [2]]
    assert threads == [threading.current_thread()] * 2


def test_who_comes_during_a_commit_is_in_the_next_one_in_order(disk: Disk) -> None:
    commits = GroupCommit(disk.commit)
    with ThreadPoolExecutor(8) as pool:
        futures = held_up(pool, disk, commits, 1, 2, 3, 4)
        disk.free.set()
        assert [future.result(20) for future in futures] == [2, 4, 6, 8]
    assert disk.groups == [[1], [2, 3, 4]]


def test_a_group_has_an_end_and_the_rest_is_the_next(disk: Disk) -> None:
    commits = GroupCommit(disk.commit, largest=2)
    with ThreadPoolExecutor(8) as pool:
        futures = held_up(pool, disk, commits, 1, 2, 3, 4)
        disk.free.set()
        assert [future.result(20) for future in futures] == [2, 4, 6, 8]
    assert disk.groups == [[1], [2, 3], [4]]


def test_an_item_that_is_refused_fails_alone(disk: Disk) -> None:
    commits = GroupCommit(disk.commit)
    with ThreadPoolExecutor(8) as pool:
        first, bad, good = held_up(pool, disk, commits, 1, -2, 3)
        disk.free.set()
        assert (first.result(20), good.result(20)) == (2, 6)
        with pytest.raises(ValueError, match="-2"):
            bad.result(20)


@pytest.mark.parametrize("error", [StorageFailed("no disk"), SystemExit(1)])
def test_a_commit_that_fails_acknowledges_nobody_and_the_next_goes_on(
    disk: Disk, error: BaseException
) -> None:
    def commit(items: Sequence[int]) -> list[int | Exception]:
        outcomes = disk.commit(items)
        if 2 in items:
            raise error
        return outcomes

    commits = GroupCommit(commit)
    with ThreadPoolExecutor(8) as pool:
        first, *failed = held_up(pool, disk, commits, 1, 2, 3)
        disk.free.set()
        assert first.result(20) == 2
        for future in failed:
            with pytest.raises((StorageFailed, SystemExit)):
                future.result(20)
    assert commits.commit(4) == 8


def test_a_commit_that_forgets_an_item_acknowledges_nobody() -> None:
    with pytest.raises(ValueError, match="zip"):
        GroupCommit[int, int](lambda _: []).commit(1)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.lists(st.integers(-50, 50), max_size=6), min_size=1, max_size=6),
    st.integers(1, 5),
)
def test_each_item_is_committed_once_and_its_thread_gets_its_outcome(
    items: list[list[int]], largest: int
) -> None:
    disk = Disk()
    commits = GroupCommit(disk.commit, largest)
    begun = threading.Barrier(len(items))

    def hand_in(own: list[int]) -> None:
        begun.wait(20)
        for item in own:
            if item < 0:
                with pytest.raises(ValueError, match=f"^{item}$"):
                    commits.commit(item)
            else:
                assert commits.commit(item) == item * 2

    with ThreadPoolExecutor(len(items)) as pool:
        list(pool.map(hand_in, items))
    assert sorted(chain(*disk.groups)) == sorted(chain(*items))
    assert all(len(group) <= largest for group in disk.groups)
    assert not commits._waiting
