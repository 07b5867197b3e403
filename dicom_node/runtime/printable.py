"""Text of others as one harmless piece of a line: for logs, terminals, reasons and errors."""

from __future__ import annotations

import unicodedata
from typing import Final

from dicom_node.errors import NodeError

LONGEST_SENTENCE: Final = 1000
"""Most characters of an error that is kept or shown."""

# Other (control, format such as bidirectional overrides, surrogate, private, unassigned), and separators of
# lines and paragraphs.
_HARMFUL = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, longest: int | None = None) -> str:
    r"""Return a text in which nothing can move the cursor, change the direction or begin a new line.

    Parameters
    ----------
    text
        Text from anywhere.
    longest
        Most characters; the rest is cut off, and said to be.

    Returns
    -------
    str
        The text with an escape, such as ``\x1b`` or ``\u202e``, for each control character (C0, C1, DEL),
        format character and separator of lines.
    """
    if longest is not None and len(text) > longest:
        text = text[: longest - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(_escaped(each) if unicodedata.category(each) in _HARMFUL else each for each in text)


def one_line(error: Exception) -> str:
    """Return an error as one sentence; one that the node did not raise on purpose with its type."""
    text = " ".join(str(error).split())
    text = text if isinstance(error, NodeError) else f"{type(error).__name__}: {text}"
    return printable(text, LONGEST_SENTENCE)


def _escaped(character: str) -> str:
    code = ord(character)
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
