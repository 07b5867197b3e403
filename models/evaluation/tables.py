"""Tables of evaluation metrics, for the terminal, the report and the model card.

They are made from the contents of ``metrics.json`` alone. A metric missing in an older file is shown as a
dash, or its table is left out.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.evaluation.metrics import FEWEST_POSITIVES

Metrics = Mapping[str, Any]

DASH = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """A table with row and column names.

    Attributes
    ----------
    title
        Title of the table.
    header
        Names of the columns; the first column holds the names of the rows.
    rows
        Cells of each row, as many as the header has.
    note
        Explanation below the table; may be empty.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """Markdown of the table, without title and note; numbers are right-aligned."""
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        return "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )

    def html(self) -> str:
        """HTML of the table with caption and note."""
        note = f"<p>{html.escape(self.note)}</p>" if self.note else ""
        head = "".join(f'<th scope="col">{html.escape(cell)}</th>' for cell in self.header)
        body = "".join(
            f'<tr><th scope="row">{html.escape(name)}</th>'
            + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            + "</tr>\n"
            for name, *cells in self.rows
        )
        return (
            f"<table><caption>{html.escape(self.title)}</caption>\n"
            f"<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>{note}"
        )


def measured_on(figures: Metrics) -> str:
    """Data set, split and text of an evaluation, for every title."""
    return f"{figures['dataset']} {figures['split']}, text: {figures['text']}"


def evaluation_command(figures: Metrics) -> str:
    """Command that repeats the evaluation."""
    name = "-".join(figures["bundle"].split()) if "bundle" in figures else "BUNDLE"
    split, text, dataset = figures["split"], figures["text"], str(figures["dataset"])
    if dataset.endswith(".csv"):  # a table of own films is named by its file
        return f"dicom-node evaluate {name} --csv {dataset} --split {split} --text {text}"
    return f"dicom-node evaluate {name} --dataset {dataset} --data FOLDER --split {split} --text {text}"


def macro_table(figures: Metrics) -> Table:
    """Table of macro averages, with a row for baselines without a model."""
    names = {
        "macro": f"labels with {FEWEST_POSITIVES} or more positives",
        "macro_all": "all labels with a positive",
    }
    rows = []
    for key, name in names.items():
        macro = figures[key]
        rows += [
            (
                f"{name} ({macro['n_labels']})",
                *(format_with_interval(macro, measure) for measure in ("auc", "ap", "f1")),
                format_number(macro.get("brier")),
                format_number(macro["ece"]),
            ),
            (
                "baseline",
                "0.500",
                format_number(macro["ap_random"]),
                format_number(macro["f1_always"]),
                format_number(macro.get("brier_prevalence")),
                DASH,
            ),
        ]
    return Table(
        f"Macro averages on {measured_on(figures)}",
        ("", "AUC (95 % interval)", "AP (95 % interval)", "F1 (95 % interval)", "Brier", "ECE"),
        tuple(rows),
        "Baselines: a random order (AUC 0.5, AP = prevalence), reporting every study (F1), always saying the "
        "prevalence (Brier). Brier score and ECE are over the calibrated labels. Intervals: bootstrap over "
        "patients.",
    )


def accuracy_table(figures: Metrics) -> Table:
    """Table of the accuracy, beside that of two answers that need no film."""
    found = figures["accuracy"]
    names = {
        "model": "the model",
        "predicting_nothing": "predicting nothing at all",
        "most_common": "the most common answer of each label",
    }
    return Table(
        f"Label-wise accuracy on {measured_on(figures)}",
        ("", "right answers"),
        tuple((name, format_number(found[key])) for key, name in names.items() if key in found),
        "With rare labels accuracy says little: compare it with the answers that need no film.",
    )


def label_table(figures: Metrics) -> Table:
    """Table by label, for the labels in the macro averages."""
    note = "In brackets: the interval of the AUC, whose baseline is 0.5, and the baselines of the others."
    return _by_label(f"By label on {measured_on(figures)}", _labels(figures, rare=False), note)


def rare_label_table(figures: Metrics) -> Table:
    """Table by label, for the labels with few positives."""
    title = f"Labels with fewer than {FEWEST_POSITIVES} positives on {measured_on(figures)}"
    return _by_label(title, _labels(figures, rare=True), "These figures are mostly chance.")


def _by_label(title: str, chosen: Metrics, note: str) -> Table:
    rows = [
        (
            key,
            str(label["n_positive"]),
            format_with_interval(label, "auc"),
            f"{format_number(label['ap'])} ({format_number(label['prevalence'])})",
            f"{format_number(label['f1'])} ({format_number(label['f1_always'])})",
            f"{format_number(label.get('accuracy'))} ({format_number(1 - label['prevalence'])})",
            str(label["n_reported"]),
            f"{format_number(label['threshold'])} {'probability' if label['calibrated'] else 'score'}",
        )
        for key, label in chosen.items()
    ]
    return Table(
        title,
        (
            "label",
            "positive",
            "AUC (95 % interval)",
            "AP (prevalence)",
            "F1 (reporting all)",
            "accuracy (nothing)",
            "reported",
            "threshold",
        ),
        tuple(rows),
        note,
    )


def operating_point_table(figures: Metrics) -> Table | None:
    """Table of sensitivity at fixed specificities and the reverse; None where it was not measured."""
    chosen = {
        key: label
        for key, label in _labels(figures, rare=False).items()
        if "sensitivity_at_specificity" in label
    }
    if not chosen:
        return None
    points = tuple(next(iter(chosen.values()))["sensitivity_at_specificity"])
    rows = [
        (
            key,
            *(format_number(label["sensitivity_at_specificity"][point]) for point in points),
            *(format_number(label["specificity_at_sensitivity"][point]) for point in points),
        )
        for key, label in chosen.items()
    ]
    baseline = tuple(format_number(1 - float(point)) for point in points)
    return Table(
        f"Operating points on {measured_on(figures)}",
        (
            "label",
            *(f"sensitivity at specificity {point}" for point in points),
            *(f"specificity at sensitivity {point}" for point in points),
        ),
        (("baseline", *baseline, *baseline), *rows),
        "Baseline: a random order. The thresholds of these points were chosen on this split.",
    )


def calibration_table(figures: Metrics) -> Table | None:
    """Table of calibration errors; None where no label is calibrated."""
    rows = [
        (
            key,
            format_number(label.get("brier")),
            format_number(label.get("brier_prevalence")),
            format_number(label["ece"]),
        )
        for key, label in _labels(figures, rare=False).items()
        if label["calibrated"]
    ]
    return (
        Table(
            f"Probabilities on {measured_on(figures)}",
            ("label", "Brier", "Brier of the prevalence", "ECE"),
            tuple(rows),
            "Labels without a calibration give a score, and a score is not a probability.",
        )
        if rows
        else None
    )


def abnormality_table(figures: Metrics) -> Table | None:
    """Table of abnormal against normal studies; None for a bundle without such a label."""
    found = figures.get("abnormal")
    if not found:
        return None
    kept = f"{found['normal_recall']:.2f}"
    return Table(
        f"Abnormal or normal on {measured_on(figures)}",
        ("score", "abnormal", "normal", "AUC (95 % interval)", f"abnormal recall at normal recall {kept}"),
        (
            (
                found["score"],
                str(found["n_abnormal"]),
                str(found["n_normal"]),
                format_with_interval(found, "auc"),
                format_with_interval(found, "recall"),
            ),
            ("baseline", "", "", format_number(found["auc_random"]), format_number(found["recall_random"])),
        ),
        "Baseline: a random order.",
    )


def subgroup_table(figures: Metrics) -> Table | None:
    """Table of the macro AUC and the abnormal AUC by subgroup; None where no subgroup is known."""
    rows = [
        (
            f"{division}: {group}",
            str(found["n_studies"]),
            str(found["macro"]["n_labels"]),
            format_with_interval(found["macro"], "auc"),
            format_number(found["macro"]["auc_everyone"]),
            format_with_interval(found["abnormal"], "auc") if found["abnormal"] else DASH,
        )
        for division, groups in figures.get("subgroups", {}).items()
        for group, found in groups.items()
    ]
    return (
        Table(
            f"Subgroups on {measured_on(figures)}",
            (
                "subgroup",
                "studies",
                "labels",
                "macro AUC (95 % interval)",
                "same labels, all studies",
                "abnormal AUC (95 % interval)",
            ),
            tuple(rows),
            f"Labels: those with {FEWEST_POSITIVES} or more positives in the subgroup, so subgroups are not "
            "compared with each other but each with all studies. The baseline of every AUC is 0.5.",
        )
        if rows
        else None
    )


def report_text_table(figures: Metrics) -> Table | None:
    """Table of frequent words of the reports by label; None where there are no reports."""
    found = figures.get("words")
    if not found:
        return None
    groups = {"all reports": found["all"], **found["labels"]}
    return Table(
        f"Words of the reports of {measured_on(figures)}",
        ("reports", "number", "words (mean)", "most frequent terms"),
        tuple(
            (
                name,
                str(group["n_reports"]),
                f"{group['words_mean']:.1f}",
                ", ".join(f"{term} {count}" for term, count in group["terms"].items()),
            )
            for name, group in groups.items()
        ),
        "Stop words are left out, and so are words of a single report.",
    )


def all_tables(figures: Metrics) -> list[Table]:
    """All tables of an evaluation that are not empty, from the summary to details."""
    tables = (
        macro_table(figures),
        accuracy_table(figures),
        abnormality_table(figures),
        label_table(figures),
        rare_label_table(figures),
        operating_point_table(figures),
        calibration_table(figures),
        subgroup_table(figures),
        report_text_table(figures),
    )
    return [table for table in tables if table is not None and table.rows]


def caveats(figures: Metrics) -> list[str]:
    """Warnings to read before the metrics, and what was left out."""
    found = list(figures.get("warnings", ()))
    if absent := figures.get("not_in_dataset"):
        found.append(f"The data set does not speak of {', '.join(absent)}: nothing is measured of them.")
    if silent := figures.get("n_left_out"):
        found.append(f"{silent} studies have no such text and were left out, for the bundle requires it.")
    elif silent := figures.get("n_without_text"):
        found.append(f"{silent} studies have no such text and were read without one.")
    return found


def _labels(figures: Metrics, *, rare: bool) -> dict[str, Metrics]:
    return {
        key: label
        for key, label in figures["labels"].items()
        if (label["n_positive"] < FEWEST_POSITIVES) == rare
    }


def format_with_interval(figures: Metrics, name: str) -> str:
    """Metric with its interval as text."""
    value, low, high = (figures.get(f"{name}{end}") for end in ("", "_low", "_high"))
    return (
        format_number(value)
        if low is None or high is None
        else f"{format_number(value)} ({format_number(low)} to {format_number(high)})"
    )


def format_number(value: float | None) -> str:
    """Number with three decimals, or a dash for None."""
    return DASH if value is None else f"{value:.3f}"


def join_paragraphs(texts: Iterable[str]) -> str:
    """Join texts as Markdown paragraphs of one line; tables and code keep their lines."""
    return "\n\n".join(text if text.startswith(("|", "```")) else " ".join(text.split()) for text in texts)


def bullet_list(items: Sequence[str]) -> str:
    """Markdown list of the items."""
    return "\n".join(f"- {' '.join(item.split())}" for item in items)
