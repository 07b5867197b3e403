"""Sections of the settings for where results go: destinations, and the rules that choose among them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from dicom_node.config.addresses import is_confidential, is_origin
from dicom_node.config.sections import AETitle, ResultKind, Section
from dicom_node.store.states import Confirmation

SENDER_ALIAS = "sender"
"""Destination in a routing rule that stands for the one with the AE title of the films' sender."""


class Destination(Section):
    """Destination of results: the keys that all kinds share."""

    name: str = Field(min_length=1, max_length=64, description="name, for rules, priors and logs")
    confirm: Confirmation = Field(
        Confirmation.COMMITMENT,
        description="proof of delivery: response, query, or commitment (a query where not offered)",
    )
    results: tuple[ResultKind, ...] | None = Field(
        None, description="kinds of results.objects to send; absent: all"
    )
    tls_ca: Path | None = Field(
        None, description="PEM file of the destination's authorities; absent: those of the system"
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file of the certificate that the node presents"
    )
    tls_key: Path | None = Field(None, description="PEM file of the private key of tls_certificate")

    def wants(self, kind: str) -> bool:
        """Return whether results of a kind are sent here; rejection notes always are."""
        return self.results is None or kind in self.results

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name == SENDER_ALIAS:
            raise ValueError(f"{SENDER_ALIAS!r} is reserved for the sender of the films; choose another name")
        return name

    @model_validator(mode="after")
    def _check_certificate(self) -> Destination:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("set tls_certificate and tls_key together")
        return self


class DicomDestination(Destination):
    """Destination that takes results by C-STORE."""

    kind: Literal["dicom"] = Field("dicom", description="dicom (C-STORE) or dicomweb (STOW-RS)")
    ae_title: AETitle = Field(description="AE title of the destination")
    # A host that is none stops only this destination; `config check` finds it.
    host: str = Field(min_length=1, description="name or address of the destination")
    port: Annotated[int, Field(ge=1, le=65535)] = Field(description="TCP port of the destination")
    tls: bool = Field(False, description="connect by TLS")
    confirm_ae_title: AETitle | None = Field(
        None, description="AE title to ask for confirmation and for priors; absent: ae_title"
    )
    confirm_host: str | None = Field(None, description="name or address of confirm_ae_title; absent: host")
    confirm_port: Annotated[int, Field(ge=1, le=65535)] | None = Field(
        None, description="TCP port of confirm_ae_title; absent: port"
    )

    @property
    def address(self) -> str:
        """Label of the destination for logs and errors."""
        return f"{self.ae_title}@{self.host}:{self.port}"

    @property
    def asked(self) -> DicomDestination:
        """Destination with the address that is asked for confirmation and for priors."""
        return self.model_copy(
            update={
                "ae_title": self.confirm_ae_title or self.ae_title,
                "host": self.confirm_host or self.host,
                "port": self.confirm_port or self.port,
            }
        )

    @model_validator(mode="after")
    def _check_tls(self) -> DicomDestination:
        if not self.tls and (self.tls_ca or self.tls_certificate):
            raise ValueError("tls_ca and tls_certificate have no effect without tls = true")
        return self


class DicomwebDestination(Destination):
    """Destination that takes results by STOW-RS."""

    kind: Literal["dicomweb"] = Field(description="dicom (C-STORE) or dicomweb (STOW-RS)")
    url: str = Field(description="root of the service, such as https://pacs.example/dicom-web")
    ae_title: AETitle | None = Field(
        None, description='AE title of the sender for whose films this is the destination "sender"'
    )
    token_file: Path | None = Field(
        None, description="file that holds a bearer token; read again for every request"
    )
    user: str | None = Field(None, description="user name for basic authentication")
    password_file: Path | None = Field(None, description="file that holds the password of user")
    proxy: str | None = Field(
        None,
        description="HTTP proxy, such as http://proxy.example:3128; absent: none, environment ignored",
    )

    @property
    def address(self) -> str:
        """Label of the destination for logs and errors."""
        return self.url

    @model_validator(mode="after")
    def _check_url(self) -> DicomwebDestination:
        try:
            parts = urlsplit(self.url)
            port = parts.port
        except ValueError as error:
            raise ValueError(f"url: {error}") from None
        web = parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0
        if not web or parts.query or parts.fragment:
            raise ValueError("url must be the root of a service, such as https://pacs.example/dicom-web")
        if parts.username or parts.password:
            raise ValueError("url holds credentials: put them in token_file, or in user and password_file")
        if (self.user is None) != (self.password_file is None) or (self.user and self.token_file):
            raise ValueError("give either token_file, or user and password_file, or nothing")
        if (self.token_file or self.user) and not is_confidential(self.url):
            raise ValueError("http would send the credentials unencrypted: use https")
        if self.proxy is not None and not (is_origin(self.proxy) and "@" not in self.proxy):
            raise ValueError(
                "proxy must be an address without path or credentials, such as http://proxy.example:3128"
            )
        return self


def _destination_kind(entry: Any) -> Any:
    if isinstance(entry, dict):
        return entry.get("kind", "dicom")
    return getattr(entry, "kind", None)


AnyDestination = Annotated[
    Annotated[DicomDestination, Tag("dicom")] | Annotated[DicomwebDestination, Tag("dicomweb")],
    Discriminator(_destination_kind),
]


class RoutingRule(Section):
    """Routing rule: which results go to which destinations.

    A rule matches when all of its conditions are met. A condition is met when one of its patterns (``*`` and
    ``?`` are wildcards) matches one of the study's values; an empty pattern matches a study without a value.
    """

    name: str = Field(min_length=1, max_length=64, description="name of the rule, for logs")
    calling_ae: tuple[str, ...] = Field((), description="AE title of the sender of the films")
    modality: tuple[str, ...] = Field((), description="Modality (0008,0060), such as CR or DX")
    body_part: tuple[str, ...] = Field((), description='Body Part Examined (0018,0015); "": not given')
    view: tuple[Literal["frontal", "lateral", ""], ...] = Field(
        (), description="view of a film: frontal or lateral"
    )
    finding: tuple[str, ...] = Field(
        (), description="finding that is reported as present, by its label's key"
    )
    fallback: bool = Field(False, description="true for the one rule of studies that no other rule matches")
    destinations: tuple[str, ...] = Field(
        description='names of destinations; "sender": the one whose AE title sent the films'
    )

    @model_validator(mode="after")
    def _check(self) -> RoutingRule:
        conditions = any((self.calling_ae, self.modality, self.body_part, self.view, self.finding))
        if conditions == self.fallback:
            raise ValueError("a rule needs either conditions or fallback = true")
        return self
