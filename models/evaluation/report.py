"""Evaluation report: a folder with metrics as JSON, tables as Markdown, and a page with plots."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.evaluation import tables
from models.evaluation.predictions import LabelledPredictions

METRICS = "metrics.json"
TABLE = "table.md"
PAGE = "report.html"

RESEARCH = "RESEARCH USE ONLY"

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 80rem; padding: 0 1rem }
.research { background: #8a1c1c; color: #fff; font-weight: 700; padding: .6rem 1rem }
.remark { border-left: .3rem solid #c77700; padding-left: .8rem }
table { border-collapse: collapse; margin: 1.6rem 0 .3rem }
caption { font-weight: 700; text-align: left; padding-bottom: .3rem }
th, td { border: 1px solid #c9d2dc; padding: .15rem .5rem; text-align: right; vertical-align: top }
th[scope=row] { text-align: left; font-weight: 400 }
td:last-child { max-width: 34rem }
img { max-width: 100%; height: auto }
figure { margin: 1.6rem 0 }
code { background: #eef1f4; padding: .1rem .3rem }
"""


def write_report(
    folder: Path,
    sample: LabelledPredictions,
    figures: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> None:
    """Write metrics, tables and plots.

    Parameters
    ----------
    folder
        Folder, made when it does not exist; files of an earlier report are replaced.
    progress
        Called with the number of plots drawn and the number in all.

    Raises
    ------
    OSError
        If the folder cannot be written.
    """
    from models.evaluation.plots import PLOTS, draw_plots  # noqa: PLC0415 - matplotlib takes a second to load

    folder.mkdir(parents=True, exist_ok=True)
    (folder / METRICS).write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    (folder / TABLE).write_text(report_markdown(figures), encoding="utf-8")
    for name in PLOTS:
        (folder / name).unlink(missing_ok=True)
    pictures = []
    for number, (name, title, png) in enumerate(draw_plots(sample, figures), start=1):
        (folder / name).write_bytes(png)
        pictures.append((title, png))
        progress(number, len(PLOTS))
    (folder / PAGE).write_text(report_page(figures, pictures), encoding="utf-8")


def report_markdown(figures: Mapping[str, Any]) -> str:
    """All tables as Markdown, each with its title and note."""
    parts = [f"**{RESEARCH}.** {figures['bundle']} on {tables.measured_on(figures)}, {_counts(figures)}."]
    parts += [f"**Caution:** {remark}" for remark in tables.caveats(figures)]
    parts.append(f"```\n{tables.evaluation_command(figures)}\n```")
    for table in tables.all_tables(figures):
        parts += [f"### {table.title}", table.markdown(), *([table.note] if table.note else [])]
    return "\n\n".join(parts) + "\n"


def report_page(figures: Mapping[str, Any], pictures: Sequence[tuple[str, bytes]]) -> str:
    """All tables and plots as one HTML file, without scripts and external files.

    Parameters
    ----------
    pictures
        Title and PNG of each plot.
    """
    title = html.escape(f"{figures['bundle']} on {tables.measured_on(figures)}")
    remarks = "".join(f'<p class="remark">{html.escape(text)}</p>\n' for text in tables.caveats(figures))
    drawn = "".join(_figure(name, png) for name, png in pictures)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body>\n"
        f'<p class="research">{RESEARCH}: not a medical device, never for diagnosis</p>\n'
        f"<h1>{title}</h1>\n<p>{html.escape(_counts(figures))}; measured again by "
        f"<code>{html.escape(tables.evaluation_command(figures))}</code></p>\n"
        f"{remarks}{''.join(table.html() for table in tables.all_tables(figures))}{drawn}</body></html>\n"
    )


def _figure(title: str, png: bytes) -> str:
    name = html.escape(title)
    data = base64.b64encode(png).decode()
    return (
        f'<figure><img alt="{name}" src="data:image/png;base64,{data}">'
        f"<figcaption>{name}</figcaption></figure>\n"
    )


def _counts(figures: Mapping[str, Any]) -> str:
    return f"{figures['n_studies']} studies of {figures['n_patients']} patients"
