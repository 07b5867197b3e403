"""``rules``: shows which routing rules match a study, and which destinations get its results."""

from __future__ import annotations

import dataclasses
import enum
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from pydicom.dataset import Dataset

from dicom_node.cli.context import settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import Terminal
from dicom_node.errors import ConfigurationError, NodeError, NotAnalysable

if TYPE_CHECKING:
    from dicom_node.delivery.routing import RoutingAttributes, RoutingDecision

app = typer.Typer(help="Test the routing rules of the settings.", no_args_is_help=True)


class _View(enum.StrEnum):
    FRONTAL = "frontal"
    LATERAL = "lateral"


_Files: TypeAlias = Annotated[list[Path], typer.Argument(metavar="FILE", help="DICOM files of one study")]
_CallingAE: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--calling-ae", help="AE title of the sender; may be repeated"),
]
_Findings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--finding", help="key of a label that a model would find present; may be repeated"),
]
_Views: TypeAlias = Annotated[
    list[_View] | None,
    typer.Option(
        "--view", help="view that the gate would see; may be repeated; View Position (0018,5101) if absent"
    ),
]


@app.callback()
def _group() -> None:
    """Keep ``test`` a command of its own."""


@app.command("test")
def try_rules(
    ctx: typer.Context,
    files: _Files,
    calling_ae: _CallingAE = None,
    finding: _Findings = None,
    view: _Views = None,
    as_json: AsJson = False,
) -> None:
    """Show which rules match a study, why, and which destinations get its results.

    No model is run: give the findings that it would make with --finding. RESEARCH USE ONLY.
    """
    from dicom_node.cli.checks import analysis
    from dicom_node.delivery.routing import RoutingAttributes, route, view_of

    settings = settings_of(ctx)
    _check_findings(finding or (), settings.first_bundle)
    headers = _read_headers(files)
    facts = RoutingAttributes(
        calling_ae=tuple(calling_ae or ()),
        modality=_values(headers, "Modality"),
        body_part=_values(headers, "BodyPartExamined"),
        view=tuple(map(str, view)) if view else tuple(dict.fromkeys(filter(None, map(view_of, headers)))),
        finding=tuple(finding or ()),
    )
    found = route(facts, settings.rules, settings.destinations)
    never = tuple(check.found for check in analysis.rules(settings) if check.ok is False)
    found = dataclasses.replace(found, remarks=(*found.remarks, *never))
    if as_json:
        typer.echo(json.dumps(_as_json(facts, found), indent=2))
    else:
        _print(facts, found)


def _check_findings(findings: Sequence[str], bundle: str) -> None:
    """Check that the configured model has these findings."""
    from dicom_node.analysis.model_errors import translated_model_errors
    from dicom_node.config.mistakes import nearest
    from models.bundles.lookup import label_keys

    if not findings:
        return
    with translated_model_errors():
        known = label_keys(bundle)
    for key in findings:
        if key not in known:
            raise ConfigurationError(f"--finding {key}: no label of {bundle}{nearest(key, known)}")


def _read_headers(files: Sequence[Path]) -> list[Dataset]:
    from dicom_node.imaging.pixels import read_header

    headers = []
    for path in files:
        if not path.exists():
            raise ConfigurationError(f"{path}: no such file")
        try:
            headers.append(read_header(path))
        except (NotAnalysable, OSError) as error:
            raise NodeError(f"{path}: {error}; name DICOM files") from None
    return headers


def _values(headers: Sequence[Dataset], keyword: str) -> tuple[str, ...]:
    """Return the different values of an attribute, in the order of the files."""
    from dicom_node.imaging import attributes

    return tuple(dict.fromkeys(filter(None, (attributes.text(header, keyword) for header in headers))))


def _as_json(facts: RoutingAttributes, found: RoutingDecision) -> dict[str, object]:
    from dicom_node.delivery.routing import CONDITIONS

    return {
        "facts": {key: getattr(facts, key) for key in CONDITIONS},
        "rules": [
            {"name": each.rule.name, "matched": each.matched, "reasons": each.reasons}
            for each in found.matches
        ],
        "remarks": found.remarks,
        "destinations": found.destinations,
    }


def _print(facts: RoutingAttributes, found: RoutingDecision) -> None:
    from dicom_node.delivery.routing import CONDITIONS

    lines = [f"{key}: {', '.join(getattr(facts, key)) or 'nothing'}" for key in CONDITIONS]
    lines.append("" if found.matches else "no rules: every destination gets everything")
    for each in found.matches:
        lines.append(f"{'matches' if each.matched else 'does not match'}: {each.rule.name}")
        lines += [f"    {reason}" for reason in each.reasons]
    lines += [f"remark: {remark}" for remark in found.remarks]
    lines.append(f"destinations: {', '.join(found.destinations) or 'none; the results stay on this node'}")
    console = Terminal(highlight=False, soft_wrap=True)
    for line in lines:
        console.print(line, markup=False)
