"""An identity provider: OpenID Connect, the authorization code flow with PKCE.

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

import requests
from authlib.common.errors import AuthlibBaseError
from authlib.common.urls import add_params_to_uri
from authlib.integrations.requests_client import OAuth2Session
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jws import JWSRegistry

from dicom_node.config.sections import OidcSettings, is_confidential
from dicom_node.errors import ConfigurationError
from dicom_node.web.auth.accounts import Role

BACK: Final = "/login/oidc/back"
"""Where it sends a browser back to."""
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
            claims = self._claims(token, keys, self._made("nonce", state))
            sought = (self._settings.name_claim, self._settings.role_claim)
            told = [claims]
            if "userinfo_endpoint" in metadata and any(_claim(path, claims) is None for path in sought):
                told.append(self._user_info(session, metadata["userinfo_endpoint"], claims["sub"]))
        return self._vouched(*told)

    def _user_info(self, session: Any, address: str, subject: str) -> Mapping[str, Any]:
        """Ask, with the access token, what else there is to know of somebody (OpenID Connect Core 5.3)."""
        claims = self._get(session, _trusted(address), withhold_token=False)
        if claims.get("sub") != subject:  # 5.3.2: else they are somebody else's
            raise LoginFailed(_FORGED)
        return claims

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

    def _vouched(self, *told: Mapping[str, Any]) -> Vouched:
        subject = str(told[0]["sub"])
        name = _claim(self._settings.name_claim, *told)
        roles = _claim(self._settings.role_claim, *told)
        held = {each for each in (roles if isinstance(roles, list) else [roles]) if isinstance(each, str)}
        role = Role.READER if held & {*self._settings.readers} else None
        if held & {*self._settings.admins}:
            role = Role.ADMIN
        return Vouched(f"{self._issuer}\n{subject}", name if isinstance(name, str) else subject, role)

    # -- the way out

    def end_session(self) -> str | None:
        """Return where a browser is sent to log out (OpenID Connect RP-Initiated Logout 1.0).

        Returns
        -------
        str or None
            None when the provider has no such address. No ID token goes with the browser, for none is kept:
            the provider may ask the reader whether they mean it.

        Raises
        ------
        LoginFailed
            When the provider does not answer, or its address cannot be trusted.
        """
        with _asking(), self._session() as session:
            address = self._metadata(session).get("end_session_endpoint")
            if address is None:
                return None
            known = {
                "client_id": self._settings.client_id,
                "post_logout_redirect_uri": f"{self._page_url}/login",
            }
            return str(add_params_to_uri(_trusted(address), known.items()))

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
        """Ask for the discovery document."""
        found = self._get(session, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if found["issuer"] != self._issuer:
            raise LoginFailed(_FORGED)
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            _trusted(found[name])
        return found

    def _get(self, session: Any, address: str, *, withhold_token: bool = True) -> dict[str, Any]:
        answer = session.get(address, withhold_token=withhold_token)
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


def _trusted(address: object) -> str:
    """Return an address of the discovery document, which speaks https or is on this machine."""
    if not is_confidential(str(address)):
        raise LoginFailed(_FORGED)
    return str(address)


def _claim(path: str, *told: Mapping[str, Any]) -> Any:
    """Return a claim of the first that has it: by its name, else by dots into it; None when none has it."""
    for claims in told:
        found: Any = claims.get(path)
        if found is None:
            found = claims
            for part in path.split("."):
                found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            return found
    return None
