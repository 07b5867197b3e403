"""The model card of a bundle, in Markdown, from the bundle and its ``metrics.json`` alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.bundle import Bundle
from models.calibration import FEWEST_POSITIVES, RARE_QUANTILE
from models.evaluation.metrics import FEWEST_POSITIVES as FEWEST_AVERAGED

_LIMITS = (
    """Labels come from the radiologists' reports through MeSH headings, not from a second reading of the
    films: a finding that a report left out counts as absent.""",
    """One collection, films squashed to a square of {grid} pixels: small nodules and fine lines are hardly
    visible to the network, and films of other equipment may be read worse than measured here.""",
    """The intervals say how much the figures depend on which patients were drawn; they do not cover another
    site.""",
    "A heat map shows what spoke for a finding in the network. It is not an outline of the finding.",
    "Labels with few positives are measured on those few; their figures are mostly chance.",
)


def write_card(bundle: Bundle, metrics: Mapping[str, Any]) -> str:
    """Write the card.

    Parameters
    ----------
    bundle
        Read and verified.
    metrics
        Contents of its ``metrics.json``: ``dataset``, ``val`` and ``test``.

    Returns
    -------
    str
        The same text for the same bundle and figures.
    """
    manifest = bundle.manifest
    sections = [
        f"# {manifest.name} {manifest.version}",
        f"**Research use only. Not a medical device; never for diagnosis.** {manifest.summary}.",
        _identity(bundle),
        _intended(bundle),
        _data(bundle, metrics["dataset"]),
        _results(metrics["test"]),
        _labels(metrics["test"]),
        _calibration(bundle),
        "## Limits\n\n" + _list(_LIMITS, grid=manifest.preprocessing.grid),
        _commands(bundle, metrics["dataset"]["name"]),
    ]
    return "\n\n".join(sections) + "\n"


def _identity(bundle: Bundle) -> str:
    manifest = bundle.manifest
    arguments = ", ".join(f"{name} = {value}" for name, value in manifest.arguments.items())
    rows = [
        ("architecture", f"{manifest.architecture} ({arguments})"),
        ("input", f"films of a study, {manifest.preprocessing.size} pixels square; text: {manifest.text}"),
        ("output", f"{len(bundle.labels)} findings; a study's score is the mean over its films"),
        ("explanation", manifest.explanation),
        ("weights sha256", f"`{bundle.weights_sha256}`"),
    ]
    return _table(("", ""), rows)


def _intended(bundle: Bundle) -> str:
    calibrated = sum(label.method != "none" for label in bundle.calibration.labels.values())
    return _section(
        "Intended use",
        """Research on chest radiographs, frontal and lateral, by people who do not use the output for the
        care of a patient.""",
        f"""{calibrated} of the {len(bundle.labels)} findings have a calibrated probability; of the others
        only a score is given, and a score is not a probability.""",
    )


def _data(bundle: Bundle, dataset: Mapping[str, Any]) -> str:
    counts = [
        (split, str(count), str(dataset["n_films"][split])) for split, count in dataset["n_studies"].items()
    ]
    return _section(
        "Data",
        f"""{dataset["title"]}; terms: {dataset["terms"]}. Split by patient; reports that were never indexed
        are left out. Neither films nor anything that shows one is part of the bundle.""",
        _table(("split", "studies", "films"), counts),
        f"""Trained on `train`; calibration and thresholds from `{bundle.calibration.split}`; the figures
        below are from `test`, on which nothing was chosen.""",
    )


def _results(test: Mapping[str, Any]) -> str:
    names = {
        "macro": f"macro, labels with {FEWEST_AVERAGED} or more positives",
        "macro_all": "macro, all labels with a positive",
    }
    rows = [
        (
            f"{name} ({test[key]['n_labels']})",
            f"{_number(test[key]['auc'])} ({_interval(test[key])})",
            f"{_number(test[key]['ap'])} ({_number(test[key]['ap_random'])})",
            f"{_number(test[key]['f1'])} ({_number(test[key]['f1_always'])})",
            _number(test[key]["ece"]),
        )
        for key, name in names.items()
    ]
    accuracy = test["accuracy"]
    return _section(
        f"Results on `{test['dataset']}` {test['split']}, text: {test['text']}",
        f"""{test["n_studies"]} studies of {test["n_patients"]} patients. In brackets: AUC with its 95 %
        bootstrap interval over patients, AP with that of a random order, F1 with that of reporting every
        study. ECE is over the calibrated labels.""",
        _table(("", "AUC (95 % interval)", "AP (random)", "F1 (always)", "ECE"), rows),
        f"""Label by label, {_number(accuracy["model"])} of all answers are right; predicting nothing at all
        scores {_number(accuracy["predicting_nothing"])}, so accuracy says nothing here.""",
    )


def _labels(test: Mapping[str, Any]) -> str:
    rows = [
        (
            f"`{key}`",
            str(label["n_positive"]),
            _number(label["auc"]),
            _interval(label),
            f"{_number(label['ap'])} ({_number(label['prevalence'])})",
            _number(label["f1"]),
            str(label["n_reported"]),
        )
        for key, label in test["labels"].items()
    ]
    header = ("finding", "positive", "AUC", "95 % interval", "AP (prevalence)", "F1", "reported")
    return _section("By finding", _table(header, rows))


def _calibration(bundle: Bundle) -> str:
    calibration = bundle.calibration
    rows = [
        (
            f"`{key}`",
            str(label.n_positive),
            "-" if label.method == "none" else f"{label.slope:.3f}, {label.intercept:.3f}",
            f"{label.threshold:.3f} ({'score' if label.method == 'none' else 'probability'})",
        )
        for key, label in calibration.labels.items()
    ]
    return _section(
        "Calibration and thresholds",
        f"""Platt's curve over the logit of the score, with smoothed targets (Platt 1999) and a prior on the
        slope; fitted to {calibration.n_studies} studies of `{calibration.dataset}` {calibration.split}. The
        threshold is that of the highest F1 there. A label with fewer than {FEWEST_POSITIVES} positives stays
        uncalibrated, and is reported above the {RARE_QUANTILE:.0%} quantile of the scores there.""",
        _table(("finding", "positive", "slope, intercept", "threshold"), rows),
    )


def _commands(bundle: Bundle, dataset: str) -> str:
    manifest = bundle.manifest
    return _section(
        "Commands that produced it",
        "```\n"
        f"dicom-node train models/recipes/{manifest.name}.toml --data FOLDER\n"
        f"dicom-node evaluate {manifest.folder} --dataset {dataset} --root FOLDER --split test\n"
        "```",
    )


def _section(title: str, *parts: str) -> str:
    """Heading and paragraphs; tables and code keep their lines."""
    texts = (part if part.startswith(("|", "```")) else " ".join(part.split()) for part in parts)
    return "\n\n".join((f"## {title}", *texts))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _list(items: Iterable[str], **values: object) -> str:
    return "\n".join(f"- {' '.join(item.split()).format(**values)}" for item in items)


def _interval(figures: Mapping[str, Any]) -> str:
    return f"{_number(figures['auc_low'])} to {_number(figures['auc_high'])}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
