"""``explain``: draws heat maps of one film as image files.

Heavy libraries are imported inside the functions: the root command imports this module at every start.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from dicom_node.analysis.film_files import is_image
from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.cli.context import settings_of
from dicom_node.cli.options import AsJson, ConfiguredBundle, ConfiguredDevice
from dicom_node.cli.output import Terminal, translated_write_errors
from dicom_node.errors import ConfigurationError

if TYPE_CHECKING:
    from dicom_node.analysis.heat_maps import HeatMap
    from dicom_node.config.settings import Settings
    from models.bundles.predictor import Predictor, TracedPrediction
    from models.explain.token_attribution import WordAttribution
    from models.processing.types import Film

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
    *,
    bundle: ConfiguredBundle = None,
    device: ConfiguredDevice = None,
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
    from dicom_node.analysis.bundle import chosen_settings
    from dicom_node.analysis.films import named_film
    from dicom_node.analysis.heat_maps import check_choice, gate_view, heat_maps_of
    from worker.model_loading import load_gate

    settings = chosen_settings(settings_of(ctx), bundle=bundle, device=device)
    with translated_model_errors():
        from models.explain.targets import reported_findings
        from models.processing.types import Study

        film = named_film(file)
        predictor = _predictor(settings, gradients=method not in (None, "gradcam") or text is not None)
        name = method or predictor.explanation
        check_choice(predictor, name, finding or (), prefix="--")
        if text is not None and predictor.text == "none":
            raise ConfigurationError(f"--text: bundle {predictor.identity.name} reads films alone")
        view = gate_view(load_gate(settings.worker), film)
        (reading,) = predictor.trace([Study((film,), text)])
        keys = tuple(finding or reported_findings(reading.prediction, settings.results.saliency_limit))
        panels = [
            _draw_panel(out, file, predictor, film, heat_map)
            for heat_map in heat_maps_of(predictor, reading, keys, name, view)
        ]
        words = {key: _words(predictor, reading, key) for key in keys} if text else {}
    if as_json:
        typer.echo(json.dumps(_as_json(panels, words), indent=2))
    else:
        _print(panels, words, name)


def _aspect_ratio(file: Path) -> float:
    """Return the ratio of height to width of a film's pixels; those of an image file are square."""
    from dicom_node.imaging.pixel_shape import aspect_ratio
    from dicom_node.imaging.pixels import read_header

    return 1.0 if is_image(file) else aspect_ratio(read_header(file))


def _draw_panel(out: Path, file: Path, predictor: Predictor, film: Film, heat_map: HeatMap) -> dict[str, Any]:
    """Draw one heat map into an image file, and return its entry for JSON."""
    from PIL import Image, PngImagePlugin

    from dicom_node.results.codes import INTENDED_USE, RESEARCH_USE_ONLY
    from dicom_node.results.image.overlay import draw
    from dicom_node.results.report import THRESHOLD_WORDS, Presence
    from worker.report_builder import METHOD_NAMES

    model = f"{predictor.identity.name} {predictor.identity.version}"
    presence = Presence.PRESENT if heat_map.above else Presence.ABSENT
    compared = f"{THRESHOLD_WORDS[presence]} its threshold"
    withheld = heat_map.withheld
    picture = draw(
        film.pixels,
        heat_map.values,
        banner=" · ".join((RESEARCH_USE_ONLY, heat_map.name, model, _certainty(heat_map), compared)),
        caption=f"{METHOD_NAMES[heat_map.method]}: where the model looked, not where disease is."
        + (f" The node would withhold it: {withheld}." if withheld else " Not for clinical use."),
        longer_side=_LONGER_SIDE,
        aspect_ratio=_aspect_ratio(file),
        map_alone=True,
    )
    path = out / f"{file.stem}-{heat_map.finding}-{heat_map.method}.png"
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", INTENDED_USE)
    with translated_write_errors("--out", out):
        out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, pnginfo=note)
    return {
        "file": str(path),
        "finding": heat_map.finding,
        "method": heat_map.method,
        "score": heat_map.score,
        "certainty": heat_map.certainty,
        "presence": presence.value,
        "withheld": withheld,
    }


def _certainty(heat_map: HeatMap) -> str:
    if heat_map.certainty is None:
        return f"score {heat_map.score:.2f}, not calibrated"
    return f"certainty {100 * heat_map.certainty:.0f} %"


def _predictor(settings: Settings, *, gradients: bool) -> Predictor:
    """Load the bundle of the settings, in torch where the network itself is needed."""
    from models.bundles.bundle import find_bundle, read_bundle
    from models.bundles.predictor import Predictor
    from models.bundles.runtime import choose_runtime
    from worker.model_loading import resolve_device

    worker = settings.worker
    bundle = read_bundle(find_bundle(settings.first_bundle))
    runtime = choose_runtime(
        worker.runtime,
        device=worker.device,
        graph=bundle.has_graph,
        graph_alone=bundle.manifest.graph_alone,
        gradients=gradients,
    ).name
    predictor = Predictor(bundle, device=resolve_device(worker.device, runtime), runtime=runtime)
    predictor.warm_up()
    return predictor


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
