"""Address of a remote model: https, or http to this machine alone, for what is sent may name a patient."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from models.errors import UsageError

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class ModelAddress:
    """Address of a remote model, checked.

    Attributes
    ----------
    url
        Address as it was given, without a slash at its end.
    secure
        Whether it is spoken to by TLS.
    host, port
        Host and port to connect to.
    prefix
        Path in front of the paths of the contract; empty for none.
    """

    url: str
    secure: bool
    host: str
    port: int
    prefix: str


def parse_address(url: str) -> ModelAddress:
    """Check the address of a remote model; nothing is contacted.

    Raises
    ------
    UsageError
        If it is no address, would carry films unencrypted over a network, or holds a password or a query.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UsageError(f"remote model {url!a}: {error}") from None
    if parts.username is not None or parts.password is not None:
        # Not repeated: it holds a password.
        raise UsageError("the address of a remote model must hold no user and no password: use a token file")
    if parts.scheme not in _PORTS or not host or port == 0 or not (url.isascii() and url.isprintable()):
        raise UsageError(
            f"remote model {url!a}: write it as https://HOST:PORT, or http://127.0.0.1:PORT on this machine"
        )
    if parts.query or parts.fragment or " " in url:
        raise UsageError(f"remote model {url!a}: leave out what follows the path")
    secure = parts.scheme == "https"
    if not secure and not _is_loopback(host):
        raise UsageError(
            f"remote model {url}: films would cross the network unencrypted; use https, or http to 127.0.0.1"
        )
    return ModelAddress(url.rstrip("/"), secure, host, port or _PORTS[parts.scheme], parts.path.rstrip("/"))


def _is_loopback(host: str) -> bool:
    """Whether only this machine is reached by a host, as the node's settings judge their addresses too."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
