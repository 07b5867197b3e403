"""Steps of a reception under load: each in its order, and a kill at any of them loses nothing."""

from __future__ import annotations

import os
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from dicom_node.config.data_dir import DataDir
from dicom_node.dimse.server.messages import DimseRequest, MessageExchange
from dicom_node.store import files
from dicom_node.store.audit import IndexQueries
from dicom_node.store.files import digest_of
from dicom_node.store.index import Index
from dicom_node.store.received_instances import ReceivedInstance
from tests.support.film_file import FilmFile
from tests.support.film_senders import assert_all_kept, load
from tests.support.killed_scp_child import STEPS, KilledScpProcesses
from tests.support.peers import until
from tests.support.receiver import Receiver
from tests.support.scp_processes import ScpProcesses

MakeFilm = Callable[..., FilmFile]


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_of_a_reception_loses_nothing_and_leaves_nothing_half(
    tmp_path: Path, film: MakeFilm, step: str
) -> None:
    small = film(rows=64, columns=64)
    with KilledScpProcesses(tmp_path, step) as scp:
        with load(scp.port, small) as senders:
            until(lambda: sum(len(each.acknowledged) for each in senders) > 12, 60, "load")
            scp.flag.touch()
            scp.processes[0].wait(30)
            for sender in senders:
                sender.join(20)
        acknowledged = [uid for sender in senders for uid in sender.acknowledged]
    assert_all_kept(scp.settings, acknowledged)
    # The node goes on where it was, and takes what was not acknowledged.
    with ScpProcesses(tmp_path, count=1) as again:
        spool = DataDir(again.settings).spool
        assert not list(spool.incoming.iterdir())
        with load(again.port, small) as senders:
            until(
                lambda: all(len(each.acknowledged) > 12 for each in senders), 60, "what was cut off is taken"
            )
        acknowledged += [uid for sender in senders for uid in sender.acknowledged]
    assert_all_kept(scp.settings, acknowledged)
    assert all(Path(name).stem == digest_of(spool.path(name)) for name in spool.names())
    index = Index.open(scp.settings.database)
    audit = IndexQueries(index.engine).audit(spool, DataDir(scp.settings).results, read_files=True)
    index.close()
    assert audit.conserved, audit.violations


def test_every_film_of_a_group_is_synced_placed_committed_and_answered_in_this_order(
    tmp_path: Path, film: MakeFilm, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[str, str]] = []
    synced: set[Path] = set()
    placed: list[Path] = []
    sizes: list[int] = []
    lock = threading.Lock()

    def note(what: str, *names: str) -> None:
        with lock:
            steps.extend((what, name) for name in names)

    def watch(owner: Any, name: str, note_it: Callable[..., None], *, begins: bool = False) -> None:
        function = getattr(owner, name)

        def watched(*args: Any, **options: Any) -> Any:
            if begins:
                note_it(*args)
            outcome = function(*args, **options)
            if not begins:
                note_it(*args)
            return outcome

        monkeypatch.setattr(owner, name, watched)

    def note_placed(source: Path, target: Path) -> None:
        note("synced" if source in synced else "not synced", target.name)
        note("placed", target.name)
        placed.append(target)

    def note_committed(_: Index, group: Sequence[ReceivedInstance]) -> None:
        note("committed", *(Path(each.file).name for each in group))
        sizes.append(len(group))

    def note_answered(_: MessageExchange, request: DimseRequest, *__: object) -> None:
        note("answered", request.sop_instance_uid)

    watch(files, "_sync_file", synced.add)
    watch(os, "link", note_placed)
    # Only what was placed before a sync of its folder begins is durable after it.
    watch(
        files,
        "sync_folder",
        lambda folder: note("folder synced", *(each.name for each in [*placed] if each.parent == folder)),
        begins=True,
    )
    watch(Index, "_add", note_committed)
    with Receiver(tmp_path / "receiver") as receiver:
        watch(MessageExchange, "answer", note_answered, begins=True)
        with load(receiver.port, film(rows=64, columns=64), 8) as senders:
            until(lambda: all(len(each.acknowledged) > 20 for each in senders), 60, "load")
        rows = receiver.instances()
    names = {row["sop_instance_uid"]: Path(row["file"]).name for row in rows}
    order: defaultdict[str, list[str]] = defaultdict(list)
    for what, name in steps:
        kept = order[names.get(name, name)]
        if what not in kept:
            kept.append(what)
    assert order
    expected = ["synced", "placed", "folder synced", "committed", "answered"]
    assert [each for each in order.values() if each != expected] == []
    assert max(sizes) > 1  # there were groups
