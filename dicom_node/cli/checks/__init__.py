"""What `doctor` looks at: a module for each kind of thing, a function for each look at one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes
    ----------
    name
        What was looked at.
    ok
        True: as it must be. False: the node, as it is configured, cannot do its work. None: it can, but
        something optional is missing or could not be looked at.
    found
        What is the case.
    remedy
        What to do; empty only when `ok` is True.
    """

    name: str
    ok: bool | None
    found: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if not self.found or (self.ok is not True and not self.remedy):
            raise ValueError(f"check {self.name!r} says neither what was found nor what to do")
