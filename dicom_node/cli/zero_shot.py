"""``zero-shot``: scores findings given in words, with a bundle that has a text tower; nothing is trained.

Heavy libraries are imported inside the functions: the root command imports this module at every start.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.table import Table

from dicom_node.analysis.model_errors import translated_model_errors
from dicom_node.cli.options import AsJson, Device, torch_device
from dicom_node.cli.output import Terminal
from dicom_node.errors import ConfigurationError

SENTENCES = ("a chest radiograph with {}", "a chest radiograph without {}")
"""Prompts for a film that shows a finding, and for one that does not (Tiu et al. 2022)."""

_Films: TypeAlias = Annotated[
    list[Path], typer.Argument(metavar="FILM", help="films: DICOM files or grayscale images")
]
_Bundle: TypeAlias = Annotated[
    str, typer.Option("--bundle", "-b", help="name or folder of a model bundle of the family biomedclip")
]
_Findings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--finding", "-f", help="finding in words, may be repeated; the labels of the bundle if absent"
    ),
]


def zero_shot(
    films: _Films, bundle: _Bundle, findings: _Findings = None, device: Device = None, as_json: AsJson = False
) -> None:
    """Score findings that are given in words, without training for them (zero-shot).

    No shipped bundle has the text tower for it; models/recipes/biomedclip.toml trains one.

    The score says how much nearer a film is to "a chest radiograph with X" than to "... without X": from 0 to
    1, and not a probability. RESEARCH USE ONLY.
    """
    from dicom_node.analysis.film_files import read_film
    from models.architectures.biomedclip import BiomedClip, score_prompts
    from models.bundles.predictor import Predictor

    with translated_model_errors():
        predictor = Predictor.load(bundle, device=torch_device(device))
        network, tokenizer = predictor.network, predictor.tokenizer
        if not isinstance(network, BiomedClip) or tokenizer is None:
            raise ConfigurationError(
                f"bundle {predictor.identity.name} has no text tower: use a bundle of the family "
                "biomedclip that was trained with [architecture.arguments.prompts]"
            )
        asked = findings or [label.name.lower() for label in predictor.labels]
        if blank := [entry for entry in asked if not entry.strip()]:
            raise ConfigurationError(f"--finding {blank[0]!r} is empty: give the words of a finding")
        images = predictor.preprocessing([read_film(path) for path in films]).to(predictor.device)
    prompts = [(SENTENCES[0].format(entry), SENTENCES[1].format(entry)) for entry in asked]
    scores = score_prompts(network, tokenizer, images, prompts).cpu().tolist()
    if as_json:
        answers = {
            str(path): dict(zip(asked, row, strict=True)) for path, row in zip(films, scores, strict=True)
        }
        typer.echo(json.dumps({"scores": answers, "intended_use": "RESEARCH USE ONLY"}, indent=2))
        return
    console = Terminal(highlight=False)
    console.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    table = Table("finding", *(path.name for path in films), box=None, pad_edge=False)
    for column, name in enumerate(asked):
        table.add_row(name, *(f"{row[column]:.3f}" for row in scores))
    console.print(table)
