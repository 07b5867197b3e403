"""Deliveries to archives that make mistakes before they are as they should be."""

from __future__ import annotations

import contextlib
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage

from dicom_node.store.states import ResultState
from tests.support.faulty_archive import FaultyArchive
from tests.support.odd_destinations import Deliveries
from tests.support.peers import until
from tests.support.receiver import Receiver

_SECONDS = 300


def deliver_to_faulty_archives(
    folder: Path, archives: int, results: int, seed: int, faults: Sequence[str], times: int
) -> str:
    """Deliver results to archives with faults; assert that what is confirmed is what they promised and hold.

    Parameters
    ----------
    archives
        Number of archives; every second one can be queried too.
    results
        Number of results for each archive, reports and pictures in turn.
    times
        How often each archive makes each mistake.

    Returns
    -------
    str
        What was counted, in one line.
    """
    chosen = random.Random(seed)
    with contextlib.ExitStack() as stack:
        receiver = stack.enter_context(Receiver(folder / "receiver"))
        node = ("DICOM_NODE", receiver.port)
        peers = {
            f"archive-{number}": stack.enter_context(
                FaultyArchive(node, random.Random(chosen.random()), faults, times, query=number % 2 == 0)
            )
            for number in range(archives)
        }
        deliveries = Deliveries(
            folder,
            receiver.index,
            [{**each.destination, "name": name} for name, each in peers.items()],
            results,
            (ComprehensiveSRStorage, SecondaryCaptureImageStorage),
            backoff_seconds=0.02,
            backoff_cap_seconds=1,
            commitment_seconds=1,
            response_seconds=10,
            connect_seconds=10,
        )

        def all_confirmed() -> bool:
            return deliveries.all_are(ResultState.CONFIRMED)

        with deliveries:
            until(all_confirmed, _SECONDS, "all are confirmed")
        made: Counter[str] = Counter()
        for name, each in peers.items():
            assert set(deliveries.uids) == each.promised & each.kept, name
            assert all(len(digests) == 1 for digests in each.digests.values()), name
            made.update(each.made)
        sent = sum(len(each.stored) for each in peers.values())
        asked = sum(len(each.requests) for each in peers.values())
        return (
            f"{faults[0] if len(faults) == 1 else 'all faults'}: {archives * results} deliveries confirmed, "
            f"{sent} sent, {asked} requests for commitment, mistakes: {dict(made)}"
        )
