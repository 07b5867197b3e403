"""Passages of all documents."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain

from tests.support.figures import code_counts, models, similar_cases, speed
from tests.support.figures.passage import Passage


def passages_by_document() -> Mapping[str, Sequence[Passage]]:
    """Passages whose numbers have a source, by the path of their document below the root of the project."""
    found: dict[str, list[Passage]] = defaultdict(list)
    for each in chain.from_iterable(part.passages() for part in (models, similar_cases, speed, code_counts)):
        found[each.document].append(each)
    return found
