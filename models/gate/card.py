"""The card of a gate, in Markdown, from the gate and its ``metrics.json`` alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.bundles.manifest import WEIGHTS
from models.gate.model import Gate

_FILMS = {
    "kept": "kept as they are",
    "kept_varied": "kept when moved, cropped, framed, mirrored or exposed otherwise",
    "view": "told rightly whether frontal or lateral",
    "inverted": "found inverted when they are",
    "rotated": "found on their side or head when turned",
    "mirrored": "frontal ones told rightly whether left and right are exchanged",
}

_LIMITS = (
    """The films are of two collections, most of them of adults and at 256 or 320 pixels: films of children
    and of other equipment may be turned away more often than measured here.""",
    """Hands, feet and limbs were drawn, for hardly a real radiograph of another body part was there to fit to
    or to measure on. Abdomen, shoulder, spine and ribs lie close to the chest and may pass.""",
    """A few films of each collection lie on their side as they came; here they count as chest films that were
    turned away.""",
    "It looks at the picture alone. What a header says is judged elsewhere.",
    "Its scores are not calibrated: they are no probabilities.",
)


def write_gate_card(gate: Gate, metrics: Mapping[str, Any]) -> str:
    """Write the card; the same text for the same gate and figures.

    Parameters
    ----------
    metrics
        Contents of its ``metrics.json``: as :func:`models.gate.evaluate.measure_gate` gives them, and
        ``fitted_to``, how many pictures that are no chest films each source gave.
    """
    manifest = gate.manifest
    films, others = tables(metrics)
    sections = [
        f"# {manifest.name} {manifest.version}",
        f"**Research use only. Not a medical device; never for diagnosis.** {manifest.summary}.",
        _identity(gate),
        _section(
            "Fitted to",
            f"""Chest films and pictures that are none: {", ".join(manifest.fitted_to)}. Neither films nor
            other pictures, nor anything that shows one, is part of the gate. The thresholds are
            quantiles of varied films of `val`. A source is named after the software whose pictures they
            are.""",
            _table(
                ("source of pictures that are no chest films", "pictures"),
                [(source, str(count)) for source, count in metrics["fitted_to"].items()],
            ),
        ),
        _section(
            f"Chest films of `{metrics['split']}`",
            """Share, its 95 % interval, and the number of films. Nothing was fitted to these films; how sure
            the rotated score must be was decided after a look at the tilted films of all splits.""",
            films,
        ),
        _section(
            "Pictures that are no chest films",
            f"Nothing was fitted to these sources; the corners are of films of `{metrics['split']}`.",
            others,
        ),
        "## Limits\n\n" + "\n".join(f"- {' '.join(limit.split())}" for limit in _LIMITS),
        _section(
            "Commands that produced it",
            f"```\ndicom-node train models/recipes/{manifest.name}.toml --data FOLDER\n"
            f"dicom-node evaluate {manifest.folder} --data FOLDER\n```",
        ),
    ]
    return "\n\n".join(sections) + "\n"


def tables(metrics: Mapping[str, Any]) -> tuple[str, str]:
    """Tables of the chest films and of the other pictures."""
    films = metrics["films"]
    rows = [(words, *(_share(figures[name]) for figures in films.values())) for name, words in _FILMS.items()]
    rows.append(
        ("turned away as they are", *(_reasons(figures["refused_for"]) for figures in films.values()))
    )
    listed = {**metrics["others"], "**in all**": metrics["others_in_all"]}
    others = [
        (source, _share(figures["refused"]), _reasons(figures["refused_for"]))
        for source, figures in listed.items()
    ]
    return _table(("", *(f"`{name}`" for name in films)), rows), _table(("source", "refused", "for"), others)


def _identity(gate: Gate) -> str:
    manifest, thresholds = gate.manifest, gate.manifest.thresholds
    rows = [
        ("network", f"first stages of {manifest.backbone}, {gate.network.width} features"),
        ("input", f"one film, {manifest.preprocessing.size} pixels square"),
        ("chest score", f"refused below {thresholds.chest:.3f}"),
        ("inverted, rotated score", f"refused from {thresholds.inverted:.2f}, {thresholds.rotated:.2f}"),
        ("distance", f"refused above {thresholds.distance:.2f}"),
        ("weights sha256", f"`{gate.hashes[WEIGHTS]}`"),
    ]
    return _table(("", ""), rows)


def _share(figures: Mapping[str, Any]) -> str:
    if not figures["n"]:
        return "-"
    return f"{figures['share']:.4f} ({figures['low']:.3f} to {figures['high']:.3f}), {figures['n']}"


def _reasons(reasons: Mapping[str, int]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in reasons.items()) or "-"


def _section(title: str, *parts: str) -> str:
    """Heading and paragraphs; tables and code keep their lines."""
    texts = (part if part.startswith(("|", "```")) else " ".join(part.split()) for part in parts)
    return "\n\n".join((f"## {title}", *texts))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in (header, ["---"] * len(header), *rows))
