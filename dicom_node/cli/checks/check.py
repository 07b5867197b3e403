"""Result of one check of ``doctor``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """Result of one check.

    Attributes
    ----------
    name
        Name of the thing that was checked.
    ok
        True: in order. False: the node, as it is configured, cannot do its work. None: the node can work, but
        something optional is missing or could not be checked.
    found
        State that was found.
    remedy
        Instruction that mends it; may be empty only when `ok` is True.

    Raises
    ------
    ValueError
        If `found` is empty, or a check that is not in order has no remedy.
    """

    name: str
    ok: bool | None
    found: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if not self.found or (self.ok is not True and not self.remedy):
            raise ValueError(f"check {self.name!r} says neither what was found nor what to do")


def guarded(name: str, checks: Iterable[Check]) -> Iterator[Check]:
    """Yield checks; an error that they did not foresee becomes a check that failed, and ends only these.

    Parameters
    ----------
    name
        Name of the check that failed.
    """
    try:
        yield from checks
    # Broad on purpose: a peer, or the library that talks to it, may do anything, and the others must be seen.
    except Exception as error:  # noqa: BLE001
        found = f"could not be checked: {type(error).__name__}: {error}"
        yield Check(name, ok=False, found=found, remedy="see whether it is what the settings say it is")
