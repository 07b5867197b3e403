"""Readers and what they hold: accounts with Argon2 passwords, sessions of browsers, tokens of scripts.

The database holds digests only; whoever reads it can log in as nobody.
"""

from __future__ import annotations

import enum
import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy import Connection, delete, select, update

from dicom_node.errors import NodeError
from dicom_node.store import database
from dicom_node.store.tables import account, session

NAME_LENGTH: Final = 64
LEAST_PASSWORD: Final = 12
"""Characters of a password (NIST SP 800-63B, rev. 4, asks for 15 where it stands alone, 8 beside another)."""

LOGINS_A_MINUTE: Final = 5
"""Of one address for one name; ten times as many of one address for all names."""

_VOUCHED: Final = "oidc:"
_HASHER = PasswordHasher()
_NOBODY = _HASHER.hash(secrets.token_hex())


class Role(enum.StrEnum):
    """What a reader may do."""

    READER = "reader"  # look, judge, try a film
    ADMIN = "admin"  # also upload, retry, and see who looked


@dataclass(frozen=True, slots=True)
class Account:
    """Somebody who may come in."""

    id: int
    name: str
    role: Role


class NameTaken(NodeError):
    """Nobody can be called so: it is somebody else's name, or none."""


class Accounts(database.Records):
    """Accounts and their sessions."""

    def add(self, name: str, role: Role, password: str | None) -> Account:
        """Enter an account.

        Parameters
        ----------
        password
            None for one who comes by a token alone.

        Raises
        ------
        NodeError
            When the name is taken or no name, or the password is too short.
        """
        return self._enter(name, role, "" if password is None else _hashed(password))

    def vouched(self, subject: str, name: str, role: Role) -> Account:
        """Return the account of somebody whom an identity provider vouches for; made when they first come.

        Parameters
        ----------
        subject
            What the provider never calls anybody else.
        name
            For a new account; one that is there keeps its own.
        role
            That the provider gives now.

        Raises
        ------
        NameTaken
            When the name is no name, or somebody else's.
        """
        held = self._of(subject)
        if held is None:
            return self._enter(name, role, _credential(subject))
        if held.role is not role:
            with database.writing(self._engine) as connection:
                connection.execute(update(account).where(account.c.id == held.id).values(role=role))
        return Account(held.id, held.name, role)

    def disown(self, subject: str) -> None:
        """End sessions and tokens of somebody whom an identity provider does not vouch for any more."""
        if (held := self._of(subject)) is not None:
            with database.writing(self._engine) as connection:
                connection.execute(delete(session).where(session.c.account_id == held.id))

    def _of(self, subject: str) -> Account | None:
        query = select(account).where(account.c.password == _credential(subject))
        with database.reading(self._engine) as connection:
            row = connection.execute(query).first()
        return None if row is None else Account(row.id, row.name, Role(row.role))

    def _enter(self, name: str, role: Role, credential: str) -> Account:
        name = name.strip()
        if not 0 < len(name) <= NAME_LENGTH or not name.isprintable():
            raise NameTaken(f"a reader's name has 1 to {NAME_LENGTH} printable characters")
        row = {"name": name, "role": role, "password": credential, "created_at": self._clock()}
        try:
            with database.writing(self._engine) as connection:
                key = connection.execute(account.insert().values(**row)).inserted_primary_key
        except database.Clashed:
            raise NameTaken(f"there is an account {name!r} already") from None
        return Account(int(key[0]), name, role)  # type: ignore[index]

    def change(self, name: str, *, role: Role | None = None, password: str | None = None) -> None:
        """Give an account another role or password; its sessions and tokens end.

        Raises
        ------
        NodeError
            When there is no such account, or the password is too short.
        """
        values: dict[str, object] = {} if role is None else {"role": role}
        if password is not None:
            values["password"] = _hashed(password)
        with database.writing(self._engine) as connection:
            key = _key(connection, name)
            if values:
                connection.execute(update(account).where(account.c.id == key).values(**values))
            connection.execute(delete(session).where(session.c.account_id == key))

    def remove(self, name: str) -> None:
        """Remove an account, its sessions and tokens; what the reader said stays.

        Raises
        ------
        NodeError
            When there is no such account.
        """
        with database.writing(self._engine) as connection:
            key = _key(connection, name)
            connection.execute(delete(session).where(session.c.account_id == key))
            connection.execute(delete(account).where(account.c.id == key))

    def all(self) -> list[Account]:
        """Return every account, by name."""
        query = select(account.c.id, account.c.name, account.c.role).order_by(account.c.name)
        with database.reading(self._engine) as connection:
            return [Account(row.id, row.name, Role(row.role)) for row in connection.execute(query)]

    def check(self, name: str, password: str) -> Account | None:
        """Return whose name and password these are; it takes as long when they are nobody's."""
        with database.reading(self._engine) as connection:
            row = connection.execute(select(account).where(account.c.name == name)).first()
        known = row is not None and bool(row.password) and not row.password.startswith(_VOUCHED)
        try:
            _HASHER.verify(row.password if row is not None and known else _NOBODY, password)
        except (Argon2Error, InvalidHashError):
            return None
        return Account(row.id, row.name, Role(row.role)) if row is not None and known else None

    def named(self, name: str) -> Account | None:
        """Return the account of a name that somebody else has checked."""
        return next((each for each in self.all() if each.name == name), None)

    def begin(self, who: Account, seconds: float | None) -> str:
        """Begin a session, or hand out a token that does not end; return what its holder shows.

        Parameters
        ----------
        seconds
            Until a session ends; None for a token.
        """
        token, now = secrets.token_urlsafe(32), self._clock()
        with database.writing(self._engine) as connection:
            connection.execute(delete(session).where(session.c.expires_at < now))
            connection.execute(
                session.insert().values(
                    token=_digest(token),
                    account_id=who.id,
                    kind="token" if seconds is None else "login",
                    expires_at=None if seconds is None else now + seconds,
                )
            )
        return token

    def holder(self, token: str, kind: str) -> Account | None:
        """Return who holds a session (``login``) or a ``token``; None when it has ended."""
        query = (
            select(account.c.id, account.c.name, account.c.role, session.c.expires_at)
            .join(session, session.c.account_id == account.c.id)
            .where(session.c.token == _digest(token), session.c.kind == kind)
        )
        with database.reading(self._engine) as connection:
            row = connection.execute(query).first()
        if row is None or (row.expires_at is not None and row.expires_at < self._clock()):
            return None
        return Account(row.id, row.name, Role(row.role))

    def end(self, token: str) -> bool:
        """End a session; return whether it was of somebody whom an identity provider vouches for."""
        this = session.c.token == _digest(token)
        whose = select(account.c.password).join(session, session.c.account_id == account.c.id).where(this)
        with database.writing(self._engine) as connection:
            credential = connection.execute(whose).scalar_one_or_none() or ""
            connection.execute(delete(session).where(this))
        return credential.startswith(_VOUCHED)


class Tries:
    """Counts who tried to log in."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def allowed(self, address: str, name: str) -> bool:
        """Count one more try; False when it is one too many in this minute."""
        here = self._limiter.hit(RateLimitItemPerMinute(10 * LOGINS_A_MINUTE), "all", address)
        return here and self._limiter.hit(RateLimitItemPerMinute(LOGINS_A_MINUTE), "one", address, name)


def _hashed(password: str) -> str:
    if len(password) < LEAST_PASSWORD:
        raise NodeError(f"a password has {LEAST_PASSWORD} or more characters")
    return _HASHER.hash(password)


def _key(connection: Connection, name: str) -> int:
    found = connection.execute(select(account.c.id).where(account.c.name == name)).scalar_one_or_none()
    if found is None:
        raise NodeError(f"there is no account {name!r}; see `dicom-node users list`")
    return int(found)


def _credential(subject: str) -> str:
    """Return what stands in place of a password for somebody whom an identity provider vouches for."""
    return f"{_VOUCHED}{_digest(subject)}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
