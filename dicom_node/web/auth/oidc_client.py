"""OpenID Connect client: authorization code flow with PKCE. Needs dicom-node[oidc].

The node stores nothing between the redirect to the provider and the callback. The state parameter contains
the time and the target page, signed with the node's key for the cookie of one browser; nonce and code
verifier are derived from it. Discovery document and keys are fetched at each login, so that the provider may
change its keys.
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

from dicom_node.config.addresses import is_confidential
from dicom_node.config.private_files import check_private
from dicom_node.config.sections import OidcSettings
from dicom_node.dicomweb.transport import BoundedAdapter
from dicom_node.errors import ConfigurationError, PeerUnavailable
from dicom_node.web.auth.accounts import Role

CALLBACK_PATH: Final = "/login/oidc/back"
"""Path of the redirect URI, where the provider sends the browser back to."""
STATE_SECONDS: Final = 600
"""Time that a reader has to log in at the provider."""
_LEEWAY: Final = 60
_TIMEOUT_SECONDS: Final = 10
# Asymmetric signatures only: neither a shared secret (HS256) nor "none".
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

_UNREACHABLE = "The identity provider does not answer; try again later, or log in with a password."
_STALE = "This login was started in another browser or too long ago; start again."
_REFUSED = "The identity provider refused the login."
_UNTRUSTED = "The answer of the identity provider cannot be trusted; tell the administrator of the node."


class LoginFailed(Exception):
    """Failed login; its text is one sentence for the login page.

    Attributes
    ----------
    status
        HTTP status of the response.
    """

    def __init__(self, sentence: str, status: int = 401) -> None:
        super().__init__(sentence)
        self.status = status


@dataclass(frozen=True, slots=True)
class OidcIdentity:
    """User whom the provider has identified.

    Attributes
    ----------
    subject
        Issuer and subject, which together identify one user for ever.
    name
        Name from the claim that the settings choose.
    role
        Role in this node; None when the provider gives none.
    """

    subject: str
    name: str
    role: Role | None


class OidcClient:
    """Client of one identity provider.

    Parameters
    ----------
    settings
        Settings of OpenID Connect.
    key
        Secret of the node, 32 bytes.
    clock
        Returns the time in seconds since the epoch; tests replace it.

    Raises
    ------
    ConfigurationError
        When the file of the client secret cannot be read.
    """

    def __init__(self, settings: OidcSettings, key: bytes, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._key = key
        self._clock = clock
        self._issuer, self._page_url = settings.issuer or "", settings.page_url or ""
        self._secret: str | None = None
        if (file := settings.client_secret_file) is not None:
            check_private(file, "oidc.client_secret_file")
            try:
                self._secret = file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "not UTF-8"
                raise ConfigurationError(f"oidc.client_secret_file {file}: {reason}") from None

    # -- redirect to the provider

    def authorization_url(self, cookie: str, target: str) -> str:
        """Return the address of the provider where a browser logs in.

        Parameters
        ----------
        cookie
            Session cookie of the browser; the callback must come with the same one.
        target
            Path on this node to go to after the login.

        Raises
        ------
        LoginFailed
            When the provider does not answer.
        """
        target_part = base64.urlsafe_b64encode(target.encode()).decode()
        body = f"{int(self._clock())}.{secrets.token_urlsafe(16)}.{target_part}"
        state = f"{body}.{self._seal(cookie, body)}"
        with _provider_errors(), self._session() as session:
            address, _ = session.create_authorization_url(
                self._metadata(session)["authorization_endpoint"],
                state=state,
                nonce=self._derive("nonce", state),
                code_verifier=self._derive("verifier", state),
            )
        return str(address)

    # -- callback

    def read_target(self, cookie: str, state: str) -> str:
        """Return the target path in a state parameter, after a check of its signature and age.

        Raises
        ------
        LoginFailed
            When the state was not made here for this browser, or is older than `STATE_SECONDS`.
        """
        body, _, seal = state.rpartition(".")
        if not hmac.compare_digest(seal.encode(), self._seal(cookie, body).encode()):
            raise LoginFailed(_STALE)
        began, _, target_part = body.split(".")
        if self._clock() - int(began) > STATE_SECONDS:
            raise LoginFailed(_STALE)
        try:
            return base64.urlsafe_b64decode(target_part).decode()
        except (binascii.Error, UnicodeDecodeError):
            return "/"

    def identify(self, state: str, answer: Mapping[str, str]) -> OidcIdentity:
        """Return the user of a callback.

        Parameters
        ----------
        state
            State parameter that :meth:`read_target` has checked.
        answer
            Query parameters of the callback.

        Raises
        ------
        LoginFailed
            When the provider refuses or does not answer, or its answer cannot be trusted.
        """
        if answer.get("iss", self._issuer) != self._issuer:  # RFC 9207
            raise LoginFailed(_UNTRUSTED)
        if "error" in answer or not answer.get("code"):
            raise LoginFailed(_REFUSED)
        with _provider_errors(), self._session() as session:
            metadata = self._metadata(session)
            if self._secret is not None:
                offered = metadata.get("token_endpoint_auth_methods_supported", ["client_secret_basic"])
                basic = "client_secret_basic" in offered
                session.token_endpoint_auth_method = "client_secret_basic" if basic else "client_secret_post"
            token = session.fetch_token(
                metadata["token_endpoint"],
                code=answer["code"],
                code_verifier=self._derive("verifier", state),
            )
            keys = self._get(session, metadata["jwks_uri"])
            claims = self._claims(token, keys, self._derive("nonce", state))
            names = (self._settings.name_claim, self._settings.role_claim)
            sources = [claims]
            if "userinfo_endpoint" in metadata and any(_claim(name, claims) is None for name in names):
                sources.append(self._user_info(session, metadata["userinfo_endpoint"], claims["sub"]))
        return self._identity(*sources)

    def _user_info(self, session: Any, address: str, subject: str) -> Mapping[str, Any]:
        """Fetch further claims from the UserInfo endpoint (OpenID Connect Core 5.3)."""
        claims = self._get(session, _checked_url(address), withhold_token=False)
        if claims.get("sub") != subject:  # 5.3.2: the claims of another user
            raise LoginFailed(_UNTRUSTED)
        return claims

    def _claims(self, token: Mapping[str, Any], keys: Any, nonce: str) -> Mapping[str, Any]:
        """Return the claims of the ID token after its validation (OpenID Connect Core 3.1.3.7)."""
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
            raise LoginFailed(_UNTRUSTED) from None
        return proved.claims

    def _identity(self, *sources: Mapping[str, Any]) -> OidcIdentity:
        subject = str(sources[0]["sub"])
        name = _claim(self._settings.name_claim, *sources)
        roles = _claim(self._settings.role_claim, *sources)
        held = {each for each in (roles if isinstance(roles, list) else [roles]) if isinstance(each, str)}
        role = Role.READER if held & {*self._settings.readers} else None
        if held & {*self._settings.admins}:
            role = Role.ADMIN
        return OidcIdentity(f"{self._issuer}\n{subject}", name if isinstance(name, str) else subject, role)

    # -- logout

    def logout_url(self) -> str | None:
        """Return the address of the provider's logout (OpenID Connect RP-Initiated Logout 1.0).

        Returns
        -------
        str or None
            None when the provider has no logout. The node stores no ID token to send along, so the provider
            may ask the reader to confirm.

        Raises
        ------
        LoginFailed
            When the provider does not answer, or its address cannot be trusted.
        """
        with _provider_errors(), self._session() as session:
            address = self._metadata(session).get("end_session_endpoint")
            if address is None:
                return None
            known = {
                "client_id": self._settings.client_id,
                "post_logout_redirect_uri": f"{self._page_url}/login",
            }
            return str(add_params_to_uri(_checked_url(address), known.items()))

    # -- requests to the provider

    def _session(self) -> Any:
        session = OAuth2Session(
            self._settings.client_id,
            self._secret,
            token_endpoint_auth_method="none" if self._secret is None else None,
            scope=" ".join(self._settings.scopes),
            redirect_uri=f"{self._page_url}{CALLBACK_PATH}",
            code_challenge_method="S256",
            default_timeout=_TIMEOUT_SECONDS,
        )
        session.trust_env = False  # no proxy or certificates from the environment
        session.max_redirects = 0
        for scheme in ("http://", "https://"):
            session.mount(scheme, BoundedAdapter(self._issuer, _TIMEOUT_SECONDS))
        paths = ssl.get_default_verify_paths()
        session.verify = str(self._settings.tls_ca or paths.cafile or paths.capath or True)
        return session

    def _metadata(self, session: Any) -> Mapping[str, Any]:
        """Fetch the discovery document."""
        found = self._get(session, f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
        if found["issuer"] != self._issuer:
            raise LoginFailed(_UNTRUSTED)
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            _checked_url(found[name])
        return found

    def _get(self, session: Any, address: str, *, withhold_token: bool = True) -> dict[str, Any]:
        answer = session.get(address, withhold_token=withhold_token)
        answer.raise_for_status()
        found = answer.json()
        if not isinstance(found, dict):
            raise TypeError("not a JSON object")
        return found

    # -- values derived from the key

    def _seal(self, cookie: str, body: str) -> str:
        return self._derive(f"state:{cookie}", body)

    def _derive(self, purpose: str, text: str) -> str:
        return hmac.new(self._key, f"oidc {purpose}:{text}".encode(), hashlib.sha256).hexdigest()


@contextmanager
def _provider_errors() -> Iterator[None]:
    """Turn errors of the provider and the network into LoginFailed."""
    try:
        yield
    except AuthlibBaseError:  # the provider refuses the code
        raise LoginFailed(_REFUSED) from None
    except (requests.RequestException, PeerUnavailable, LookupError, TypeError, ValueError):
        raise LoginFailed(_UNREACHABLE, 503) from None


def _checked_url(address: object) -> str:
    """Return an address of the discovery document, which must be https or on this machine."""
    if not is_confidential(str(address)):
        raise LoginFailed(_UNTRUSTED)
    return str(address)


def _claim(path: str, *sources: Mapping[str, Any]) -> Any:
    """Return a claim from the first source that has it: by name, else by a dotted path; else None."""
    for claims in sources:
        found: Any = claims.get(path)
        if found is None:
            found = claims
            for part in path.split("."):
                found = found.get(part) if isinstance(found, Mapping) else None
        if found is not None:
            return found
    return None
