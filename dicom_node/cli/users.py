"""``users``: manages the accounts of the reading room."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from dicom_node.audit_trail import events
from dicom_node.audit_trail.trail import AuditTrail
from dicom_node.cli.context import open_index, open_whole_index, settings_of
from dicom_node.cli.options import AsJson
from dicom_node.cli.output import say
from dicom_node.errors import ConfigurationError, NodeError

if TYPE_CHECKING:
    from dicom_node.web.auth.accounts import Account, Accounts, Role

app = typer.Typer(help="Manage the accounts of the reading room.", no_args_is_help=True)

_ROLES = "reader, or admin, who may also upload and retry studies and see the access log"

_Name: TypeAlias = Annotated[str, typer.Argument(metavar="NAME", help="name of the account")]
_Stdin: TypeAlias = Annotated[bool, typer.Option("--stdin", help="read the password from standard input")]


@contextmanager
def _accounts(
    ctx: typer.Context, name: str = "", change: str = "", *, create: bool = False
) -> Iterator[Accounts]:
    """Open the accounts; with a name, record in the audit trail that the account was changed.

    Only where it may `create` is a database made: elsewhere a wrong data directory is an error.
    """
    from dicom_node.config.data_dir import DataDir
    from dicom_node.web.auth.accounts import Accounts

    settings = settings_of(ctx)
    if create:
        DataDir(settings).root.mkdir(parents=True, exist_ok=True)
    index = open_whole_index(settings, read_all=False) if create else open_index(settings)
    try:
        yield Accounts(index.engine)
        if name:
            trail = AuditTrail.open(settings, index.engine)
            trail.record(events.account_changed(events.operator(), name, change))
            trail.close()
    finally:
        index.close()


@app.command("add")
def add(
    ctx: typer.Context,
    name: _Name,
    role: Annotated[str, typer.Option("--role", help=_ROLES)] = "reader",
    stdin: _Stdin = False,
    no_password: Annotated[
        bool, typer.Option("--no-password", help="no password: the account is used with a token only")
    ] = False,
) -> None:
    """Add an account; asks for its password."""
    with _accounts(ctx, name, f"account added: {role}", create=True) as accounts:
        made = accounts.add(name, _role(role), None if no_password else _password(stdin=stdin))
    say(f"{made.name} was added with the role {made.role}")


@app.command("change")
def change(
    ctx: typer.Context,
    name: _Name,
    role: Annotated[str | None, typer.Option("--role", help=f"new role: {_ROLES}")] = None,
    password: Annotated[bool, typer.Option("--password", help="ask for a new password")] = False,
    stdin: _Stdin = False,
) -> None:
    """Change the role or the password of an account; its sessions and tokens end."""
    what = [f"role changed to {role}"] * (role is not None) + ["password changed"] * (password or stdin)
    with _accounts(ctx, name, " and ".join(what) or "sessions and tokens ended") as accounts:
        accounts.change(
            name,
            role=None if role is None else _role(role),
            password=_password(stdin=stdin) if password or stdin else None,
        )
    say(f"{name} was changed and is logged out everywhere")


@app.command("remove")
def remove(ctx: typer.Context, name: _Name) -> None:
    """Remove an account; the reader's feedback on findings, notes and tags are kept."""
    with _accounts(ctx, name, "account removed") as accounts:
        accounts.remove(name)
    say(f"{name} was removed")


@app.command("list")
def show(ctx: typer.Context, as_json: AsJson = False) -> None:
    """List the accounts."""
    with _accounts(ctx) as accounts:
        found = accounts.all()
    if as_json:
        typer.echo(json.dumps([{"name": each.name, "role": each.role} for each in found], indent=2))
    for each in () if as_json else found:
        say(f"{each.role:7} {each.name}")


@app.command("token")
def token(
    ctx: typer.Context,
    name: _Name,
    called: Annotated[str, typer.Option("--name", help="name of the token; absent: one is chosen")] = "",
    days: Annotated[
        float | None, typer.Option("--days", help="days until it expires; absent: web.token_days")
    ] = None,
) -> None:
    """Print a token with the rights of an account, for scripts: ``Authorization: Bearer TOKEN``."""
    lasts = settings_of(ctx).web.token_days if days is None else days
    with _accounts(ctx, name, "token made") as accounts:
        typer.echo(accounts.make_token(_found(accounts, name), called, lasts * 86400))


@app.command("tokens")
def tokens(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="[NAME]", help="name of the account; absent: all")] = "",
    as_json: AsJson = False,
) -> None:
    """List the tokens that have not expired."""
    with _accounts(ctx) as accounts:
        found = accounts.tokens(_found(accounts, name) if name else None)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2))
    for each in () if as_json else found:
        expires = "never expires" if each.expires_at is None else f"expires {_day(each.expires_at)}"
        typer.echo(f"{each.account:20} {each.name or '(no name)':20} {expires}")


@app.command("revoke")
def revoke(
    ctx: typer.Context,
    name: _Name,
    called: Annotated[str, typer.Argument(metavar="TOKEN", help='name of the token; "": those without one')],
) -> None:
    """End a token at once."""
    with _accounts(ctx, name, "token revoked") as accounts:
        accounts.revoke_token(name, called)
    typer.echo(f"the token {called or 'without a name'} of {name} was revoked")


def _found(accounts: Accounts, name: str) -> Account:
    if (account := accounts.find(name)) is None:
        raise NodeError(f"there is no account {name!r}; see `dicom-node users list`")
    return account


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _role(text: str) -> Role:
    from dicom_node.web.auth.accounts import Role

    try:
        return Role(text)
    except ValueError:
        raise ConfigurationError(f"--role {text}: use {' or '.join(Role)}") from None


def _password(*, stdin: bool) -> str:
    if stdin:
        return typer.get_text_stream("stdin").readline().rstrip("\n")
    return str(typer.prompt("password", hide_input=True, confirmation_prompt=True))
