"""Passages about the models: README.md, and models, levers, explanations and data of docs."""

from __future__ import annotations

from collections.abc import Iterator

from models.evaluation.metrics import FEWEST_POSITIVES
from tests.support.figures.passage import Figure, Passage
from tests.support.figures.sources import BundleMetrics, all_or, bundle, percent, whole, word

_MAIN = "| {} ({} to {}) | {} [{}] | {} [{}] |"


def passages() -> Iterator[Passage]:
    """Passages whose numbers stand in the metrics of the bundles."""
    yield from _table()
    yield from _readme()
    yield from _gate()
    yield from _documents()
    yield from _explanations()


def _main(metrics: BundleMetrics, macro: str = "macro") -> tuple[Figure, ...]:
    """AUC with its interval, then AP and F1 each with what needs no model."""
    split = ("test", macro)
    return (
        *metrics.ranged(*split, "auc"),
        metrics.figure(*split, "ap"),
        metrics.figure(*split, "ap_random"),
        metrics.figure(*split, "f1"),
        metrics.figure(*split, "f1_always"),
    )


def _table() -> Iterator[Passage]:
    findings, groups = bundle("openi-findings"), bundle("openi-groups")
    normality, nih = bundle("openi-normality"), bundle("nih-findings")

    def named(metrics: BundleMetrics) -> tuple[Figure, Figure]:
        return metrics.folder_name(), metrics.version_figure()

    def labels(metrics: BundleMetrics) -> tuple[Figure, Figure]:
        return metrics.figure("test", "macro", "n_labels", form=whole), metrics.count("test", "labels")

    for name, metrics in (("openi-findings", findings), ("openi-groups", groups)):
        yield Passage(
            "README.md",
            f"| [{name}](models/bundles/{{}}/README.md) {{}}, {{}} of {{}} labels "
            f"| Open-i `test`, {{}} patients {_MAIN}",
            (
                *named(metrics),
                *labels(metrics),
                metrics.figure("test", "n_patients", form=whole),
                *_main(metrics),
            ),
        )
    yield Passage(
        "README.md",
        f"| the same, all {{}} labels with a positive | {_MAIN}",
        (findings.figure("test", "macro_all", "n_labels", form=whole), *_main(findings, "macro_all")),
    )
    yield Passage(
        "README.md",
        "| [openi-normality](models/bundles/{}/README.md) {}, abnormal "
        f"| Open-i `test`, {{}} patients {_MAIN}",
        (*named(normality), normality.figure("test", "n_patients", form=whole), *_main(normality)),
    )
    yield Passage(
        "README.md",
        "| [nih-findings](models/bundles/{}/README.md) {}, {} labels, learnt from {} NIH films "
        f"| ChestX-ray14, {{}} films of {{}} patients {_MAIN}",
        (
            *named(nih),
            nih.figure("test", "macro", "n_labels", form=whole),
            nih.figure("dataset", "n_films", "train", form=whole),
            nih.figure("test", "n_studies", form=whole),
            nih.figure("test", "n_patients", form=whole),
            *_main(nih),
        ),
    )


def _readme() -> Iterator[Passage]:
    findings, normality = bundle("openi-findings"), bundle("openi-normality")
    yield Passage(
        "README.md",
        "macro averages are over the labels with {} or more positives",
        (Figure(word(FEWEST_POSITIVES), "models/evaluation/metrics.py: FEWEST_POSITIVES"),),
    )
    yield Passage(
        "README.md",
        "Where {} % of the normal studies are kept, {} % ({} to {}) of the abnormal ones are found.",
        (
            normality.figure("test", "abnormal", "normal_recall", form=percent(0)),
            *normality.ranged("test", "abnormal", "recall", form=percent(0)),
        ),
    )
    yield Passage(
        "README.md",
        """Label by label {} % of the answers of `openi-findings` are right, and predicting nothing at all
        would score {} %:""",
        (
            findings.figure("test", "accuracy", "model", form=percent(1)),
            findings.figure("test", "accuracy", "predicting_nothing", form=percent(1)),
        ),
    )


def _gate() -> Iterator[Passage]:
    gate = bundle("gate")
    share = percent(1)

    def low(*keys: str) -> tuple[Figure, Figure]:
        return gate.figure(*keys, "low", form=share), gate.figure(*keys, "high", form=share)

    openi, nih = ("films", "openi"), ("films", "nih")
    yield Passage(
        "README.md",
        """a [gate](models/bundles/{}/README.md) (`dicom-node evaluate gate --data FOLDER`): it keeps {} %
        ({} to {}) of the {} films of Open-i `test` and {} % ({} to {}) of {} NIH films, tells frontal from
        lateral on {} {} ({} to {}) and finds {} of them when they are inverted, and turned away {} of {}
        pictures""",
        (
            gate.folder_name(),
            gate.figure(*openi, "kept", "share", form=share),
            *low(*openi, "kept"),
            gate.figure(*openi, "kept", "n", form=whole),
            gate.figure(*nih, "kept", "share", form=share),
            *low(*nih, "kept"),
            gate.figure(*nih, "kept", "n", form=whole),
            gate.figure(*openi, "view", "share", form=all_or),
            gate.figure(*openi, "view", "n", form=whole),
            *low(*openi, "view"),
            gate.figure(*openi, "inverted", "share", form=all_or),
            gate.figure("others_in_all", "refused", "share", form=all_or),
            gate.figure("others_in_all", "refused", "n", form=whole),
        ),
    )


def _documents() -> Iterator[Passage]:
    findings, groups, nih = bundle("openi-findings"), bundle("openi-groups"), bundle("nih-findings")
    yield Passage(
        "docs/models.md",
        "| linear | {} findings, {} groups, normality, {} NIH findings |",
        (findings.count("test", "labels"), groups.count("test", "labels"), nih.count("test", "labels")),
    )
    yield Passage(
        "docs/levers.md",
        """All of it measured on Open-i `val` ({} studies, macro AUC over the {} labels with {} or more
        positives)""",
        (
            findings.figure("val", "n_studies", form=whole),
            findings.figure("val", "macro", "n_labels", form=whole),
            Figure(word(FEWEST_POSITIVES), "models/evaluation/metrics.py: FEWEST_POSITIVES"),
        ),
    )
    yield Passage(
        "docs/levers.md",
        "drop path 0.2; bundles {}** | 0.830 (10) | {} | {}, {} |",
        (
            findings.version_figure(),
            findings.figure("val", "macro", "auc"),
            findings.figure("test", "macro", "auc"),
            findings.figure("test", "macro", "ap"),
        ),
    )
    yield Passage(
        "docs/levers.md",
        "| mean score of all films (as served) | {} | {} |",
        (findings.figure("val", "n_studies", form=whole), findings.figure("val", "macro", "auc")),
        after=f"| openi-findings {findings.version} on val |",
    )
    yield Passage(
        "docs/levers.md", "| {} NIH films |", (nih.figure("dataset", "n_films", "train", form=whole),)
    )
    pretraining = bundle("chest-pretraining")
    for key, form in (
        ("shenzhen", "Shenzhen, 287 of {} with tuberculosis"),
        ("jsrt", "JSRT, 154 of {} with a nodule"),
    ):
        yield Passage("docs/data.md", form, (pretraining.figure("dataset", "n_studies", key, form=whole),))


def _explanations() -> Iterator[Passage]:
    """Rows of docs/explanations.md that the cards hold too: Grad-CAM, and what needs no model."""
    triple = "{} ({} to {})"
    for name, dataset in (("nih-findings", "nih"), ("openi-findings", "openi")):
        metrics = bundle(name)
        here = ("explanations", dataset)
        title = f"`{name} {metrics.version}` on {dataset}"
        found = metrics.values["explanations"][dataset]
        for split, boxes in (found["boxes"] or {}).get("splits", {}).items():
            place = (*here, "boxes", "splits", split)
            yield Passage(
                "docs/explanations.md",
                f"{title}, boxes of `{split}`: {{}} findings, {{}} patients",
                (metrics.figure(*place, "n", form=whole), metrics.figure(*place, "patients", form=whole)),
            )
            for method in boxes["methods"]:
                yield Passage(
                    "docs/explanations.md",
                    f"| {method} | {triple} | {triple} | {triple} |",
                    tuple(
                        figure
                        for measure in ("pointing", "iou", "inside")
                        for figure in metrics.inner(*place, "methods", method, measure)
                    ),
                    after=f"{title}, boxes of `{split}`:",
                )
        maps = f"{title} `{found['split']}`, {found['n_maps']} maps"
        for part, heading, measures in (
            ("faithfulness", "areas", ("deletion", "insertion")),
            ("lungs", "energy on frontal films", ("lungs", "chest")),
        ):
            for method in found[part]:
                yield Passage(
                    "docs/explanations.md",
                    f"| {method} | {triple} | {triple} |",
                    tuple(
                        figure
                        for measure in measures
                        for figure in metrics.inner(*here, part, method, measure)
                    ),
                    after=f"{maps}: {heading}",
                )
        yield Passage(
            "docs/explanations.md",
            f"| head | {triple} |",
            metrics.inner(*here, "randomised", "head", "pearson"),
            after=f"{maps}: after randomising",
        )
        yield Passage(
            "docs/explanations.md",
            f"""{maps}: {{}} of {{}} withheld; least share on the chest of a frontal film {{}} (from {{}} maps
            of openi val), on the body of a lateral one {{}} ({{}} maps).""",
            (
                metrics.figure(*here, "check", "withheld", form=whole),
                metrics.figure(*here, "check", "n", form=whole),
                metrics.figure(*here, "check", "frontal"),
                metrics.figure(*here, "check", "n_frontal", form=whole),
                metrics.figure(*here, "check", "lateral"),
                metrics.figure(*here, "check", "n_lateral", form=whole),
            ),
        )
