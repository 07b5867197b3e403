"""``explain``: draws heat maps of one film as image files.

Heavy libraries are imported inside the functions: the root command imports this module at every start.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from dicom_node.analysis.film_files import read_film, shared_decoder
from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.cli.context import settings_of
from dicom_node.cli.options import AsJson, ConfiguredBundle
from dicom_node.cli.output import Terminal, translated_write_errors
from dicom_node.errors import ConfigurationError, NodeError, NotAnalysable

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from models.bundles.predictor import Predictor, TracedPrediction
    from models.explain.heatmap import Heatmap
    from models.explain.token_attribution import WordAttribution
    from models.processing.types import Film, FindingScore

_IMAGES = (".png", ".jpg", ".jpeg")
_LONGER_SIDE = 768
"""Longer side of a drawn film, in pixels."""

_File: TypeAlias = Annotated[Path, typer.Argument(metavar="FILE", help="one film: DICOM, PNG or JPEG")]
_Out: TypeAlias = Annotated[Path, typer.Option("--out", "-o", help="folder of the image files")]
_Method: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--method",
        "-m",
        help="method: gradcam, attention, ig or occlusion; the bundle's own method if absent",
    ),
]
_Findings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--finding", "-f", help="key of a label, may be repeated; the findings that are present if absent"
    ),
]
_Text: TypeAlias = Annotated[
    str | None,
    typer.Option("--text", help="indication, for a bundle that reads text; the weight of each word is shown"),
]


def explain(
    ctx: typer.Context,
    file: _File,
    out: _Out,
    bundle: ConfiguredBundle = None,
    method: _Method = None,
    finding: _Findings = None,
    text: _Text = None,
    as_json: AsJson = False,
) -> None:
    """Draw heat maps of one film, which show where a model looked. RESEARCH USE ONLY.

    Each image file shows the film, the heat map, both together and a colour bar. As in the node, the gate
    refuses a film that is inverted, rotated or no chest film; an empty DICOM_NODE_WORKER__GATE turns it off.
    A heat map that the node would withhold is drawn with a note that says so.
    """
    settings = settings_of(ctx)
    with translated_model_errors():
        from models.bundles.predictor import Predictor
        from models.explain.methods import draw_heatmaps
        from models.explain.targets import reported_findings
        from models.processing.types import Film, Study

        film = Film(file.name, _pixels(file))
        predictor = Predictor.load(
            bundle or settings.worker.bundle,
            runtime=settings.worker.runtime,
            gradients=method not in (None, "gradcam") or text is not None,
        )
        name = method or predictor.explanation
        _check_options(predictor, name, finding or (), text)
        view = _gate_view(settings, film)
        (reading,) = predictor.trace([Study((film,), text)])
        keys = tuple(finding or reported_findings(reading.prediction, settings.results.saliency_limit))
        panels = [
            _draw_panel(out, file, predictor, reading, heatmap, view)
            for heatmap in draw_heatmaps(predictor, reading, keys, method=name)
        ]
        words = {key: _words(predictor, reading, key) for key in keys} if text else {}
    if as_json:
        typer.echo(json.dumps(_as_json(panels, words), indent=2))
    else:
        _print(panels, words, name)


def _check_options(predictor: Predictor, method: str, findings: Sequence[str], text: str | None) -> None:
    """Check that the bundle has the method and the findings, and reads text if some is given."""
    from models.explain.methods import objection

    name = predictor.identity.name
    if reason := objection(predictor, method):
        raise ConfigurationError(f"--method {method}: {reason}")
    known = [label.key for label in predictor.labels]
    for key in findings:
        if key not in known:
            raise ConfigurationError(f"--finding {key}: bundle {name} has {', '.join(known)}")
    if text is not None and predictor.text == "none":
        raise ConfigurationError(f"--text: bundle {name} reads films alone")


def _pixels(file: Path) -> Any:
    """Read the pixels of an image file, or else of a DICOM file, as its suffix says."""
    if not file.is_file():
        raise ConfigurationError(f"{file}: there is no such file")
    if file.suffix.lower() in _IMAGES:
        return read_film(file)
    try:
        return shared_decoder().decode(file)
    except NotAnalysable as error:
        raise NodeError(f"film {file} cannot be read: {error}") from error


def _aspect_ratio(file: Path) -> float:
    """Return the ratio of height to width of a film's pixels; those of an image file are square."""
    from dicom_node.imaging.pixel_shape import aspect_ratio
    from dicom_node.imaging.pixels import read_header

    return 1.0 if file.suffix.lower() in _IMAGES else aspect_ratio(read_header(file))


def _gate_view(settings: Settings, film: Film) -> str:
    """Return the view that the gate sees; empty without a gate.

    Raises
    ------
    NodeError
        If the gate refuses the film.
    """
    from worker.model_loading import load_gate
    from worker.report_builder import gate_eligibility

    gate = load_gate(settings.worker)
    if gate is None:
        return ""
    (verdict,) = gate.judge([film])
    if verdict.reason is not None:
        raise NodeError(f"film {film.identifier} is not explained: {gate_eligibility(verdict).text}")
    return verdict.view


def _draw_panel(
    out: Path, file: Path, predictor: Predictor, reading: TracedPrediction, heatmap: Heatmap, view: str
) -> dict[str, Any]:
    """Draw one heat map into an image file, and return its entry for JSON."""
    from PIL import Image, PngImagePlugin

    from dicom_node.results.codes import INTENDED_USE, RESEARCH_USE_ONLY
    from dicom_node.results.image.overlay import draw
    from dicom_node.results.report import THRESHOLD_WORDS, Presence
    from models.processing.map_check import region_of
    from worker.report_builder import METHOD_NAMES

    film = reading.study.films[0]
    entry = next(entry for entry in reading.prediction.findings if entry.key == heatmap.key)
    label = next(label for label in predictor.labels if label.key == heatmap.key)
    withheld = predictor.bundle.map_check.objection(heatmap.preview, region_of(film.pixels, view), view)
    model = f"{predictor.identity.name} {predictor.identity.version}"
    presence = Presence.PRESENT if entry.present else Presence.ABSENT
    compared = f"{THRESHOLD_WORDS[presence]} its threshold"
    picture = draw(
        film.pixels,
        heatmap.values,
        banner=" · ".join((RESEARCH_USE_ONLY, label.name, model, _certainty(entry), compared)),
        caption=f"{METHOD_NAMES[heatmap.method]}: where the model looked, not where disease is."
        + (f" The node would withhold it: {withheld}." if withheld else " Not for clinical use."),
        longer_side=_LONGER_SIDE,
        aspect_ratio=_aspect_ratio(file),
        map_alone=True,
    )
    path = out / f"{file.stem}-{heatmap.key}-{heatmap.method}.png"
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", INTENDED_USE)
    with translated_write_errors("--out", out):
        out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, pnginfo=note)
    return {
        "file": str(path),
        "finding": heatmap.key,
        "method": heatmap.method,
        "score": entry.score,
        "certainty": entry.probability,
        "presence": presence.value,
        "withheld": withheld,
    }


def _certainty(entry: FindingScore) -> str:
    if entry.probability is None:
        return f"score {entry.score:.2f}, not calibrated"
    return f"certainty {100 * entry.probability:.0f} %"


def _words(predictor: Predictor, reading: TracedPrediction, key: str) -> tuple[WordAttribution, ...]:
    from models.explain.token_attribution import attribute_words

    return attribute_words(predictor, reading, key)


def _as_json(
    panels: list[dict[str, Any]], words: dict[str, tuple[WordAttribution, ...]]
) -> dict[str, object]:
    weights = {key: [asdict(word) for word in found] for key, found in words.items()}
    return {"panels": panels, "words": weights, "intended_use": "RESEARCH USE ONLY"}


def _print(panels: list[dict[str, Any]], words: dict[str, tuple[WordAttribution, ...]], method: str) -> None:
    console = Terminal(highlight=False, soft_wrap=True)
    console.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    if not panels:
        console.print(
            f"no finding is above its threshold, so {method} has nothing to explain: name one with --finding"
        )
    for panel in panels:
        console.print(panel["file"], markup=False)
        if panel["withheld"]:
            console.print(f"  the node would withhold it: {panel['withheld']}", markup=False)
    for key, found in words.items():
        ranked = sorted(found, key=lambda word: -abs(word.weight))
        console.print(
            f"{key}: " + ", ".join(f"{word.text} {word.weight:+.3f}" for word in ranked), markup=False
        )
