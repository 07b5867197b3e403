"""``config``: shows and checks the settings."""

from __future__ import annotations

import json
from typing import Any

import typer

from dicom_node.cli.context import settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import Terminal
from dicom_node.config.addresses import without_password
from dicom_node.config.private_files import check_secrets
from dicom_node.errors import ConfigurationError

app = typer.Typer(help="Show or check the settings.", no_args_is_help=True)


@app.command()
def show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Print every setting with its effective value; passwords in addresses are hidden."""
    table = _without_passwords(settings_of(ctx).model_dump(mode="json"))
    if as_json:
        typer.echo(json.dumps(table, indent=2))
        return
    console = Terminal(highlight=False, soft_wrap=True)
    for key, value in _flat(table):
        console.print(f"{key} = {json.dumps(value, ensure_ascii=False)}", markup=False)


@app.command()
def check(ctx: typer.Context) -> None:
    """Check the settings, without a network; exit code 2 and one line for each mistake when they are wrong.

    `doctor` also asks the broker, the database and the peers.
    """
    from dicom_node.cli.checks import analysis, network, storage
    from dicom_node.dimse.tls import check_certificates

    settings = settings_of(ctx)
    check_secrets(settings)
    check_certificates(settings)
    looks = (network.destination_hosts, storage.data_dir, analysis.named, analysis.rules)
    failed = [found for look in looks for found in look(settings) if found.ok is False]
    if failed:
        raise ConfigurationError("\n".join(f"{each.found}; {each.remedy}" for each in failed))
    typer.echo(
        f"settings are valid: AE title {settings.dicom.ae_title}, {len(settings.destinations)} destinations"
    )


def _without_passwords(value: Any) -> Any:
    """Return settings in which no address shows its password."""
    if isinstance(value, dict):
        return {key: _without_passwords(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_passwords(each) for each in value]
    return without_password(value) if isinstance(value, str) else value


def _flat(table: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, value in table.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return rows
