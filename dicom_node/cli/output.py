"""Output of commands: figures to a file or the terminal, and messages to standard error."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.text import Text

from dicom_node.errors import ConfigurationError
from dicom_node.runtime.printable import printable

_PIPE_COLUMNS = 160


class Terminal(Console):
    """Console that prints text of others harmlessly (:func:`dicom_node.runtime.printable.printable`)."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Render a text, or a cell of a table; lines stay lines."""
        return super().render_str(_lines(text), **options)


def say(text: str) -> None:
    """Print lines to standard output, text of others in them harmlessly."""
    typer.echo(_lines(text))


def _lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def counted(number: int, singular: str, plural: str = "") -> str:
    """Return a number with its noun, such as ``1 file`` and ``2 files``; the plural has an s if not given."""
    return f"{number} {singular if number == 1 else plural or singular + 's'}"


def table_console() -> Terminal:
    """Return the console of standard output; in a pipe it is as wide as the tables."""
    console = Terminal(highlight=False)
    return console if console.is_terminal else Terminal(highlight=False, width=_PIPE_COLUMNS)


stderr_console = Terminal(stderr=True)
"""Console for messages and progress; standard output holds nothing but results."""


def check_output_targets(out: Path | None, file: Path | None) -> None:
    """Check before a long measurement that its result can be written.

    Parameters
    ----------
    out
        Folder of ``--out``; made if it is missing.
    file
        File of ``--figures``.

    Raises
    ------
    ConfigurationError
        If a folder is missing or cannot be made.
    ModuleNotFoundError
        If matplotlib is not installed.
    """
    if file is not None and not file.parent.is_dir():
        raise ConfigurationError(f"--figures {file}: there is no folder {file.parent}")
    if out is not None:
        with translated_write_errors("--out", out):
            out.mkdir(parents=True, exist_ok=True)
        import matplotlib.figure  # noqa: F401 - a missing package is reported before the measurement


def write_figures(
    figures: dict[str, Any],
    file: Path | None,
    show: Callable[[dict[str, Any]], None],
    *,
    as_json: bool = False,
) -> None:
    """Write figures to the file of ``--figures``, and print them.

    Parameters
    ----------
    figures
        Figures of a measurement.
    file
        File of ``--figures``; None to print only.
    show
        Function that prints the figures as tables.
    as_json
        True to print JSON instead.

    Raises
    ------
    ConfigurationError
        If the file cannot be written.
    """
    text = json.dumps(figures, indent=2)
    if file is not None:
        with translated_write_errors("--figures", file):
            file.write_text(text + "\n", encoding="utf-8")
    if as_json:
        typer.echo(text)
    else:
        show(figures)


@contextmanager
def translated_write_errors(option: str, path: Path) -> Iterator[None]:
    """Translate a failure to write into one sentence that names the option.

    Raises
    ------
    ConfigurationError
        If the block raised an ``OSError``.
    """
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"{option} {path}: {error.strerror}; name another place") from error
