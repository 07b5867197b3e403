"""Accounts of readers: Argon2 passwords, sessions of browsers, tokens of scripts, limit of login attempts.

The database holds digests only: with its contents nobody can log in.
"""

from __future__ import annotations

import enum
import hashlib
import secrets
import threading
from dataclasses import dataclass
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from sqlalchemy import ColumnElement, Connection, and_, delete, or_, select, update

from dicom_node.config.addresses import network_of
from dicom_node.errors import NodeError
from dicom_node.store import database
from dicom_node.store.tables import account, saved_filter, session

NAME_LENGTH: Final = 64
MIN_PASSWORD_LENGTH: Final = 12
"""Least length of a password (NIST SP 800-63B, rev. 4: 15 as the only factor, 8 with a second one)."""

LOGINS_PER_MINUTE: Final = 5
"""Login attempts of one address with one name; with all names together ten times as many, unless it is the
address of a proxy, behind which one reader must not lock out all others."""
_HASHING: Final = threading.BoundedSemaphore(2)
"""Passwords that are checked at the same time: Argon2id takes 64 MiB for each."""

_LONGEST_SECONDS: Final = 3653 * 86400
_OIDC_PREFIX: Final = "oidc:"
_HASHER = PasswordHasher()
_DUMMY_HASH = _HASHER.hash(secrets.token_hex())


class Role(enum.StrEnum):
    """Role of an account."""

    READER = "reader"  # view, give feedback, try a film
    ADMIN = "admin"  # also upload, retry, withdraw, read the access log


@dataclass(frozen=True, slots=True)
class Account:
    """Account of a reader."""

    id: int
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class Token:
    """Token of a script; times in seconds since the epoch, None for one that an earlier version has made."""

    account: str
    name: str
    created_at: float | None
    expires_at: float | None


class InvalidName(NodeError):
    """Error of a name that is not valid, or belongs to another account."""


class Accounts(database.Repository):
    """Repository of accounts, sessions and tokens."""

    def add(self, name: str, role: Role, password: str | None) -> Account:
        """Create an account.

        Parameters
        ----------
        password
            Password; None for an account that only uses tokens.

        Raises
        ------
        NodeError
            When the name is taken or not valid, or the password is too short.
        """
        return self._insert(name, role, "" if password is None else _hashed(password))

    def sign_in_oidc(self, subject: str, name: str, role: Role) -> Account:
        """Return the account of a user of an identity provider; it is created at the first login.

        Parameters
        ----------
        subject
            Issuer and subject: the identifier that the provider gives to nobody else.
        name
            Name for a new account; an existing account keeps its name.
        role
            Role that the provider gives now; it replaces the stored one.

        Raises
        ------
        InvalidName
            When the name is not valid, or belongs to another account.
        """
        held = self._find_oidc(subject)
        if held is None:
            return self._insert(name, role, _credential(subject))
        if held.role is not role:
            with database.writing(self._engine) as connection:
                connection.execute(update(account).where(account.c.id == held.id).values(role=role))
        return Account(held.id, held.name, role)

    def revoke_oidc(self, subject: str) -> None:
        """End the sessions and tokens of a user to whom the identity provider gives no role any more."""
        if (held := self._find_oidc(subject)) is not None:
            with database.writing(self._engine) as connection:
                connection.execute(delete(session).where(session.c.account_id == held.id))

    def _find_oidc(self, subject: str) -> Account | None:
        query = select(account).where(account.c.password == _credential(subject))
        with database.reading(self._engine) as connection:
            row = connection.execute(query).first()
        return None if row is None else Account(row.id, row.name, Role(row.role))

    def _insert(self, name: str, role: Role, credential: str) -> Account:
        name = name.strip()
        if not 0 < len(name) <= NAME_LENGTH or not name.isprintable():
            raise InvalidName(f"the name of a reader must have 1 to {NAME_LENGTH} printable characters")
        row = {"name": name, "role": role, "password": credential, "created_at": self._clock()}
        try:
            with database.writing(self._engine) as connection:
                key = connection.execute(account.insert().values(**row)).inserted_primary_key
        except database.KeyConflict:
            raise InvalidName(f"an account {name!r} already exists") from None
        return Account(int(key[0]), name, role)  # type: ignore[index]

    def change(self, name: str, *, role: Role | None = None, password: str | None = None) -> None:
        """Change the role or password of an account, and end its sessions and tokens.

        Raises
        ------
        NodeError
            When there is no such account, the password is too short, or the account is an identity
            provider's, which would be cut off from it.
        """
        values: dict[str, object] = {} if role is None else {"role": role}
        if password is not None:
            values["password"] = _hashed(password)
        with database.writing(self._engine) as connection:
            key = _key(connection, name)
            stored = select(account.c.password).where(account.c.id == key)
            if password is not None and str(connection.execute(stored).scalar_one()).startswith(_OIDC_PREFIX):
                raise NodeError(f"{name} logs in at the identity provider, and has no password here")
            if values:
                connection.execute(update(account).where(account.c.id == key).values(**values))
            connection.execute(delete(session).where(session.c.account_id == key))

    def remove(self, name: str) -> None:
        """Remove an account, its sessions, tokens and saved filters; feedback, notes and tags stay.

        Raises
        ------
        NodeError
            When there is no such account.
        """
        with database.writing(self._engine) as connection:
            key = _key(connection, name)
            connection.execute(delete(session).where(session.c.account_id == key))
            connection.execute(delete(saved_filter).where(saved_filter.c.reader == name))
            connection.execute(delete(account).where(account.c.id == key))

    def all(self) -> list[Account]:
        """Return every account, by name."""
        query = select(account.c.id, account.c.name, account.c.role).order_by(account.c.name)
        with database.reading(self._engine) as connection:
            return [Account(row.id, row.name, Role(row.role)) for row in connection.execute(query)]

    def authenticate(self, name: str, password: str) -> Account | None:
        """Return the account of a name and password, or None; both take equally long (no timing leak)."""
        with database.reading(self._engine) as connection:
            row = connection.execute(select(account).where(account.c.name == name)).first()
        known = row is not None and bool(row.password) and not row.password.startswith(_OIDC_PREFIX)
        try:
            with _HASHING:
                _HASHER.verify(row.password if row is not None and known else _DUMMY_HASH, password)
        except (Argon2Error, InvalidHashError):
            return None
        return Account(row.id, row.name, Role(row.role)) if row is not None and known else None

    def find(self, name: str) -> Account | None:
        """Return the account of a name, without a password check; None when there is none."""
        return next((each for each in self.all() if each.name == name), None)

    def begin_session(self, who: Account, seconds: float) -> str:
        """Start a session of so many seconds; return the secret for the browser's cookie."""
        with database.writing(self._engine) as connection:
            return self._begin(connection, who, "login", seconds)

    def make_token(self, who: Account, name: str, seconds: float) -> str:
        """Make a token for a script; return the secret, which nobody can read again.

        Parameters
        ----------
        name
            Name by which it is listed and revoked; one is chosen when it is empty.
        seconds
            Time until it expires.

        Raises
        ------
        NodeError
            When the account has a token of this name, or the name or the time is not valid.
        """
        name = name.strip() or f"token-{secrets.token_hex(3)}"
        if len(name) > NAME_LENGTH or not name.isprintable():
            raise NodeError(f"the name of a token must have 1 to {NAME_LENGTH} printable characters")
        if not 0 < seconds <= _LONGEST_SECONDS:
            raise NodeError(f"a token lasts for more than 0 and at most {_LONGEST_SECONDS // 86400} days")
        with database.writing(self._engine) as connection:
            connection.execute(delete(session).where(session.c.expires_at < self._clock()))
            if connection.execute(select(session.c.token).where(_named(who.id, name))).first():
                raise NodeError(f"{who.name} has a token {name!r} already; choose another name or revoke it")
            return self._begin(connection, who, "token", seconds, name)

    def tokens(self, who: Account | None = None) -> list[Token]:
        """Return the tokens of an account, or of all, that have not expired."""
        query = (
            select(
                account.c.name.label("account"), session.c.name, session.c.created_at, session.c.expires_at
            )
            .join(session, session.c.account_id == account.c.id)
            .where(
                session.c.kind == "token",
                or_(session.c.expires_at.is_(None), session.c.expires_at >= self._clock()),
            )
            .order_by(account.c.name, session.c.created_at, session.c.name)
        )
        if who is not None:
            query = query.where(account.c.id == who.id)
        with database.reading(self._engine) as connection:
            return [Token(*row) for row in connection.execute(query)]

    def revoke_token(self, account_name: str, name: str) -> None:
        """End a token of an account, or all of that name, such as the nameless ones of earlier versions.

        Raises
        ------
        NodeError
            When there is no such account or token.
        """
        with database.writing(self._engine) as connection:
            key = _key(connection, account_name)
            if not connection.execute(delete(session).where(_named(key, name))).rowcount:
                raise NodeError(f"{account_name} has no token {name!r}; see `dicom-node users tokens`")

    def _begin(self, connection: Connection, who: Account, kind: str, seconds: float, name: str = "") -> str:
        token, now = secrets.token_urlsafe(32), self._clock()
        connection.execute(delete(session).where(session.c.expires_at < now))
        connection.execute(
            session.insert().values(
                token=_digest(token),
                account_id=who.id,
                kind=kind,
                expires_at=now + seconds,
                name=name,
                created_at=now,
            )
        )
        return token

    def find_by_token(self, token: str, kind: str) -> Account | None:
        """Return the account of a session (kind ``login``) or ``token``; None when it has ended."""
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

    def end_session(self, token: str) -> bool:
        """End a session; return True when its user came from an identity provider."""
        this = session.c.token == _digest(token)
        whose = select(account.c.password).join(session, session.c.account_id == account.c.id).where(this)
        with database.writing(self._engine) as connection:
            credential = connection.execute(whose).scalar_one_or_none() or ""
            connection.execute(delete(session).where(this))
        return credential.startswith(_OIDC_PREFIX)


class LoginThrottle:
    """Limit of login attempts per minute, counted in memory."""

    def __init__(self) -> None:
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    def allowed(self, address: str, name: str, *, shared: bool = False) -> bool:
        """Count one attempt; return False when the limit of this minute is exceeded.

        Parameters
        ----------
        shared
            True for the address of a proxy: then only the attempts with one name are limited.
        """
        place = network_of(address)
        here = shared or self._limiter.hit(RateLimitItemPerMinute(10 * LOGINS_PER_MINUTE), "all", place)
        one = RateLimitItemPerMinute(LOGINS_PER_MINUTE)
        return here and self._limiter.hit(one, "one", place, name[: NAME_LENGTH + 1])


def _hashed(password: str) -> str:
    if len(password) < MIN_PASSWORD_LENGTH:
        raise NodeError(f"a password must have at least {MIN_PASSWORD_LENGTH} characters")
    return _HASHER.hash(password)


def _key(connection: Connection, name: str) -> int:
    found = connection.execute(select(account.c.id).where(account.c.name == name)).scalar_one_or_none()
    if found is None:
        raise NodeError(f"there is no account {name!r}; see `dicom-node users list`")
    return int(found)


def _named(account_id: int, name: str) -> ColumnElement[bool]:
    """Return the SQL condition of the tokens of an account that have a name."""
    return and_(session.c.account_id == account_id, session.c.kind == "token", session.c.name == name)


def _credential(subject: str) -> str:
    """Return the mark that is stored instead of a password for a user of an identity provider."""
    return f"{_OIDC_PREFIX}{_digest(subject)}"


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
