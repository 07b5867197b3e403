"""OpenID Connect provider whose answers a test can falsify."""

from __future__ import annotations

import base64
import secrets
import time
from typing import Any
from urllib.parse import urlencode

from authlib.oauth2.rfc7636 import create_s256_code_challenge
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

CLIENT, SECRET = "reading-room", "not-so-secret"


class Issuer:
    """Provider that logs everybody in, and checks the code verifier and the client secret.

    Attributes
    ----------
    claims
        Claims that replace the right ones in the next ID token; None removes one.
    info
        Claims that UserInfo answers, beside the right subject.
    named
        Further endpoints for the discovery document: ``/info`` is UserInfo, ``/end`` the logout.
    ended
        Query parameters of each request to the logout endpoint.
    key
        Key that signs ID tokens; `published` are the keys in the key set.
    """

    def __init__(self) -> None:
        self.address = ""
        self.key: RSAKey | OctKey = RSAKey.generate_key(2048, {"kid": "one"})
        self.published = [self.key]
        self.algorithm = "RS256"
        self.claims: dict[str, Any] = {}
        self.info: dict[str, Any] = {}
        self.named: dict[str, str] = {}
        self.ended: list[dict[str, str]] = []
        self.refuses = ""
        self.asked: dict[str, dict[str, str]] = {}
        self.app = Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self._discovery),
                Route("/authorize", self._authorize),
                Route("/token", self._token, methods=["POST"]),
                Route("/keys", self._keys),
                Route("/info", self._user_info),
                Route("/end", self._end),
            ]
        )

    async def _discovery(self, _request: Request) -> Response:
        names = {"authorization_endpoint": "authorize", "token_endpoint": "token", "jwks_uri": "keys"}
        found = {name: f"{self.address}/{path}" for name, path in names.items()}
        return JSONResponse({"issuer": self.address, **found, **self.named})

    async def _authorize(self, request: Request) -> Response:
        asked = dict(request.query_params)
        assert (asked["response_type"], asked["client_id"]) == ("code", CLIENT)
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_hex()
        self.asked[code] = asked
        answer = {"error": self.refuses} if self.refuses else {"code": code}
        return RedirectResponse(f"{asked['redirect_uri']}?{urlencode({**answer, 'state': asked['state']})}")

    async def _token(self, request: Request) -> Response:
        form = await request.form()
        asked = self.asked.pop(str(form["code"]), None)
        basic = "Basic " + base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if (
            asked is None
            or request.headers.get("Authorization") != basic
            or form["redirect_uri"] != asked["redirect_uri"]
            or create_s256_code_challenge(str(form["code_verifier"])) != asked["code_challenge"]
        ):
            return JSONResponse({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {
            "iss": self.address, "aud": CLIENT, "sub": "1", "iat": now, "exp": now + 60,
            "nonce": asked["nonce"], "preferred_username": "rita", **self.claims,
        }  # fmt: skip
        header = {"alg": self.algorithm, "kid": "one"}
        claims = {name: value for name, value in claims.items() if value is not None}
        token = jwt.encode(header, claims, self.key, algorithms=[self.algorithm])
        return JSONResponse({"access_token": "a", "token_type": "Bearer", "id_token": token})

    async def _keys(self, _request: Request) -> Response:
        return JSONResponse({"keys": [key.as_dict(private=False) for key in self.published]})

    async def _user_info(self, request: Request) -> Response:
        if request.headers.get("Authorization") != "Bearer a":
            return JSONResponse({"error": "invalid_token"}, 401)
        return JSONResponse({"sub": "1", **self.info})

    async def _end(self, request: Request) -> Response:
        assert request.query_params["client_id"] == CLIENT
        self.ended.append(dict(request.query_params))
        return RedirectResponse(request.query_params["post_logout_redirect_uri"])
