"""``explain``: where a model looked on one film, as pictures.

Heavy libraries are imported inside the command, because the root command imports this module at every start.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from dicom_node.cli.context import settings_of
from dicom_node.cli.evaluate import one_sentence, writing
from dicom_node.cli.films import decoder, read_film
from dicom_node.errors import ConfigurationError, NodeError, NotAnalysable

if TYPE_CHECKING:
    from dicom_node.config.settings import Settings
    from models.bundles.predictor import Predictor, Reading
    from models.explain.heatmap import Heatmap
    from models.explain.token_attribution import Word
    from models.processing.types import Film, FindingScore

_IMAGES = (".png", ".jpg", ".jpeg")
_LONGER_SIDE = 768


def explain(
    ctx: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="one film: DICOM, PNG or JPEG")],
    out: Annotated[Path, typer.Option("--out", "-o", help="folder for the pictures")],
    bundle: Annotated[
        str | None, typer.Option("--bundle", "-b", help="name or folder of a model bundle")
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            "--method", "-m", help="gradcam, attention, ig or occlusion; the bundle's own when absent"
        ),
    ] = None,
    finding: Annotated[
        list[str] | None,
        typer.Option("--finding", "-f", help="key of a label, again for more; the present ones when absent"),
    ] = None,
    text: Annotated[
        str | None,
        typer.Option("--text", help="indication, for a bundle that reads one; its words are weighed"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Draw where a model looked on one film: film, heat map, both together, colour bar. RESEARCH USE ONLY.

    An inverted, turned or foreign picture is refused as the node refuses it; DICOM_NODE_WORKER__GATE= (empty)
    turns that off. A picture that the node would withhold is drawn and says so.
    """
    settings = settings_of(ctx)
    with one_sentence():
        from models.bundles.predictor import Predictor
        from models.explain import heatmaps, methods_of
        from models.explain.targets import reported
        from models.processing.types import Film, Study

        film = Film(file.name, _pixels(file))
        predictor = Predictor.load(bundle or settings.worker.bundle)
        name = method or predictor.explanation
        if name not in methods_of(predictor):
            raise ConfigurationError(
                f"--method {name}: bundle {predictor.identity.name} has {', '.join(methods_of(predictor))}"
            )
        known = [label.key for label in predictor.labels]
        for key in finding or ():
            if key not in known:
                raise ConfigurationError(
                    f"--finding {key}: bundle {predictor.identity.name} has {', '.join(known)}"
                )
        if text is not None and predictor.text == "none":
            raise ConfigurationError(f"--text: bundle {predictor.identity.name} reads films alone")
        view = _admitted(settings, film)
        (reading,) = predictor.read([Study((film,), text)])
        keys = tuple(finding or reported(reading.prediction, settings.results.saliency_limit))
        panels = [
            _panel(out, file, predictor, reading, one, view)
            for one in heatmaps(predictor, reading, keys, method=name)
        ]
        words = {key: _words(predictor, reading, key) for key in keys} if text else {}
    _say(panels, words, name, as_json=as_json)


def _pixels(file: Path) -> Any:
    """Pixels of a film, by its ending: an image, or else DICOM."""
    if not file.is_file():
        raise ConfigurationError(f"{file}: there is no such file")
    if file.suffix.lower() in _IMAGES:
        return read_film(file)
    try:
        return decoder().decode(file)
    except NotAnalysable as error:
        raise NodeError(f"film {file} cannot be read: {error}") from error


def _admitted(settings: Settings, film: Film) -> str:
    """View of a film that the gate lets through; empty without a gate.

    Raises
    ------
    NodeError
        With what the gate has against it.
    """
    from worker.model_loading import load_gate
    from worker.report_builder import objection

    gate = load_gate(settings.worker)
    if gate is None:
        return ""
    (verdict,) = gate.judge([film])
    if verdict.reason is not None:
        raise NodeError(f"film {film.identifier} is not explained: {objection(verdict).text}")
    return verdict.view


def _panel(
    out: Path, file: Path, predictor: Predictor, reading: Reading, one: Heatmap, view: str
) -> dict[str, Any]:
    """Draw one picture and say what is on it."""
    from PIL import Image, PngImagePlugin

    from dicom_node.results.codes import INTENDED_USE, RESEARCH_USE_ONLY
    from dicom_node.results.image.overlay import draw
    from models.processing.map_check import region_of
    from worker.report_builder import METHODS

    film = reading.study.films[0]
    entry = next(entry for entry in reading.prediction.findings if entry.key == one.key)
    label = next(label for label in predictor.labels if label.key == one.key)
    withheld = predictor.bundle.map_check.objection(one.looked_at, region_of(film.pixels, view), view)
    model = f"{predictor.identity.name} {predictor.identity.version}"
    presence = "present" if entry.present else "absent"
    picture = draw(
        film.pixels,
        one.values,
        banner=" · ".join((RESEARCH_USE_ONLY, label.name, model, _certainty(entry), presence)),
        caption=f"{METHODS[one.method]}: where the model looked, not where disease is."
        + (f" The node would withhold it: {withheld}." if withheld else " Not for clinical use."),
        longer_side=_LONGER_SIDE,
        map_alone=True,
    )
    path = out / f"{file.stem}-{one.key}-{one.method}.png"
    note = PngImagePlugin.PngInfo()
    note.add_text("Comment", INTENDED_USE)
    with writing("--out", out):
        out.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(path, pnginfo=note)
    return {
        "file": str(path),
        "finding": one.key,
        "method": one.method,
        "score": entry.score,
        "certainty": entry.probability,
        "presence": presence,
        "withheld": withheld,
    }


def _certainty(entry: FindingScore) -> str:
    if entry.probability is None:
        return f"score {entry.score:.2f}, not calibrated"
    return f"certainty {100 * entry.probability:.0f} %"


def _words(predictor: Predictor, reading: Reading, key: str) -> tuple[Word, ...]:
    from models.explain.token_attribution import words

    return words(predictor, reading, key)


def _say(
    panels: list[dict[str, Any]], words: dict[str, tuple[Word, ...]], method: str, *, as_json: bool
) -> None:
    if as_json:
        weights = {key: [asdict(word) for word in found] for key, found in words.items()}
        said = {"panels": panels, "words": weights, "intended_use": "RESEARCH USE ONLY"}
        typer.echo(json.dumps(said, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    console.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    if not panels:
        console.print(
            f"no finding is present, so there is nothing for {method} to explain: name one with --finding"
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
