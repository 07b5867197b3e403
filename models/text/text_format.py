"""Text format of a bundle: truncation and padding of the texts that its network reads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TextFormat:
    """Truncation and padding of texts: a part of ``[inputs]`` in ``bundle.toml``.

    Attributes
    ----------
    max_length
        Tokens, special ones included; a longer text loses its end.
    pad_id
        Id that fills up shorter rows.

    Raises
    ------
    ValueError
        If a number is out of range.
    """

    max_length: int
    pad_id: int

    def __post_init__(self) -> None:
        if type(self.max_length) is not int or self.max_length < 3:
            raise ValueError(f"inputs.max_length {self.max_length!r} is no whole number of 3 or more")
        if type(self.pad_id) is not int or self.pad_id < 0:
            raise ValueError(f"inputs.pad_id {self.pad_id!r} is no whole number of 0 or more")
