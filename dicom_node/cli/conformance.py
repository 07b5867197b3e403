"""``conformance``: prints the DICOM conformance statement."""

from __future__ import annotations

import typer

from dicom_node.cli.context import settings_of


def conformance(ctx: typer.Context) -> None:
    """Print the DICOM conformance statement (PS3.2) of a node with these settings, as Markdown."""
    from dicom_node.conformance import conformance_statement

    typer.echo(conformance_statement(settings_of(ctx)), nl=False)
