"""Model card of a bundle, in Markdown, made from the bundle and its ``metrics.json`` alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from typing import Any

from models.bundles.bundle import Bundle, amend_bundle
from models.bundles.manifest import CARD, METRICS
from models.errors import BundleError
from models.evaluation import explanations, retrieval_tables, tables
from models.evaluation.tables import Metrics, Table, format_number
from models.labels.calibration import FEWEST_POSITIVES, LabelCalibration

#: Source of the labels by short name of the data set, and its consequences for the metrics.
_LABELS_FROM = {
    "openi": """Labels come from the radiologists' reports through their major MeSH headings, not from a
        second reading of the films: a finding that a report left out counts as absent. Reports that were
        never indexed are left out.""",
    "nih": """Labels were mined from reports by a program, and the reports are not public: its authors put
        more than 90 % of the labels right (Wang et al. 2017), and a finding that no report named counts as
        absent. Every film is a study of its own, and all are frontal.""",
}
_LABELS_UNKNOWN = """How the labels of this data set were made is not known here: ask its authors before the
    figures are used."""

_LIMITS = (
    """One collection, films brought to a square of {grid} pixels: small nodules and fine lines are hardly
    visible to the network, and films of other equipment may be read worse than measured here.""",
    """The intervals say how much the figures depend on which patients were drawn; they do not cover another
    site.""",
    "Labels with few positives are measured on those few; their figures are mostly chance.",
)
_HEATMAP = "A heat map shows what spoke for a finding in the network. It is not an outline of the finding."
_TEXT = """The text is what was known before the films were read. A model that reads it can repeat the
    question that the films were to answer; its figures stand apart from those of the films alone."""

_SHORT: tuple[Callable[[Metrics], Table | None], ...] = (
    tables.macro_table,
    tables.accuracy_table,
    tables.abnormality_table,
)
_ALL = (
    *_SHORT,
    tables.label_table,
    tables.rare_label_table,
    tables.operating_point_table,
    tables.calibration_table,
    tables.subgroup_table,
)
#: Entries of ``metrics.json`` for explanations and retrieval: metrics by data set or split.
EXPLANATIONS, RETRIEVAL = "explanations", "retrieval"
#: Entries of ``metrics.json`` with a section of their own in the card, or with none.
_NAMED = ("dataset", "recipe", "val", "test", EXPLANATIONS, RETRIEVAL)


def write_card(bundle: Bundle, metrics: Mapping[str, Any]) -> str:
    """Text of the model card.

    Parameters
    ----------
    bundle
        Verified bundle.
    metrics
        Contents of its ``metrics.json``: ``dataset``, ``val`` and ``test``; any other evaluation, such as
        the same split with another text, follows ``test`` with fewer tables. ``recipe`` is the name of the
        recipe where that is not the bundle's. :data:`EXPLANATIONS` and :data:`RETRIEVAL` are entered by
        :func:`record_metrics`.

    Returns
    -------
    str
        Markdown, always the same for the same bundle and metrics. A metric missing in an older
        ``metrics.json`` is left out.
    """
    manifest = bundle.manifest
    main = main_evaluation(metrics)
    sections = [
        f"# {manifest.name} {manifest.version}",
        f"**Research use only. Not a medical device; never for diagnosis.** {manifest.summary}.",
        _identity(bundle),
        _intended(bundle),
        _data(bundle, metrics["dataset"], main["split"]),
        _results(main, _ALL),
        *(_results(found, _SHORT) for name, found in metrics.items() if name not in _NAMED),
        _calibration(bundle),
        *(heatmap_section(found) for found in metrics.get(EXPLANATIONS, {}).values()),
        *(_similar(manifest.folder, found) for found in metrics.get(RETRIEVAL, {}).values()),
        "## Limits\n\n" + tables.bullet_list(_limits(bundle, metrics["dataset"]["name"])),
        _commands(metrics.get("recipe", manifest.name), main),
    ]
    return "\n\n".join(sections) + "\n"


def main_evaluation(metrics: Mapping[str, Any]) -> Mapping[str, Any]:
    """Evaluation that stands for a bundle: on ``test``, or on ``val`` of a data set without test films.

    Parameters
    ----------
    metrics
        Contents of its ``metrics.json``.
    """
    found: Mapping[str, Any] = metrics.get("test") or metrics["val"]
    return found


def record_metrics(bundle: Bundle, entry: str, name: str, figures: Mapping[str, Any]) -> Bundle:
    """Record metrics in the bundle's ``metrics.json`` and write its card again.

    Parameters
    ----------
    entry
        :data:`EXPLANATIONS` or :data:`RETRIEVAL`.
    name
        Data set, or split of references, of the metrics. Earlier metrics of that name are replaced.

    Raises
    ------
    BundleError
        If the bundle has no ``metrics.json`` yet, or cannot be written.
    """
    path = bundle.path / METRICS
    if not path.exists():
        raise BundleError(
            f"bundle {bundle.path} has no {METRICS} to record metrics in: train and release it first"
        )
    metrics = json.loads(path.read_text(encoding="utf-8"))
    metrics[entry] = {**metrics.get(entry, {}), name: figures}
    try:
        return amend_bundle(
            bundle, {METRICS: json.dumps(metrics, indent=2) + "\n", CARD: write_card(bundle, metrics)}
        )
    except OSError as error:
        raise BundleError(f"bundle {bundle.path} cannot be written: {error.strerror}") from error


def heatmap_section(figures: Mapping[str, Any]) -> str:
    """Section of the card on the reliability of heat maps, with its command."""
    asked = "".join((f" --maps {figures['n_maps']}", *(f" --method {name}" for name in figures["methods"])))
    command = (
        f"dicom-node evaluate {figures['bundle'].replace(' ', '-')} --explanations "
        f"--dataset {figures['dataset']} --data FOLDER --split {figures['split']}{asked}"
    )
    command = _section(f"Heat maps on {figures['dataset']}", f"```\n{command}\n```")
    return f"{command}\n\n{explanations.explanations_markdown(figures)}".rstrip("\n")


def _similar(name: str, figures: Mapping[str, Any]) -> str:
    asked, held = figures["queries"], figures["references"]
    command = (
        f"dicom-node cases evaluate {name} --dataset {figures['dataset']} --data FOLDER --queries {asked}"
    )
    if held != asked:
        command += f" --references {held}"
    table = retrieval_tables.summary_table(figures)
    return _section(
        f"Similar cases, {asked} to {held}",
        f"""{figures["n_queries"]} queries of {figures["dataset"]} {asked},
        {figures["n_queries_with_a_group"]} of them with a disease group, among
        {figures["n_references"]} cases of {held}.""",
        f"```\n{command}\n```",
        table.markdown(),
        table.note,
    )


def _identity(bundle: Bundle) -> str:
    manifest = bundle.manifest
    arguments = ", ".join(f"{name} = {value}" for name, value in manifest.arguments.items())
    rows = (
        ("architecture", f"{manifest.architecture} ({arguments})"),
        ("input", f"films of a study, {manifest.preprocessing.size} pixels square; text: {manifest.text}"),
        ("output", f"{_count(len(bundle.labels), 'label')}; a study's score is the mean over its films"),
        ("explanation", manifest.explanation),
        ("weights sha256", f"`{bundle.weights_sha256}`"),
    )
    return Table("", ("", ""), rows).markdown()


def _intended(bundle: Bundle) -> str:
    calibrated = sum(label.method != "none" for label in bundle.calibration.labels.values())
    return _section(
        "Intended use",
        """Research on chest radiographs by people who do not use the output for the care of a patient.""",
        f"""{calibrated} of {_count(len(bundle.labels), "label")} with a calibrated probability; of the others
        only a score is given, and a score is not a probability.""",
    )


def _data(bundle: Bundle, dataset: Mapping[str, Any], split: str) -> str:
    calibration = bundle.calibration
    counts = tuple(
        (split, str(count), str(dataset["n_films"][split])) for split, count in dataset["n_studies"].items()
    )
    return _section(
        "Data",
        f"""{dataset["title"]}; terms: {dataset["terms"]}. Split by patient. Neither films nor anything that
        shows one is part of the bundle.""",
        Table("", ("split", "studies", "films"), counts).markdown(),
        f"""Trained on `train` of the data sets that the recipe names; calibration and thresholds from
        `{calibration.dataset}` {calibration.split}; the figures below are from `{dataset["name"]}` {split},
        on which {"nothing was chosen" if split == "test" else "the training was watched: no test"}.""",
    )


def _results(test: Mapping[str, Any], shown: Sequence[Callable[[Metrics], Table | None]]) -> str:
    parts = [
        f"{test['n_studies']} studies of {test['n_patients']} patients, measured by",
        f"```\n{tables.evaluation_command(test)}\n```",
        *(f"**Caution:** {remark}" for remark in tables.caveats(test)),
    ]
    for table in (make(test) for make in shown):
        if table is not None and table.rows:
            parts += [f"### {table.title}", table.markdown(), *([table.note] if table.note else [])]
    return _section(f"Results on {tables.measured_on(test)}", *parts)


def _calibration(bundle: Bundle) -> str:
    calibration = bundle.calibration
    rows = tuple(
        (
            key,
            str(label.n_positive),
            tables.DASH if label.method == "none" else f"{label.slope:.3f}, {label.intercept:.3f}",
            f"{format_number(label.threshold)} {'score' if label.method == 'none' else 'probability'}",
            _interval(label),
        )
        for key, label in calibration.labels.items()
    )
    return _section(
        "Calibration and thresholds",
        f"""Platt's curve over the logit of the score, with smoothed targets (Platt 1999) and a prior on the
        slope; fitted to {calibration.n_studies} studies of `{calibration.dataset}` {calibration.split}. The
        threshold lies between that of the highest F1 there and that of the highest F1 that the curve leads to
        expect (their geometric mean). A label with fewer than {FEWEST_POSITIVES} positives stays
        uncalibrated; its threshold is what its prevalence there leads to expect. The interval is where the
        probability of a study at the threshold lies with 95 % confidence, as far as the few positives place
        the curve.""",
        Table("", ("label", "positive", "slope, intercept", "threshold", "95 % there"), rows).markdown(),
    )


def _interval(label: LabelCalibration) -> str:
    if label.covariance is None:
        return tables.DASH
    low, high = label.interval(label.score(label.threshold)) or (0.0, 1.0)
    return f"{format_number(low)} to {format_number(high)}"


def _limits(bundle: Bundle, dataset: str) -> Sequence[str]:
    manifest = bundle.manifest
    return (
        _LABELS_FROM.get(dataset, _LABELS_UNKNOWN),
        *(limit.format(grid=manifest.preprocessing.grid) for limit in _LIMITS),
        *([_HEATMAP] if manifest.explanation != "none" else []),
        *([_TEXT] if manifest.text != "none" else []),
    )


def _commands(recipe: str, test: Mapping[str, Any]) -> str:
    path = f"recipes/{recipe}.toml"
    shipped = resources.files("models").joinpath(path).is_file()
    return _section(
        "Commands that produced it",
        f"```\ndicom-node train {f'models/{path}' if shipped else 'RECIPE.toml'} --data FOLDER\n"
        f"{tables.evaluation_command(test)}\n```",
    )


def _count(number_: int, noun: str) -> str:
    return f"{number_} {noun}{'' if number_ == 1 else 's'}"


def _section(title: str, *parts: str) -> str:
    return f"## {title}\n\n{tables.join_paragraphs(parts)}"
