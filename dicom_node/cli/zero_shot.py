"""The command that asks a bundle with a text tower in words, without any training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from dicom_node.cli.evaluate import one_sentence
from dicom_node.errors import ConfigurationError

#: What is written of a film that shows a finding, and of one that does not (Tiu et al. 2022).
SENTENCES = ("a chest radiograph with {}", "a chest radiograph without {}")


def prompt(
    films: Annotated[list[Path], typer.Argument(metavar="FILM...", help="DICOM files or grey images")],
    bundle: Annotated[
        str, typer.Option("--bundle", "-b", help="name or folder of a bundle of the family biomedclip")
    ],
    findings: Annotated[
        list[str] | None,
        typer.Option("--finding", "-f", help="in words, once for each; the bundle's labels when absent"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Ask in words what films show, zero-shot: each is nearer to "... with X" or to "... without X".

    The answers are scores between 0 and 1, never probabilities. RESEARCH USE ONLY.
    """
    from dicom_node.cli.films import read_film
    from models.architectures.biomedclip import BiomedClip, score_prompts
    from models.bundles.predictor import Predictor

    with one_sentence():
        predictor = Predictor.load(bundle)
        network, tokenizer = predictor.network, predictor.tokenizer
        if not isinstance(network, BiomedClip) or tokenizer is None:
            raise ConfigurationError(
                f"bundle {predictor.identity.name} has no text tower to ask: use one of the family "
                "biomedclip that was trained with [architecture.arguments.prompts]"
            )
        asked = findings or [label.name.lower() for label in predictor.labels]
        if blank := [entry for entry in asked if not entry.strip()]:
            raise ConfigurationError(f"--finding {blank[0]!r} says nothing: write what is looked for")
        images = predictor.preprocessing([read_film(path) for path in films]).to(predictor.device)
    prompts = [(SENTENCES[0].format(entry), SENTENCES[1].format(entry)) for entry in asked]
    scores = score_prompts(network, tokenizer, images, prompts).cpu().tolist()
    if as_json:
        answers = {
            str(path): dict(zip(asked, row, strict=True)) for path, row in zip(films, scores, strict=True)
        }
        typer.echo(json.dumps({"scores": answers, "intended_use": "RESEARCH USE ONLY"}, indent=2))
        return
    console = Console(highlight=False)
    console.print("RESEARCH USE ONLY: not for diagnosis", style="bold")
    table = Table("finding", *(path.name for path in films), box=None, pad_edge=False)
    for column, name in enumerate(asked):
        table.add_row(name, *(f"{row[column]:.3f}" for row in scores))
    console.print(table)
