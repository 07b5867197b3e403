"""Storage SCP (pynetdicom) with scripted answers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity

from tests.support.raw_association import CR


class ScriptedPeer:
    """Storage SCP that answers with the given statuses in order, the last one for ever.

    Attributes
    ----------
    associations, requests
        Number of associations and of C-STORE requests so far.
    hang
        When set, requests are not answered.
    """

    def __init__(self, statuses: Sequence[int]) -> None:
        self.statuses = list(statuses)
        self.associations = 0
        self.requests = 0
        self.port = 0
        self.hang = threading.Event()

    def store(self, event: evt.Event) -> int:
        self.requests += 1
        if self.hang.is_set():
            event.assoc.dul.to_user_queue.get(timeout=30)  # until the peer gives up
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def accepted(self, _: evt.Event) -> None:
        self.associations += 1


@contextmanager
def scripted_peer(
    *statuses: int, classes: Sequence[str] = (CR,), syntaxes: Sequence[str] = (ExplicitVRLittleEndian,)
) -> Iterator[ScriptedPeer]:
    """Run a peer on a free port until the end of the block; without statuses it answers Success."""
    peer = ScriptedPeer(statuses or (0,))
    ae = ApplicationEntity("PEER")
    for sop_class in classes:
        ae.add_supported_context(sop_class, list(syntaxes))
    handlers = [(evt.EVT_C_STORE, peer.store), (evt.EVT_ACCEPTED, peer.accepted)]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=handlers)
    peer.port = server.server_address[1]
    try:
        yield peer
    finally:
        peer.hang.clear()
        server.shutdown()
        ae.shutdown()
