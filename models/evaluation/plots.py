"""Plots of labelled predictions as PNG: one panel for each label with enough positives.

Importing this module imports matplotlib, which training and evaluation need and a node does not.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.evaluation import metrics
from models.evaluation.metrics_summary import measurable_labels
from models.evaluation.predictions import LabelColumn, LabelledPredictions
from models.evaluation.tables import measured_on

_ACROSS = 6
_PANEL_INCHES = 2.1
_DPI = 100
_BINS = 20
_LINE, _BASELINE = "tab:blue", "0.6"
#: Share of a row above which numbers are written in white.
_DARK = 0.5


def draw_plots(sample: LabelledPredictions, figures: Mapping[str, Any]) -> Iterator[tuple[str, str, bytes]]:
    """Draw all plots.

    Parameters
    ----------
    figures
        Metrics of the sample; they give data set, split and text for the titles.

    Yields
    ------
    tuple of str, str and bytes
        File name, title and PNG; a plot without any label is left out.
    """
    keys = measurable_labels(sample.columns)
    for name, (title, panel) in PLOTS.items():
        columns = [
            column
            for column in sample.columns
            if column.key in keys and (panel is not _reliability or column.probabilities is not None)
        ]
        if columns:
            yield name, title, _grid(f"{title}\n{measured_on(figures)}; RESEARCH USE ONLY", panel, columns)


def _grid(title: str, panel: Callable[[Axes, LabelColumn], None], columns: Sequence[LabelColumn]) -> bytes:
    across = min(_ACROSS, len(columns))
    down = math.ceil(len(columns) / across)
    size = (max(6.0, across * _PANEL_INCHES), down * (_PANEL_INCHES + 0.25) + 0.7)
    figure = Figure(figsize=size, dpi=_DPI, layout="constrained")
    figure.suptitle(title, fontsize=10)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, column in zip(panels, columns, strict=False):
        axes.tick_params(labelsize=6)
        axes.set_title(column.key.replace("_", " "), fontsize=7)
        panel(axes, column)
    for axes in panels[len(columns) :]:
        axes.set_axis_off()
    picture = io.BytesIO()
    # Without the name of the program, the same metrics give the same bytes.
    FigureCanvasAgg(figure).print_png(picture, metadata={"Software": None})
    return picture.getvalue()


def _square(axes: Axes) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")


def _roc(axes: Axes, column: LabelColumn) -> None:
    curve = metrics.threshold_curve(column.truth, column.scores)
    false, true = (counts[:, 0] / counts[-1, 0] for counts in (curve.negatives, curve.positives))
    axes.plot([0, 1], [0, 1], color=_BASELINE, linestyle=":")
    axes.plot(false, true, color=_LINE, linewidth=1.2)
    _note(axes, f"AUC {curve.auc()[0]:.3f} (0.500)", 0.98, 0.04, "right")
    _square(axes)


def _precision_recall(axes: Axes, column: LabelColumn) -> None:
    curve = metrics.threshold_curve(column.truth, column.scores)
    positives, negatives = curve.positives[1:, 0], curve.negatives[1:, 0]
    prevalence = float(column.truth.mean())
    axes.axhline(prevalence, color=_BASELINE, linestyle=":")
    axes.step(
        positives / positives[-1],
        positives / (positives + negatives),
        where="pre",
        color=_LINE,
        linewidth=1.2,
    )
    _note(axes, f"AP {curve.average_precision()[0]:.3f} ({prevalence:.3f})", 0.98, 0.9, "right")
    _square(axes)


def _reliability(axes: Axes, column: LabelColumn) -> None:
    assert column.probabilities is not None
    found = metrics.reliability(column.truth, column.probabilities)
    axes.plot([0, 1], [0, 1], color=_BASELINE, linestyle=":")
    axes.plot(found.predicted, found.observed, color=_LINE, linewidth=1)
    axes.scatter(found.predicted, found.observed, s=4 + 40 * found.count / found.count.sum(), color=_LINE)
    _note(axes, f"ECE {metrics.calibration_error(column.truth, column.probabilities):.3f}", 0.02, 0.9, "left")
    _square(axes)


def _confusion(axes: Axes, column: LabelColumn) -> None:
    counts = np.zeros((2, 2), dtype=int)
    np.add.at(counts, (column.truth.astype(int), column.present.astype(int)), 1)
    shares = counts / counts.sum(axis=1, keepdims=True)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, line in enumerate(counts):
        for place, count in enumerate(line):
            dark = shares[row, place] > _DARK
            axes.text(
                place, row, str(count), ha="center", va="center", fontsize=8, color="w" if dark else "k"
            )
    axes.set_xticks([0, 1], ["-", "+"])
    axes.set_yticks([0, 1], ["-", "+"])


def _scores(axes: Axes, column: LabelColumn) -> None:
    edges = np.linspace(0, 1, _BINS + 1)
    for truth, colour in ((False, _BASELINE), (True, _LINE)):
        values = column.values[column.truth == truth]
        share = np.full(len(values), 1 / max(1, len(values)))
        axes.hist(values, edges.tolist(), weights=share, histtype="step", color=colour, linewidth=1.2)
    axes.axvline(column.threshold, color="tab:red", linewidth=0.8)
    axes.set_ylim(0, 1.05)
    _note(axes, "score" if column.probabilities is None else "probability", 0.98, 0.9, "right")


def _note(axes: Axes, text: str, x: float, y: float, side: str) -> None:
    axes.text(x, y, text, transform=axes.transAxes, ha=side, fontsize=6)


#: File name -> title and function that draws one panel.
PLOTS: dict[str, tuple[str, Callable[[Axes, LabelColumn], None]]] = {
    "roc.png": ("ROC: sensitivity over 1 - specificity", _roc),
    "precision-recall.png": ("Precision over recall", _precision_recall),
    "reliability.png": ("Reliability: observed share over probability", _reliability),
    "confusion.png": ("Confusion at the threshold: truth down, report across", _confusion),
    "scores.png": ("Scores of negative (grey) and positive studies, and the threshold (red)", _scores),
}
