"""``config``: shows and checks the settings."""

from __future__ import annotations

import json

import typer
from rich.console import Console

from dicom_node.cli.context import settings_of
from dicom_node.cli.options import AsJson

app = typer.Typer(help="Show or check the settings.", no_args_is_help=True)
_HIDDEN = "***"


@app.command()
def show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Print every setting with its effective value; passwords in addresses are hidden."""
    table = settings_of(ctx).model_dump(mode="json")
    for section in (table, table["retrieval"]):
        for key in ("broker_url", "database_url"):
            if key in section:
                section[key] = _without_password(section[key])
    if as_json:
        typer.echo(json.dumps(table, indent=2))
        return
    console = Console(highlight=False, soft_wrap=True)
    for key, value in _flat(table):
        console.print(f"{key} = {json.dumps(value, ensure_ascii=False)}", markup=False)


@app.command()
def check(ctx: typer.Context) -> None:
    """Check the settings; exit code 2 and one line for each mistake when they are wrong."""
    from dicom_node.dimse.tls import check_certificates

    settings = settings_of(ctx)
    check_certificates(settings)
    typer.echo(
        f"settings are valid: AE title {settings.dicom.ae_title}, {len(settings.destinations)} destinations"
    )


def _flat(table: dict[str, object], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, value in table.items():
        rows += _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else [(prefix + key, value)]
    return rows


def _without_password(address: str | None) -> str | None:
    if not address or "@" not in address:
        return address
    scheme, _, rest = address.partition("://")
    credentials, _, place = rest.rpartition("@")
    user = credentials.partition(":")[0]
    return f"{scheme}://{user}:{_HIDDEN}@{place}"
