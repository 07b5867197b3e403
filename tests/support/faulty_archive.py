"""Archive that makes mistakes before it answers as it should, in ways that chance chooses."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid
from pynetdicom import evt

from tests.support.archive import Archive

FAULTS = (
    "answers never",
    "answers late",
    "answers twice",
    "answers about another transaction",
    "answers another result",
    "fails a part",
    "answers earlier requests first",
    "forgets what it took",
    "refuses to be asked",
    "answers A700 to C-STORE",
    "answers 0110 to C-STORE",
    "aborts at C-STORE",
    "aborts at N-ACTION",
)
"""Ways of being faulty."""
_LONGEST_DELAY = 1.5


class FaultyArchive(Archive):
    """Archive with faults; what it promises to keep it keeps.

    Parameters
    ----------
    node
        AE title and port of the node, for reports on associations of their own.
    chosen
        Source of chance.
    faults
        Faults, of :data:`FAULTS`.
    times
        How often it makes each mistake; it makes one in half of the requests until then.
    query
        Whether it can be queried.

    Attributes
    ----------
    kept
        SOP Instance UIDs of what it holds.
    promised
        SOP Instance UIDs of what it has committed to, as far as it reported.
    digests
        SHA-256 of what came, by SOP Instance UID.
    made
        Number of mistakes of each kind.
    """

    def __init__(
        self,
        node: tuple[str, int],
        chosen: random.Random,
        faults: Sequence[str],
        times: int,
        *,
        query: bool,
    ) -> None:
        super().__init__(node=node, query=query)
        self.kept: set[str] = set()
        self.promised: set[str] = set()
        self.digests: dict[str, set[str]] = defaultdict(set)
        self.made: Counter[str] = Counter()
        self.answering = self._answer
        self._chosen = chosen
        self._faults = faults
        self._times = times
        self._held: list[Dataset] = []
        self._lock = threading.RLock()

    def _makes(self, *faults: str) -> str:
        """Return the fault that is to be made now, of some; none: an empty text."""
        with self._lock:
            possible = [each for each in faults if each in self._faults and self.made[each] < self._times]
            if not possible or self._chosen.random() < 0.5:
                return ""
            fault = self._chosen.choice(possible)
            self.made[fault] += 1
        return fault

    def _store(self, event: evt.Event) -> int:
        fault = self._makes("answers A700 to C-STORE", "answers 0110 to C-STORE", "aborts at C-STORE")
        if fault == "aborts at C-STORE":
            event.assoc.abort()
        if fault:
            return 0xA700 if "A700" in fault else 0x0110
        uid = str(event.request.AffectedSOPInstanceUID)
        content = event.request.DataSet.getvalue()
        with self._lock:
            self.stored.append(uid)
            self.kept.add(uid)
            self.digests[uid].add(hashlib.sha256(content).hexdigest())
        return 0

    def _find(self, event: evt.Event) -> Any:
        wanted = event.identifier.SOPInstanceUID
        for uid in [wanted] if isinstance(wanted, str) else wanted:
            if uid in self.kept:
                found = Dataset()
                found.QueryRetrieveLevel = "IMAGE"
                found.SOPInstanceUID = uid
                self.promised.add(uid)
                yield 0xFF00, found

    def _action(self, event: evt.Event) -> tuple[int, None]:
        fault = self._makes("refuses to be asked", "aborts at N-ACTION")
        if fault == "aborts at N-ACTION":
            event.assoc.abort()
        if fault:
            return 0x0110, None
        return super()._action(event)

    def _answer(self, event: evt.Event, request: Dataset) -> None:
        fault = self._makes(*FAULTS[:8])
        with self._lock:
            again = [*self._held]
            self._held.clear()
            self._chosen.shuffle(again)
            on_the_same = self._chosen.random() < 0.5
            delay = self._chosen.uniform(0.2, _LONGEST_DELAY) if fault == "answers late" else 0.0
        if fault == "answers never":
            return
        if fault == "answers earlier requests first":
            self._held = [request, *again]
            return
        times = 2 if fault == "answers twice" else 1
        self._later(lambda: self._report_all(event, [*again, request] * times, fault, delay, on_the_same))

    def _report_all(
        self, event: evt.Event, requests: Sequence[Dataset], fault: str, delay: float, on_the_same: bool
    ) -> None:
        time.sleep(delay)
        for request in requests:
            asked, failed = self._judged(request, fault)
            try:
                if on_the_same and request is event.action_information:
                    self._report(event.assoc, asked, failed)
                else:
                    self.report_to_node(asked, failed=failed)
            except (RuntimeError, ValueError):
                pass  # the association is over: this report is lost

    def _judged(self, request: Dataset, fault: str) -> tuple[Dataset, dict[str, int]]:
        """Request as it is answered, and Failure Reasons by SOP Instance UID."""
        asked = Dataset()
        asked.update(request)
        uids = [str(item.ReferencedSOPInstanceUID) for item in request.ReferencedSOPSequence]
        with self._lock:
            some = {uid for uid in uids if self._chosen.random() < 0.5}
            reason = self._chosen.choice([0x0110, 0x0112, 0x0213, 0x0131])
            if fault == "answers about another transaction":
                asked.TransactionUID = generate_uid()
            if fault == "answers another result":
                item = Dataset()
                item.ReferencedSOPClassUID = request.ReferencedSOPSequence[0].ReferencedSOPClassUID
                item.ReferencedSOPInstanceUID = generate_uid()
                asked.ReferencedSOPSequence = [item]
                return asked, {}
            if fault == "forgets what it took":
                self.kept -= some - self.promised
            failed = {uid: 0x0112 for uid in uids if uid not in self.kept}
            if fault == "fails a part":
                failed |= {uid: reason for uid in some if uid not in self.promised}
            if fault != "answers about another transaction":
                self.promised |= set(uids) - set(failed)
        return asked, failed
