"""Splits by patient for collections that define none, derived from a hash."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping


def derived_split(collection: str, patient: str, shares: Mapping[str, int]) -> str:
    """Split of a patient: always the same, whatever else a folder holds.

    The SHA-256 digest of ``collection:patient``, as a share of the largest, is a number in [0, 1) that is
    spread evenly; it falls into one of the shares, which are laid end to end in their order.

    Parameters
    ----------
    collection
        Name of the collection, so that numbers of patients in two of them are drawn independently.
    patient
        Identifier of the patient as the collection spells it.
    shares
        Share of each split; they need not add up to 100.
    """
    digest = hashlib.sha256(f"{collection}:{patient}".encode()).digest()
    place = int.from_bytes(digest[:8], "big") * sum(shares.values()) >> 64
    for split, share in shares.items():
        if place < share:
            return split
        place -= share
    raise AssertionError("the shares cover every digest")
