"""Film traffic of the benchmarks: studies of one film each, sent to a node or to storescp."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from tests.support import factories
from tests.support.peers import StoreSCP
from tests.support.raw_association import ASSOCIATE_AC, CR, EXPLICIT, RawAssociation, data_set_of, max_pdu_of

SIDES = {"0.5 MB": (512, 488), "10 MB": (2236, 2236)}
DEFAULTS = {"study__quiet_seconds": "0", "retrieval__enabled": "true"}
REPORTS = 2
"""Reports of a study by default: its findings and its similar cases."""
PATTERNS = 4
_DIGITS = 15
_PLACE = b"2.25.1" + b"7" * 20 + b"0" * _DIGITS


class Films:
    """Films as encoded data sets, each of a study of its own."""

    def __init__(self, size: str, folder: Path) -> None:
        rows, columns = SIDES[size]
        place = _PLACE.decode()
        self._encoded = []
        for seed in range(PATTERNS):
            pixels = np.round(factories.chest(rows, columns, seed=seed) * 4095).astype(np.int64)
            uids = {
                "StudyInstanceUID": place,
                "SeriesInstanceUID": place.replace("2.25.1", "2.25.2"),
                "SOPInstanceUID": place.replace("2.25.1", "2.25.3"),
            }
            path = factories.write(factories.film(pixels=pixels, **uids), folder / f"{size}-{seed}.dcm")
            self._encoded.append(data_set_of(path))

    def film(self, number: int) -> tuple[str, bytes, bytes]:
        """Study Instance UID, SOP Instance UID and data set of one film."""
        own = _PLACE[:-_DIGITS] + b"%015d" % number
        of_instance = own.replace(b"2.25.1", b"2.25.3")
        data_set = self._encoded[number % PATTERNS].replace(_PLACE[len(b"2.25.1") :], own[len(b"2.25.1") :])
        return own.decode(), of_instance, data_set


def send(port: int, called: str, films: list[tuple[bytes, bytes]]) -> float:
    """Send films on one association; returns the time of its release."""
    with RawAssociation(port, seconds=60) as wire:
        kind, body = wire.associate([(3, CR, [EXPLICIT])], called=called, calling="BENCH")
        assert kind == ASSOCIATE_AC, body
        wire.max_pdu = max_pdu_of(body)
        for uid, data_set in films:
            assert wire.store(data_set, uid).status == 0
        wire.release()
        return time.time()


def reports(pacs: StoreSCP) -> list[Path]:
    return [path for path in pacs.files() if path.name.startswith("SR")]
