"""Addresses of peers as people write them: AE@HOST:PORT, or the name of a configured destination."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError

from dicom_node.config.addresses import check_host
from dicom_node.config.destinations import DicomDestination
from dicom_node.config.sections import AETitle
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError

_ADDRESS = re.compile(r"(?P<ae>[^@]+)@(?P<host>\[[^\]]+\]|[^:\[\]]+):(?P<port>[0-9]{1,5})")


@dataclass(frozen=True, slots=True)
class Address:
    """DICOM address of a peer, written AE@HOST:PORT; an IPv6 address is in brackets."""

    ae_title: str
    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Parse an address.

        Raises
        ------
        ConfigurationError
            If the text is not an address.
        """
        found = _ADDRESS.fullmatch(text)
        if not found or not 0 < int(found["port"]) < 1 << 16:
            raise ConfigurationError(f"{text}: give the peer as AE@HOST:PORT, such as PACS@192.0.2.7:104")
        try:
            host = check_host(found["host"].strip("[]"))
        except ValueError as error:
            raise ConfigurationError(f"{text}: {error}") from None
        return cls(checked_ae_title(found["ae"]), host, int(found["port"]))


def named_peer(text: str, settings: Settings) -> DicomDestination:
    """Return the destination of that name, with its certificates, or the one at that address.

    Raises
    ------
    ConfigurationError
        If the text is neither.
    """
    for each in settings.destinations:
        if isinstance(each, DicomDestination) and each.name == text:
            return each
    address = Address.parse(text)
    return DicomDestination(name="peer", ae_title=address.ae_title, host=address.host, port=address.port)


def checked_ae_title(text: str) -> str:
    """Return an AE title.

    Raises
    ------
    ConfigurationError
        If it is none.
    """
    try:
        return str(TypeAdapter(AETitle).validate_python(text))
    except ValidationError as error:
        raise ConfigurationError(error.errors()[0]["msg"].removeprefix("Value error, ")) from None
