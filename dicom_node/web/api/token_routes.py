"""REST API of tokens: what a user's scripts log in with. Admins also see and revoke those of others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from dicom_node.errors import NodeError
from dicom_node.web.api.schemas import PREFIX, error_responses
from dicom_node.web.auth.accounts import NAME_LENGTH, Token
from dicom_node.web.dependencies import Context, WebContext
from dicom_node.web.request_auth import CurrentUser, Reader, check_csrf, require_reader

router = APIRouter(prefix=PREFIX, dependencies=[Depends(require_reader), Depends(check_csrf)])

AccountName = Annotated[str, Path(max_length=NAME_LENGTH, description="name of the account")]
TokenName = Annotated[str, Path(max_length=NAME_LENGTH, description="name of the token")]


class TokenIn(BaseModel):
    """Token to make."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field("", max_length=NAME_LENGTH, description="name; one is chosen when it is empty")
    days: float | None = Field(
        None, gt=0, le=3653, allow_inf_nan=False, description="days until it expires; absent: web.token_days"
    )


@dataclass(frozen=True, slots=True)
class Made:
    """Answer to a new token: the secret, which nobody can read again."""

    token: str


@dataclass(frozen=True, slots=True)
class Revoked:
    """Answer to the end of a token."""

    revoked: bool


@router.get("/tokens", responses=error_responses())
def tokens(context: Context, user: Reader) -> Sequence[Token]:
    """List the tokens of the user; an admin gets those of all accounts."""
    own = context.accounts.find(user.name)
    if own is None and not user.admin:
        return []
    return context.accounts.tokens(None if user.admin else own)


@router.post("/tokens", status_code=201, responses=error_responses(403, 413, 415, 422))
def make(request: Request, context: Context, user: Reader, said: TokenIn) -> Made:
    """Make a token of the user. A script cannot: else a token that leaks could never be made to end."""
    if request.headers.get("Authorization"):
        raise HTTPException(403)
    return Made(make_token(context, user, said))


@router.delete("/tokens/{account}/{name}", responses=error_responses(403, 404))
def revoke(context: Context, user: Reader, account: AccountName, name: TokenName) -> Revoked:
    """End a token of the user at once; an admin may end those of others."""
    revoke_token(context, user, account, name)
    return Revoked(revoked=True)


def make_token(context: WebContext, user: CurrentUser, said: TokenIn) -> str:
    """Make a token, and record it.

    Raises
    ------
    HTTPException
        422 when there is no account, where nobody logs in, or the name is taken.
    """
    if (own := context.accounts.find(user.name)) is None:
        raise HTTPException(422, "Only an account has tokens: make one by `dicom-node users add NAME`.")
    days = context.settings.web.token_days if said.days is None else said.days
    try:
        token = context.accounts.make_token(own, said.name, days * 86400)
    except NodeError as error:
        raise HTTPException(422, f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
    context.access_log.record(user.name, user.address, "token made", always=True)
    return token


def revoke_token(context: WebContext, user: CurrentUser, account: str, name: str) -> None:
    """End a token, and record it.

    Raises
    ------
    HTTPException
        403 for the token of another account, unless the user is an admin; 404 when there is none.
    """
    if account != user.name and not user.admin:
        raise HTTPException(403)
    try:
        context.accounts.revoke_token(account, name)
    except NodeError:
        raise HTTPException(404) from None
    context.access_log.record(user.name, user.address, "token revoked", always=True)
