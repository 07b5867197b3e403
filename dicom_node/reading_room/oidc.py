"""Readers whom an identity provider vouches for: OpenID Connect, the authorization code flow with PKCE.

Nothing is kept between the way there and the way back. The state holds the time and where to go, sealed with
the node's key for one browser's cookie; nonce and code verifier are made from it. Discovery document and keys
are asked for at each login, so that a provider may change its keys. Needs dicom-node[oidc].
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from dicom_node.errors import ConfigurationError
from dicom_node.reading_room.accounts import Account, NameTaken, Role
from dicom_node.reading_room.room import Room, RoomOf
from dicom_node.reading_room.views import own_path, page
from dicom_node.reading_room.visitors import address_of, cookie_of
from dicom_node.sections import OidcSettings, is_loopback

LOGIN: Final = "/login/oidc"
BACK: Final = f"{LOGIN}/back"
STATE_SECONDS: Final = 600
"""A reader has so long to log in at the provider."""
_LEEWAY: Final = 60
_ANSWER_SECONDS: Final = 10
# Signatures that only the provider can make: no shared secret, and not none.
_ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)

_AWAY = "The identity provider does not answer; try again later, or log in with a password."
_STALE = "This login began elsewhere or too long ago; begin again."
_REFUSED = "The identity provider did not let you in."
_FORGED = "What the identity provider said cannot be trusted; tell whoever runs the node."


class LoginFailed(Exception):
    """Nobody came in; the text is one sentence for the login page.

    Attributes
    ----------
    status
        Of the answer.
    """

    def __init__(self, sentence: str, status: int = 401) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class Vouched:
    """Somebody whom the provider knows.

    Attributes
    ----------
    subject
        Issuer and subject, which are nobody else's and stay.
    name
        What they are called.
    role
        None when they have none here.
    """

    subject: str
    name: str
    role: Role | None


class Provider:
    """One identity provider.

    Parameters
    ----------
    settings
        Say where it is and whom it lets in.
    key
        Secret of the node.
    clock
        Returns seconds since the epoch; another one in tests.

    Raises
    ------
    ConfigurationError
        When the secret cannot be read.
    """

    def __init__(self, settings: OidcSettings, key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._key = key
        self._clock = clock
        self._issuer, self._page_url = settings.issuer or "", settings.page_url or ""
        self._secret: str | None = None
        if (file := settings.client_secret_file) is not None:
            try:
                self._secret = file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8"
                raise ConfigurationError(f"oidc.client_secret_file {file}: {reason}") from None

    # -- the way there

    def begin(self, cookie: str, target: str) -> str:
        """Return where a browser is sent to log in.

        Parameters
        ----------
        cookie
            That the browser holds; it has to come back with the same.
        target
            Path of this page to go to after the login.

        Raises
        ------
        LoginFailed
            When the provider does not answer.
        """
        place = base64.urlsafe_b64encode(target.encode()).decode()
        body = f"{int(self._clock())}.{secrets.token_urlsafe(16)}.{place}"
        state = f"{body}.{self._sealed(cookie, body)}"
        with _asking(), self._session() as session:
            address, _ = session.create_authorization_url(
                self._metadata(session)["authorization_endpoint"],
                state=state,
                nonce=self._made("nonce", state),
                code_verifier=self._made("verifier", state),
            )
        return str(address)

    # -- the way back

    def target(self, cookie: str, state: str) -> str:
        """Return where the login that a state belongs to goes to.

        Raises
        ------
        LoginFailed
            When the state was not made here, for this browser, a moment ago.
        """
        body, _, seal = state.rpartition(".")
        if not hmac.compare_digest(seal.encode(), self._sealed(cookie, body).encode()):
            raise LoginFailed(_STALE)
        began, _, place = body.split(".")
        if self._clock() - int(began) > STATE_SECONDS:
            raise LoginFailed(_STALE)
        try:
            return base64.urlsafe_b64decode(place).decode()
        except (binascii.Error, UnicodeDecodeError):
            return "/"

    def finish(self, state: str, answer: Mapping[str, str]) -> Vouched:
        """Return who came back.

        Parameters
        ----------
        state
            That :meth:`target` has understood.
        answer
            Query of the address that the provider sent the browser back to.

        Raises
        ------
        LoginFailed
            When the provider refuses, does not answer, or what it says cannot be trusted.
        """
        if answer.get("iss", self._issuer) != self._issuer:  # RFC 9207
            raise LoginFailed(_FORGED)
        if "error" in answer or not answer.get("code"):
            raise LoginFailed(_REFUSED)
        with _asking(), self._session() as session:
            metadata = self._metadata(session)
            if self._secret is not None:
                offered = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
                basic = "client_secret_basic" in offered
                session.token_endpoint_auth_method = "client_secret_basic" if basic else "client_secret_post"
            token = session.fetch_token(
                metadata["token_endpoint"],
                code=answer["code"],
                code_verifier=self._made("verifier", state),
            )
            keys = self._get(session, metadata["jwks_uri"])
        return self._vouched(self._claims(token, keys, self._made("nonce", state)))

    def _claims(self, token: Mapping[str, Any], keys: Any, nonce: str) -> Mapping[str, Any]:
        """Return what the ID token claims, once it is proved (OpenID Connect Core 3.1.3.7)."""
        try:
            registry = JWSRegistry(algorithms=list(_ALGORITHMS), strict_check_header=False)
            proved = jwt.decode(token["id_token"], KeySet.import_key_set(keys), registry=registry)
            client = self._settings.client_id
            options = {
                "iss": {"essential": True, "value": self._issuer},
                "aud": {"essential": True, "value": client},
            }
            known = {"nonce": nonce, "client_id": client, "access_token": token.get("access_token")}
            CodeIDToken(proved.claims, proved.header, options, known).validate(leeway=_LEEWAY)
        except (JoseError, AuthlibBaseError, LookupError, TypeError, ValueError, AttributeError):
            raise LoginFailed(_FORGED) from None
        return proved.claims

    def _vouched(self, claims: Mapping[str, Any]) -> Vouched:
        subject = str(claims["sub"])
        name = claims.get(self._settings.name_claim)
        held = _values(claims, self._settings.role_claim)
        role = Role.READER if held & {*self._settings.readers} else None
        if held & {*self._settings.admins}:
            role = Role.ADMIN
        return Vouched(f"{self._issuer}\n{subject}", name if isinstance(name, str) else subject, role)

    # -- what is asked of it

    def _session(self) -> Any:
        session = OAuth2Session(
            self._settings.client_id,
            self._secret,
            token_endpoint_auth_method="none" if self._secret is None else None,
            scope=" ".join(self._settings.scopes),
            redirect_uri=f"{self._page_url}{BACK}",
            code_challenge_method="S256",
            default_timeout=_ANSWER_SECONDS,
        )
        session.trust_env = False  # the settings alone say who is trusted
        session.max_redirects = 0
        paths = ssl.get_default_verify_paths()
        session.verify = str(self._settings.tls_ca or paths.cafile or paths.capath or True)
        return session

    def _metadata(self, session: Any) -> Mapping[str, Any]:
        """Ask for the discovery document; all that it names speaks https, or is on this machine."""
        found = self._get(session, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if found["issuer"] != self._issuer:
            raise LoginFailed(_FORGED)
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            parts = urlsplit(str(found[name]))
            if parts.scheme != "https" and not is_loopback(parts.hostname or ""):
                raise LoginFailed(_FORGED)
        return found

    def _get(self, session: Any, address: str) -> dict[str, Any]:
        answer = session.get(address, withhold_token=True)
        answer.raise_for_status()
        found = answer.json()
        if not isinstance(found, dict):
            raise TypeError("no object")
        return found

    # -- what is made with the key

    def _sealed(self, cookie: str, body: str) -> str:
        return self._made(f"state:{cookie}", body)

    def _made(self, what: str, of: str) -> str:
        return hmac.new(self._key, f"oidc {what}:{of}".encode(), hashlib.sha256).hexdigest()


@contextmanager
def _asking() -> Iterator[None]:
    """Say in one sentence what came of asking the provider."""
    try:
        yield
    except AuthlibBaseError:  # the provider does not take the code
        raise LoginFailed(_REFUSED) from None
    except (requests.RequestException, LookupError, TypeError, ValueError):
        raise LoginFailed(_AWAY, 503) from None


def _values(claims: Mapping[str, Any], path: str) -> set[str]:
    """Return the values of a claim: by its name, else by dots into it; none when it is not there."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for part in path.split("."):
            found = found.get(part) if isinstance(found, Mapping) else None
    many = found if isinstance(found, list) else [found]
    return {each for each in many if isinstance(each, str)}


def _account(room: Room, who: Vouched) -> Account:
    """Return the account of somebody who came back.

    Raises
    ------
    LoginFailed
        When they have no role, or are called as somebody else is.
    """
    if who.role is None:
        room.accounts.disown(who.subject)
        raise LoginFailed("The identity provider gives you no role in this reading room.", 403)
    try:
        return room.accounts.vouched(who.subject, who.name, who.role)
    except NameTaken as error:
        raise LoginFailed(f"You cannot come in: {error}.", 403) from None


def routes(provider: Provider) -> APIRouter:
    """Return the two addresses of a login through a provider."""
    router = APIRouter(include_in_schema=False)

    def failed(request: Request, room: Room, error: LoginFailed, target: str = "/") -> Response:
        room.accesses.record("(oidc)", address_of(request), "login refused", repeats=True)
        return page(request, room, "login.html", None, error.status, failed=str(error), target=target)

    @router.get(LOGIN)
    def go(request: Request, room: RoomOf) -> Response:
        """Send a browser to the provider."""
        cookie, target = cookie_of(request), own_path(request.query_params.get("next", "/"))
        if not room.tries.allowed(address_of(request), f"oidc {cookie}"):
            raise HTTPException(429)
        try:
            return RedirectResponse(provider.begin(cookie, target), 303)
        except LoginFailed as error:
            return failed(request, room, error, target)

    @router.get(BACK)
    def back(request: Request, room: RoomOf) -> Response:
        """Begin the session of somebody whom the provider vouches for, or say why not."""
        cookie, answer, target = cookie_of(request), dict(request.query_params), "/"
        if not room.tries.allowed(address_of(request), f"oidc back {cookie}"):
            raise HTTPException(429)
        try:
            state = answer.get("state", "")
            target = own_path(provider.target(cookie, state))
            account = _account(room, provider.finish(state, answer))
        except LoginFailed as error:
            return failed(request, room, error, target)
        room.accesses.record(account.name, address_of(request), "login", repeats=True)
        # A session that began before the login ends with it: nobody can have planted this one.
        request.state.cookie = room.accounts.begin(account, room.settings.web.session_hours * 3600)
        return RedirectResponse(target, 303)

    return router
