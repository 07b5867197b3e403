"""``rules``: where a study's results would go, and why."""

from __future__ import annotations

import enum
import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dicom_node.cli.context import settings_of

app = typer.Typer(help="Try the rules that say where results go.", no_args_is_help=True)


class _View(enum.StrEnum):
    FRONTAL = "frontal"
    LATERAL = "lateral"


@app.callback()
def _group() -> None:
    """Keep ``test`` a command of its own."""


@app.command("test")
def try_rules(
    ctx: typer.Context,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="DICOM files of one study")],
    calling_ae: Annotated[
        list[str] | None, typer.Option("--calling-ae", help="who sent them; may be repeated")
    ] = None,
    finding: Annotated[
        list[str] | None, typer.Option("--finding", help="key of a label found present; may be repeated")
    ] = None,
    view: Annotated[
        list[_View] | None,
        typer.Option("--view", help="as the gate would see it; View Position when absent"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False,
) -> None:
    """Say which rules match a study, why, and which destinations get its results. No model is run.

    What a model would find is given with --finding. RESEARCH USE ONLY.
    """
    from dicom_node.delivery.routing import CONDITIONS, Facts, route, view_of
    from dicom_node.errors import NodeError, NotAnalysable
    from dicom_node.imaging import attributes
    from dicom_node.imaging.pixels import read_header

    settings = settings_of(ctx)
    headers = []
    for path in files:
        try:
            headers.append(read_header(path))
        except (NotAnalysable, OSError) as error:
            raise NodeError(f"{path}: {error}; name DICOM files") from None

    def values(keyword: str) -> tuple[str, ...]:
        return tuple(dict.fromkeys(filter(None, (attributes.text(header, keyword) for header in headers))))

    facts = Facts(
        calling_ae=tuple(calling_ae or ()),
        modality=values("Modality"),
        body_part=values("BodyPartExamined"),
        view=tuple(map(str, view)) if view else tuple(dict.fromkeys(filter(None, map(view_of, headers)))),
        finding=tuple(finding or ()),
    )
    found = route(facts, settings.rules, settings.destinations)
    if as_json:
        typer.echo(
            json.dumps(
                {
                    "facts": {key: getattr(facts, key) for key in CONDITIONS},
                    "rules": [
                        {"name": each.rule.name, "matched": each.matched, "reasons": each.reasons}
                        for each in found.matches
                    ],
                    "remarks": found.remarks,
                    "destinations": found.destinations,
                },
                indent=2,
            )
        )
        return
    console = Console(highlight=False, soft_wrap=True)

    def say(line: str) -> None:
        console.print(line, markup=False)

    for key in CONDITIONS:
        say(f"{key}: {', '.join(getattr(facts, key)) or 'nothing'}")
    say("" if found.matches else "no rules: every destination gets everything")
    for each in found.matches:
        say(f"{'matches' if each.matched else 'does not match'}: {each.rule.name}")
        for reason in each.reasons:
            say(f"    {reason}")
    for remark in found.remarks:
        say(f"remark: {remark}")
    say(f"destinations: {', '.join(found.destinations) or 'none; the results stay here'}")
