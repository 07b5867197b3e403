"""Addresses of remote models: films cross no network unencrypted, and no address holds a password."""

from __future__ import annotations

import pytest

from models.errors import UsageError
from models.remote.address import parse_address


@pytest.mark.parametrize(
    ("url", "host", "port", "prefix"),
    [
        ("https://models.example", "models.example", 443, ""),
        ("https://models.example:8443/chest/", "models.example", 8443, "/chest"),
        ("http://127.0.0.1:8000", "127.0.0.1", 8000, ""),
        ("http://localhost:8000/", "localhost", 8000, ""),
        ("http://[::1]:8000", "::1", 8000, ""),
    ],
)
def test_an_address_is_taken(url: str, host: str, port: int, prefix: str) -> None:
    address = parse_address(url)
    assert (address.host, address.port, address.prefix) == (host, port, prefix)
    assert address.secure == url.startswith("https")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://models.example", "unencrypted"),
        ("http://192.0.2.7:8000", "unencrypted"),
        ("http://localhost.models.example", "unencrypted"),
        ("ftp://127.0.0.1", "https://HOST:PORT"),
        ("models.example:8443", "https://HOST:PORT"),
        ("https://", "https://HOST:PORT"),
        ("https://models.example:0", "https://HOST:PORT"),
        ("https://models.example:99999", "remote model"),
        ("https://models.example/x?y=1", "leave out what follows"),
        ("https://models.example/x#y", "leave out what follows"),
        ("https://models.example/x y", "leave out what follows"),
        ("https://models.example/\r\nX: y", "remote model"),
    ],
)
def test_another_address_is_refused(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        parse_address(url)


def test_a_password_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError) as refused:
        parse_address("https://anna:secret@models.example")
    assert "token file" in str(refused.value)
    assert "secret" not in str(refused.value)
