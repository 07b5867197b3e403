"""The tables that figures are shown in: once for the terminal, the report and the model card.

They are made from the contents of ``metrics.json`` alone. What an older file lacks is shown as a dash, or the
table is left out.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.evaluation.metrics import FEWEST_POSITIVES

Figures = Mapping[str, Any]

NOTHING = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """Cells, the first of each row and column being its name.

    Attributes
    ----------
    title
        What it shows.
    header
        Names of the columns.
    rows
        Each as long as the header.
    note
        How to read it; may be empty.
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """As a Markdown table, without title and note; numbers are set to the right."""
        lines = [self.header, ["---", *["---:"] * (len(self.header) - 1)], *self.rows]
        return "\n".join(
            "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines
        )

    def html(self) -> str:
        """As an HTML table with caption and note."""
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


def source(figures: Figures) -> str:
    """What was measured on what, with which text: named in every title."""
    return f"{figures['dataset']} {figures['split']}, text: {figures['text']}"


def command(figures: Figures) -> str:
    """The command that measures it again."""
    name = "-".join(figures["bundle"].split()) if "bundle" in figures else "BUNDLE"
    return (
        f"dicom-node evaluate {name} --dataset {figures['dataset']} --root FOLDER "
        f"--split {figures['split']} --text {figures['text']}"
    )


def overall(figures: Figures) -> Table:
    """Macro averages, with a row for what is reached without looking."""
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
                *(ranged(macro, measure) for measure in ("auc", "ap", "f1")),
                number(macro.get("brier")),
                number(macro["ece"]),
            ),
            (
                "baseline",
                "0.500",
                number(macro["ap_random"]),
                number(macro["f1_always"]),
                number(macro.get("brier_prevalence")),
                NOTHING,
            ),
        ]
    return Table(
        f"Macro averages on {source(figures)}",
        ("", "AUC (95 % interval)", "AP (95 % interval)", "F1 (95 % interval)", "Brier", "ECE"),
        tuple(rows),
        "Baselines: a random order (AUC 0.5, AP = prevalence), reporting every study (F1), always saying the "
        "prevalence (Brier). Brier score and ECE are over the calibrated labels. Intervals: bootstrap over "
        "patients.",
    )


def accuracy(figures: Figures) -> Table:
    """Share of right answers, beside those of two answers that need no film."""
    found = figures["accuracy"]
    names = {
        "model": "the model",
        "predicting_nothing": "predicting nothing at all",
        "most_common": "the most common answer of each label",
    }
    return Table(
        f"Label-wise accuracy on {source(figures)}",
        ("", "right answers"),
        tuple((name, number(found[key])) for key, name in names.items() if key in found),
        "With rare labels accuracy says little: compare it with the answers that need no film.",
    )


def labels(figures: Figures) -> Table:
    """Label by label, those that the macro averages count."""
    note = "In brackets: the interval of the AUC, whose baseline is 0.5, and the baselines of the others."
    return _by_label(f"By label on {source(figures)}", _labels(figures, rare=False), note)


def rare(figures: Figures) -> Table:
    """The other labels, apart."""
    title = f"Labels with fewer than {FEWEST_POSITIVES} positives on {source(figures)}"
    return _by_label(title, _labels(figures, rare=True), "These figures are mostly chance.")


def _by_label(title: str, chosen: Figures, note: str) -> Table:
    rows = [
        (
            key,
            str(label["n_positive"]),
            ranged(label, "auc"),
            f"{number(label['ap'])} ({number(label['prevalence'])})",
            f"{number(label['f1'])} ({number(label['f1_always'])})",
            f"{number(label.get('accuracy'))} ({number(1 - label['prevalence'])})",
            str(label["n_reported"]),
            f"{number(label['threshold'])} {'probability' if label['calibrated'] else 'score'}",
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


def operating(figures: Figures) -> Table | None:
    """Sensitivity at fixed specificities and the other way round; None where it was not measured."""
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
            *(number(label["sensitivity_at_specificity"][point]) for point in points),
            *(number(label["specificity_at_sensitivity"][point]) for point in points),
        )
        for key, label in chosen.items()
    ]
    baseline = tuple(number(1 - float(point)) for point in points)
    return Table(
        f"Operating points on {source(figures)}",
        (
            "label",
            *(f"sensitivity at specificity {point}" for point in points),
            *(f"specificity at sensitivity {point}" for point in points),
        ),
        (("baseline", *baseline, *baseline), *rows),
        "Baseline: a random order. The thresholds of these points were chosen on this split.",
    )


def calibration(figures: Figures) -> Table | None:
    """How far probabilities are from what was observed; None where no label is calibrated."""
    rows = [
        (key, number(label.get("brier")), number(label.get("brier_prevalence")), number(label["ece"]))
        for key, label in _labels(figures, rare=False).items()
        if label["calibrated"]
    ]
    return (
        Table(
            f"Probabilities on {source(figures)}",
            ("label", "Brier", "Brier of the prevalence", "ECE"),
            tuple(rows),
            "Labels without a calibration give a score, and a score is not a probability.",
        )
        if rows
        else None
    )


def abnormal(figures: Figures) -> Table | None:
    """Abnormal studies told from normal ones; None for a bundle that does not say."""
    found = figures.get("abnormal")
    if not found:
        return None
    kept = f"{found['normal_recall']:.2f}"
    return Table(
        f"Abnormal or normal on {source(figures)}",
        ("score", "abnormal", "normal", "AUC (95 % interval)", f"abnormal recall at normal recall {kept}"),
        (
            (
                found["score"],
                str(found["n_abnormal"]),
                str(found["n_normal"]),
                ranged(found, "auc"),
                ranged(found, "recall"),
            ),
            ("baseline", "", "", number(found["auc_random"]), number(found["recall_random"])),
        ),
        "Baseline: a random order.",
    )


def subgroups(figures: Figures) -> Table | None:
    """Macro AUC and abnormal or normal by subgroup; None where none is known."""
    rows = [
        (
            f"{division}: {group}",
            str(found["n_studies"]),
            str(found["macro"]["n_labels"]),
            ranged(found["macro"], "auc"),
            number(found["macro"]["auc_everyone"]),
            ranged(found["abnormal"], "auc") if found["abnormal"] else NOTHING,
        )
        for division, groups in figures.get("subgroups", {}).items()
        for group, found in groups.items()
    ]
    return (
        Table(
            f"Subgroups on {source(figures)}",
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


def words(figures: Figures) -> Table | None:
    """Frequent words of the reports by label; None where there are no reports."""
    found = figures.get("words")
    if not found:
        return None
    groups = {"all reports": found["all"], **found["labels"]}
    return Table(
        f"Words of the reports of {source(figures)}",
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


def every(figures: Figures) -> list[Table]:
    """All tables, in the order of a reader's questions."""
    tables = (
        overall(figures),
        accuracy(figures),
        abnormal(figures),
        labels(figures),
        rare(figures),
        operating(figures),
        calibration(figures),
        subgroups(figures),
        words(figures),
    )
    return [table for table in tables if table is not None and table.rows]


def remarks(figures: Figures) -> list[str]:
    """What a reader must know before any figure: warnings, and what was left out."""
    found = list(figures.get("warnings", ()))
    if absent := figures.get("not_in_dataset"):
        found.append(f"The data set does not speak of {', '.join(absent)}: nothing is measured of them.")
    if silent := figures.get("n_left_out"):
        found.append(f"{silent} studies have no such text and were left out, for the bundle requires it.")
    elif silent := figures.get("n_without_text"):
        found.append(f"{silent} studies have no such text and were read without one.")
    return found


def _labels(figures: Figures, *, rare: bool) -> dict[str, Figures]:
    return {
        key: label
        for key, label in figures["labels"].items()
        if (label["n_positive"] < FEWEST_POSITIVES) == rare
    }


def ranged(figures: Figures, name: str) -> str:
    """A figure with its interval."""
    value, low, high = (figures.get(f"{name}{end}") for end in ("", "_low", "_high"))
    return (
        number(value) if low is None or high is None else f"{number(value)} ({number(low)} to {number(high)})"
    )


def number(value: float | None) -> str:
    """Three decimals, or a dash for what could not be measured."""
    return NOTHING if value is None else f"{value:.3f}"


def paragraphs(texts: Iterable[str]) -> str:
    """Texts of any line length as paragraphs; tables and code keep their lines."""
    return "\n\n".join(text if text.startswith(("|", "```")) else " ".join(text.split()) for text in texts)


def bullets(items: Sequence[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {' '.join(item.split())}" for item in items)
