"""Addresses in settings: hosts, and the addresses of the broker and of databases, checked without a network.

What they check is the form: whether a name resolves and whether somebody answers there, ``doctor`` finds out.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Iterable
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", re.IGNORECASE)
_LONGEST_NAME = 253
_PASSWORD_PARAMETER = re.compile(r"([?&](?:ssl)?password=)[^&]*", re.IGNORECASE)
_BROKER = "redis://HOST:PORT/0, rediss://HOST:PORT/0 or redis+socket:///PATH"


def check_host(host: str) -> str:
    """Check a host: an IP address, or a name by RFC 1123, in which ``_`` is allowed too.

    Raises
    ------
    ValueError
        If it is neither, such as ``pacs..example``, ``[::1]`` or ``192.0.2.300``.
    """
    try:
        ipaddress.ip_address(host)
    except ValueError:
        pass
    else:
        return host
    try:
        labels = host.removesuffix(".").encode("idna").decode("ascii").split(".")
    except UnicodeError:
        labels = [""]
    named = all(map(_LABEL.fullmatch, labels)) and not labels[-1].isdecimal() and len(host) <= _LONGEST_NAME
    if not named:
        raise ValueError(f"{host!r} is neither a host name nor an IP address")
    return host


def _broker(address: str) -> str:
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{error}; give {_BROKER}") from None
    if parts.scheme == "redis+socket":
        valid = not parts.netloc and parts.path.startswith("/")
    else:
        valid = parts.scheme in {"redis", "rediss"} and port != 0
        valid = valid and re.fullmatch(r"(/\d*)?", parts.path) is not None
    if not valid:
        raise ValueError(f"must be the address of a Redis or Valkey server: {_BROKER}")
    if parts.scheme != "redis+socket":
        check_host(parts.hostname or "")
    return address


def _database(address: str) -> str:
    # SQLAlchemy takes a quarter of a second, and most nodes name no database.
    from dicom_node.store.database import parse_address  # noqa: PLC0415

    url = parse_address(address)
    if url.host and "@" in url.host:
        raise ValueError("holds more than one @; write one in a password as %40")
    if url.host:
        check_host(url.host)
    return address


def _postgresql(address: str) -> str:
    if not _database(address).startswith("postgresql"):
        raise ValueError("must be the address of a PostgreSQL database: postgresql://USER@HOST/DATABASE")
    return address


def without_password(address: str) -> str:
    """Return an address with its password replaced by ``***``, also one among the parameters."""
    address = _PASSWORD_PARAMETER.sub(r"\1***", address)
    scheme, mark, rest = address.partition("://")
    credentials, at, place = rest.rpartition("@")
    user, colon, _ = credentials.partition(":")
    return f"{scheme}{mark}{user}{':***' if colon else ''}{at}{place}" if mark and at else address


def is_origin(address: str) -> bool:
    """Return whether an address is an origin: scheme and host, perhaps a port, and nothing else."""
    parts = urlsplit(address)
    return parts.scheme in {"http", "https"} and address == f"{parts.scheme}://{parts.netloc}" != "http://"


def is_confidential(address: str) -> bool:
    """Return whether nobody on the way to an address can read what is sent: by https, or to this machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server that listens on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither an address nor a network, such as 192.0.2.7 or 192.0.2.0/24"
        ) from None
    return text


def is_within(address: str, networks: Iterable[str]) -> bool:
    """Return whether an IP address lies in one of some networks; what is no address lies in none.

    An IPv4 address may also be written as IPv6 (``::ffff:192.0.2.7``, RFC 4291 2.5.5.2).
    """
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None) or found
    return any(mapped in ipaddress.ip_network(network) for network in networks)


@functools.lru_cache(4096)
def plain_address(host: str) -> str:
    """Return an address in one spelling; an IPv4 address that an IPv6 socket reports becomes plain."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


@functools.lru_cache(4096)
def network_of(host: str) -> str:
    """Return what counts as one address: an IPv4 address, or the /64 network of an IPv6 address.

    A machine with IPv6 chooses the last 64 bits of its address itself (RFC 4291 2.5.1).
    """
    address = plain_address(host)
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if ":" in address else address


Host = Annotated[str, AfterValidator(check_host)]
Network = Annotated[str, AfterValidator(_network)]
BrokerAddress = Annotated[str, AfterValidator(_broker)]
DatabaseAddress = Annotated[str, AfterValidator(_database)]
VectorDatabaseAddress = Annotated[str, AfterValidator(_postgresql)]
