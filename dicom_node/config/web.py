"""Settings of the web page: address, log-in, proxies before it, and limits."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from dicom_node.config.addresses import Host, Network, is_origin
from dicom_node.config.sections import Port, Seconds, Section


class WebSettings(Section):
    """Web page: address, log-in, what readers see, and DICOMweb."""

    host: Host = Field("127.0.0.1", description="name or address to listen on; 0.0.0.0: all of this machine")
    port: Port = Field(8080, description="TCP port to listen on; 0: any free one")
    login: bool | None = Field(
        None,
        description="require readers to log in; absent: unless host is a loopback address, and https "
        "and oidc are off",
    )
    https: bool = Field(
        False,
        description="readers use https, through a proxy before the page: implies login, cookies are Secure",
    )
    trusted_proxies: tuple[Network, ...] = Field(
        ("127.0.0.1", "::1"),
        description="addresses or networks of proxies, whose X-Forwarded-For names the reader's address",
    )
    patient: Literal["pseudonym", "name"] = Field(
        "pseudonym", description="name patients by pseudonym or by name; name also turns DICOMweb on"
    )
    session_hours: float = Field(12, gt=0, description="hours after which a reader must log in again")
    requests_per_minute: int = Field(
        3000, ge=1, description="most requests per minute from one address; more are answered 429"
    )
    connections: int = Field(512, ge=16, description="most connections at the same time")
    connections_per_address: int = Field(
        128, ge=8, description="most connections from one address that is no trusted proxy"
    )
    request_seconds: Seconds = Field(
        20, description="seconds to send a request, and one more for each 16 KiB of its body"
    )
    answer_seconds: Seconds = Field(
        120, description="most seconds to decode all pictures of one answer; more come to nothing"
    )
    decoders: int = Field(
        2, ge=1, le=16, description="films that are decoded for readers at the same time, each in a process"
    )
    uploads: int = Field(
        2, ge=1, le=64, description="uploads that are read at the same time; more are answered 503"
    )
    decode_bytes: int = Field(
        2 * 2**30,
        ge=2**28,
        description="most memory of each process that reads a film or an upload for readers, in bytes",
    )
    dicomweb_films: bool = Field(
        True, description="DICOMweb also delivers received films, not only the results of the node"
    )
    dicomweb_origins: tuple[str, ...] = Field(
        (), description="origins of other web pages that may use DICOMweb, such as https://viewer.example"
    )
    api_description: bool = Field(
        True, description="describe the API to readers who have logged in, at /api/v1/openapi.json"
    )
    token_days: float = Field(
        90, gt=0, description="days after which a token of a script expires, unless it is made for fewer"
    )
    upload_bytes: int = Field(
        256 * 2**20, ge=2**20, description="largest file that a reader may upload, in bytes"
    )

    @field_validator("dicomweb_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not is_origin(origin):
                raise ValueError(
                    f"{origin!r} is not an origin: give scheme and host, such as https://viewer.example"
                )
        return origins
