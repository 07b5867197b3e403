"""Commands that say who may read in the reading room."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from dicom_node.cli.context import settings_of
from dicom_node.errors import NodeError

if TYPE_CHECKING:
    from dicom_node.web.auth.accounts import Accounts, Role

app = typer.Typer(help="Who may read in the reading room.", no_args_is_help=True)

_Name = Annotated[str, typer.Argument(help="of the account")]
_Role = Annotated[
    str, typer.Option("--role", help="reader, or admin: also uploads, retries, sees who looked")
]
_Stdin = Annotated[bool, typer.Option("--stdin", help="read the password from standard input")]


@contextmanager
def _accounts(ctx: typer.Context) -> Iterator[Accounts]:
    from dicom_node.config.data_dir import DataDir
    from dicom_node.store.index import Index
    from dicom_node.web.auth.accounts import Accounts

    settings = settings_of(ctx)
    DataDir(settings).root.mkdir(parents=True, exist_ok=True)
    index = Index.open(settings.database)
    try:
        yield Accounts(index.engine)
    finally:
        index.close()


@app.command("add")
def add(
    ctx: typer.Context,
    name: _Name,
    role: _Role = "reader",
    stdin: _Stdin = False,
    no_password: Annotated[bool, typer.Option("--no-password", help="comes by a token alone")] = False,
) -> None:
    """Make an account; asks for its password."""
    with _accounts(ctx) as accounts:
        made = accounts.add(name, _role(role), None if no_password else _password(stdin=stdin))
    typer.echo(f"{made.name} may come in as {made.role}")


@app.command("change")
def change(
    ctx: typer.Context,
    name: _Name,
    role: Annotated[str | None, typer.Option("--role", help="reader or admin")] = None,
    password: Annotated[bool, typer.Option("--password", help="ask for a new password")] = False,
    stdin: _Stdin = False,
) -> None:
    """Give an account another role or password; its sessions and tokens end."""
    with _accounts(ctx) as accounts:
        accounts.change(
            name,
            role=None if role is None else _role(role),
            password=_password(stdin=stdin) if password or stdin else None,
        )
    typer.echo(f"{name} was changed and is logged out everywhere")


@app.command("remove")
def remove(ctx: typer.Context, name: _Name) -> None:
    """Remove an account; what the reader said of findings stays."""
    with _accounts(ctx) as accounts:
        accounts.remove(name)
    typer.echo(f"{name} is removed")


@app.command("list")
def show(
    ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="for scripts")] = False
) -> None:
    """List the accounts."""
    with _accounts(ctx) as accounts:
        found = accounts.all()
    if as_json:
        typer.echo(json.dumps([{"name": each.name, "role": each.role} for each in found], indent=2))
    for each in () if as_json else found:
        typer.echo(f"{each.role:7} {each.name}")


@app.command("token")
def token(ctx: typer.Context, name: _Name) -> None:
    """Print a token with which a script may do what an account may: ``Authorization: Bearer TOKEN``."""
    with _accounts(ctx) as accounts:
        if (who := accounts.named(name)) is None:
            raise NodeError(f"there is no account {name!r}; see `dicom-node users list`")
        typer.echo(accounts.begin(who, None))


def _role(text: str) -> Role:
    from dicom_node.web.auth.accounts import Role

    try:
        return Role(text)
    except ValueError:
        raise NodeError(f"--role {text}: use {' or '.join(Role)}") from None


def _password(*, stdin: bool) -> str:
    if stdin:
        return typer.get_text_stream("stdin").readline().rstrip("\n")
    return str(typer.prompt("password", hide_input=True, confirmation_prompt=True))
