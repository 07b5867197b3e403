"""Who asks: by the cookie of a browser or the bearer token of a script; and whether a change is meant.

Where the page asks nobody to log in, it listens on the loopback and everybody there is ``local``.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from fastapi import Depends, HTTPException, Request

from dicom_node.errors import StorageFailed
from dicom_node.web.auth.accounts import Role
from dicom_node.web.dependencies import Room, RoomOf

COOKIE: Final = "reading_room"
CHANGE_HEADER: Final = "X-CSRF-Token"
CHANGE_FIELD: Final = "csrf"
LOCAL: Final = "local"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_FORM = "application/x-www-form-urlencoded"


class LoginNeeded(Exception):
    """Nobody has said who they are."""


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks.

    Attributes
    ----------
    address
        Of the other end of the connection.
    """

    name: str
    role: Role
    address: str

    @property
    def admin(self) -> bool:
        """Whether everything is allowed."""
        return self.role is Role.ADMIN


def read_key(path: Path) -> bytes:
    """Return the node's secret of 32 bytes; it is made when it is not there.

    Raises
    ------
    StorageFailed
        When it can neither be read nor written.
    """
    try:
        if not path.exists():
            # Whole or not there: another part of the node may make it at the same moment.
            handle, temporary = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "wb") as stream:
                stream.write(secrets.token_bytes(32))
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            Path(temporary).unlink()
        return path.read_bytes()
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}; check the disk and its permissions") from error


def cookie_of(request: Request) -> str:
    """Return the secret that this browser holds; a new one is sent to it with the answer."""
    held = request.cookies.get(COOKIE, "")
    if 0 < len(held) < 256:  # ours has 43 characters
        return held
    if (new := getattr(request.state, "cookie", "")) == "":
        request.state.cookie = new = secrets.token_urlsafe(32)
    return str(new)


def change_token(room: Room, cookie: str) -> str:
    """Return what a browser must send with every change: no other site can know it."""
    return hmac.new(room.key, b"csrf:" + cookie.encode(), hashlib.sha256).hexdigest()


def address_of(request: Request) -> str:
    """Return the other end's address."""
    return request.client.host if request.client else ""


def find_visitor(request: Request, room: RoomOf) -> Visitor | None:
    """Return who asks; None when they have to log in first."""
    address = address_of(request)
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.casefold() == "bearer":
        who = room.accounts.holder(token, "token")
    elif not room.settings.login_needed:
        return Visitor(LOCAL, Role.ADMIN, address)
    else:
        who = room.accounts.holder(request.cookies.get(COOKIE, ""), "login")
    return None if who is None else Visitor(who.name, who.role, address)


def reader(found: Annotated[Visitor | None, Depends(find_visitor)]) -> Visitor:
    """Let anybody in who has said who they are."""
    if found is None:
        raise LoginNeeded
    return found


Reader = Annotated[Visitor, Depends(reader)]


def admin(who: Reader) -> Visitor:
    """Let nobody but an admin in."""
    if not who.admin:
        raise HTTPException(403)
    return who


Admin = Annotated[Visitor, Depends(admin)]


async def unforged(request: Request, room: RoomOf) -> None:
    """Refuse a change that a browser was talked into by another site.

    A script that shows a bearer token is nobody's browser. Everybody else sends the token that stands in
    this site's pages, as a header or a field of a form.
    """
    if request.method in _SAFE or request.headers.get("Authorization", "").casefold().startswith("bearer "):
        return
    shown = request.headers.get(CHANGE_HEADER, "")
    if not shown and request.headers.get("Content-Type", "").startswith(_FORM):
        shown = str((await request.form()).get(CHANGE_FIELD, ""))
    held = request.cookies.get(COOKIE, "")
    cross = request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
    if cross or not held or not hmac.compare_digest(shown.encode(), change_token(room, held).encode()):
        raise HTTPException(403)


async def form_of(request: Request) -> Mapping[str, str]:
    """Return the fields of a form that are text."""
    return {key: value for key, value in (await request.form()).items() if isinstance(value, str)}


Form = Annotated[Mapping[str, str], Depends(form_of)]
