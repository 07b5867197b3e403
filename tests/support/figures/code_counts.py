"""Passages whose numbers are counts of something in the code: docs/reliability.md."""

from __future__ import annotations

from collections.abc import Iterator

from tests.support.faulty_archive import FAULTS
from tests.support.figures.passage import Passage
from tests.support.figures.sources import counted
from tests.support.odd_destinations import ODD

_DOCUMENT = "docs/reliability.md"


def passages() -> Iterator[Passage]:
    """Passages about how many kinds of faults the tests know."""
    odd = counted(ODD, "tests/support/odd_destinations.py: ODD")
    yield Passage(_DOCUMENT, "| one destination is odd or mistyped, in any of {} ways |", (odd,))
    yield Passage(_DOCUMENT, "without other work: in each of {} ways they took", (odd,))
    faults = counted(FAULTS, "tests/support/faulty_archive.py: FAULTS")
    yield Passage(_DOCUMENT, "in each of {} ways and in all at once:", (faults,))
