"""Sections of the settings: every key with its default, its description and the check of its value.

:mod:`dicom_node.config.settings` reads them, and deploy/node.toml lists them.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from dicom_node.config.addresses import Host, VectorDatabaseAddress
from dicom_node.store.states import Confirmation

SENDER_ALIAS = "sender"
"""Destination in a routing rule that stands for the one with the AE title of the films' sender."""


def _ae_title(value: str) -> str:
    """Check an AE title: 1 to 16 printable characters, no backslash (PS3.5 table 6.2-1)."""
    title = value.strip(" ")
    if not 1 <= len(title) <= 16 or "\\" in title or not (title.isascii() and title.isprintable()):
        raise ValueError(
            f"AE title {value!r} must be 1 to 16 printable ASCII characters without backslash (PS3.5 6.2)"
        )
    return title


def _device(value: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", value):
        raise ValueError("must be auto, cpu, cuda or cuda:N")
    return value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]
Device = Annotated[str, AfterValidator(_device)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KnownPeer(_Section):
    """Peer that may open associations, by its calling AE title."""

    ae_title: AETitle = Field(description="calling AE title")
    host: Host | None = Field(None, description="host name or IP address of the peer; absent: any")


class DicomSettings(_Section):
    """DICOM port: address, AE title, admission of peers, limits and TLS."""

    ae_title: AETitle = Field("DICOM_NODE", description="AE title of the node, as called and as calling AE")
    host: Host = Field(
        "127.0.0.1",
        description="name or address to listen on; 0.0.0.0 or, with IPv6, :: listens on all",
    )
    port: Port = Field(11112, description="TCP port to listen on; 0: any free one")
    processes: int = Field(2, ge=1, le=64, description="number of receiver processes that share the port")
    known_peers: tuple[KnownPeer, ...] = Field(
        (), description="peers that may open associations; empty: any peer on this machine"
    )
    accept_unknown_peers: bool = Field(
        False, description="accept associations from every AE title and address"
    )
    require_called_ae: bool = Field(
        True, description="reject associations that call another AE title than ae_title"
    )
    max_associations: int = Field(
        32, ge=1, le=400, description="most associations at the same time, in each process"
    )
    max_pdu_bytes: int = Field(
        131072, ge=4096, le=1048576, description="largest PDU that is accepted, in bytes"
    )
    max_instance_bytes: int = Field(
        512 * 2**20,
        ge=2**20,
        description="largest instance that is accepted, in bytes; a larger one aborts its association",
    )
    association_seconds: Seconds = Field(10, description="seconds for a peer to send its association request")
    pdu_seconds: Seconds = Field(30, description="seconds for a peer to finish a PDU that it began")
    idle_seconds: Seconds = Field(
        60, description="seconds without traffic after which an association is aborted"
    )
    min_free_bytes: int = Field(
        2 * 2**30,
        ge=0,
        description="free disk space, in bytes, below which C-STORE is answered A700 (out of resources)",
    )
    tls_certificate: Path | None = Field(
        None, description="PEM file of the node's certificate; when set, the port accepts only TLS"
    )
    tls_key: Path | None = Field(
        None, description="PEM file of the private key of tls_certificate, without a password"
    )
    tls_ca: Path | None = Field(
        None,
        description="PEM file of certificate authorities; when set, peers must present a certificate of one",
    )

    @model_validator(mode="after")
    def _check_tls(self) -> DicomSettings:
        if (self.tls_certificate is None) != (self.tls_key is None) or (self.tls_ca and not self.tls_key):
            raise ValueError("set tls_certificate and tls_key together; tls_ca needs both")
        return self


class WebSettings(_Section):
    """Web page: address, log-in, what readers see, and DICOMweb."""

    host: Host = Field("127.0.0.1", description="name or address to listen on; 0.0.0.0: all of this machine")
    port: Port = Field(8080, description="TCP port to listen on; 0: any free one")
    login: bool | None = Field(
        None,
        description="require readers to log in; absent: unless host is a loopback address and oidc is off",
    )
    https: bool = Field(
        False, description="readers use https, through a proxy before the page: cookies are marked Secure"
    )
    patient: Literal["pseudonym", "name"] = Field(
        "pseudonym", description="name patients by pseudonym or by name; name also turns DICOMweb on"
    )
    session_hours: float = Field(12, gt=0, description="hours after which a reader must log in again")
    requests_per_minute: int = Field(
        3000, ge=1, description="most requests per minute from one address; more are answered 429"
    )
    dicomweb_films: bool = Field(
        True, description="DICOMweb also delivers received films, not only the results of the node"
    )
    dicomweb_origins: tuple[str, ...] = Field(
        (), description="origins of other web pages that may use DICOMweb, such as https://viewer.example"
    )
    upload_bytes: int = Field(
        256 * 2**20, ge=2**20, description="largest file that a reader may upload, in bytes"
    )

    @field_validator("dicomweb_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _is_origin(origin):
                raise ValueError(
                    f"{origin!r} is not an origin: give scheme and host, such as https://viewer.example"
                )
        return origins


class OidcSettings(_Section):
    """Single sign-on: readers log in at an identity provider (OpenID Connect)."""

    issuer: str | None = Field(
        None, description="issuer address of the provider, exactly as the provider states it; absent: off"
    )
    client_id: str | None = Field(None, description="client ID of the page at the provider")
    client_secret_file: Path | None = Field(
        None, description="file that holds the client secret; absent: the client has none"
    )
    page_url: str | None = Field(
        None,
        description="address of the page for readers; the provider redirects to PAGE_URL/login/oidc/back",
    )
    scopes: tuple[str, ...] = Field(
        ("openid", "profile"), description="scopes to request; openid must be among them"
    )
    role_claim: str = Field(
        "roles",
        description="claim with roles or groups, in the ID token or else UserInfo; a dot steps into a claim",
    )
    readers: tuple[str, ...] = Field(
        ("dicom-node-reader",), description="values of role_claim that make a reader"
    )
    admins: tuple[str, ...] = Field(
        ("dicom-node-admin",), description="values of role_claim that make an administrator"
    )
    name_claim: str = Field("preferred_username", description="claim with the name for a new reader")
    logout: bool = Field(True, description="log readers out at the provider too, if it supports that")
    button: str = Field(
        "Log in with your organisation", min_length=1, max_length=64, description="text of the log-in button"
    )
    tls_ca: Path | None = Field(
        None, description="PEM file of the provider's authorities; absent: those of the system"
    )

    @model_validator(mode="after")
    def _check(self) -> OidcSettings:
        if self.issuer is None:
            return self
        if not self.client_id or not self.page_url:
            raise ValueError("issuer needs client_id and page_url")
        parts = urlsplit(self.issuer)
        if parts.query or parts.fragment or not is_confidential(self.issuer):
            raise ValueError("issuer must be an https address, such as https://id.example")
        if not _is_origin(self.page_url):
            raise ValueError("page_url must be an address without a path, such as https://reading.example")
        if "openid" not in self.scopes:
            raise ValueError("scopes must contain openid")
        return self


class StudySettings(_Section):
    """Completeness: when a study counts as complete and is read."""

    quiet_seconds: float = Field(
        5, ge=0, description="seconds without a new image after which a study is complete"
    )
    forced_seconds: Seconds = Field(
        300, description="seconds after its first image when a study is complete, even if images still arrive"
    )
    poll_seconds: Seconds = Field(0.1, description="seconds between two checks for complete studies")
    requeue_seconds: Seconds = Field(
        300, description="seconds after which a queued study whose message was lost is queued again"
    )


class WorkerSettings(_Section):
    """Worker: the models that read studies, and their limits."""

    bundle: str = Field("openi-findings", description="model bundle: name of a shipped one, or a folder")
    gate: str = Field(
        "gate",
        description="gate that refuses pictures other than chest films: name of a shipped one, or a folder; "
        "empty: no gate",
    )
    device: Device = Field("auto", description="processor for the models: auto, cpu, cuda or cuda:N")
    threads: int | None = Field(
        None, ge=1, description="CPU threads for the models; absent: one for each core"
    )
    lease_seconds: Seconds = Field(
        30, description="seconds of silence after which a worker's study is given to another worker"
    )
    max_attempts: int = Field(
        3, ge=1, description="number of failed tries, ended workers included, after which a study is given up"
    )
    study_seconds: Seconds = Field(
        600, description="most seconds to analyse one study; then the worker is ended, and the try has failed"
    )
    max_films: int = Field(
        16,
        ge=1,
        description="most films of a study that are analysed: frontal ones first, then the newest; "
        "the report names the others",
    )
    decode_seconds: Seconds = Field(30, description="most seconds to decode one film")
    decode_bytes: int = Field(4 * 2**30, ge=2**28, description="most memory of the decoder process, in bytes")
    max_pixels: int = Field(
        64_000_000, ge=1, description="largest image that is decoded, in pixels (rows x columns x frames)"
    )


ResultKind = Literal["sr", "sc", "similar", "pdf", "ko", "seg", "pr", "pm"]


class ResultSettings(_Section):
    """Results: the DICOM objects that are written for each study."""

    objects: tuple[ResultKind, ...] = Field(
        ("sr", "sc", "similar"), description="kinds of objects (docs/results.md); sr must be among them"
    )
    sr_class: Literal["comprehensive3d", "comprehensive", "enhanced"] = Field(
        "comprehensive3d", description="SOP class of reports: comprehensive3d, comprehensive or enhanced"
    )
    saliency_limit: int = Field(
        8, ge=0, description="most findings of a study that get a heat map, the most certain first"
    )
    saliency_columns: int = Field(
        1024, ge=64, le=2048, description="longer side of each panel of a heat map image, in pixels"
    )
    word_limit: int = Field(
        0,
        ge=0,
        description="most findings for which the page shows the weight of each word, with a model that reads "
        "text; each takes about 30 readings",
    )
    page_methods: tuple[Literal["attention", "ig", "occlusion"], ...] = Field(
        (),
        description="more heat maps on the page: attention, ig, occlusion; the last two need "
        "dicom-node[explain], and ig delays a report by seconds for each finding",
    )
    manufacturer: str = Field("dicom-node", description="Manufacturer (0008,0070) in results")
    station_name: str = Field("DICOM_NODE", max_length=16, description="Station Name (0008,1010) in results")

    @model_validator(mode="after")
    def _check(self) -> ResultSettings:
        if "sr" not in self.objects:
            raise ValueError("objects must contain sr, which also says why a study could not be analysed")
        return self

    @property
    def heat_maps(self) -> int:
        """Most findings of a study that get a heat map; 0 when no kind of object shows heat maps."""
        return self.saliency_limit if {"sc", "pdf", "seg", "pr", "pm"} & set(self.objects) else 0


class RetrievalSettings(_Section):
    """Similar cases: the search in a reference set, for each study."""

    enabled: bool = Field(True, description="search for similar cases when there is an index")
    index: Path | None = Field(
        None,
        description="folder of the index; absent: indexes/NAME-VERSION of the bundle, in data_dir",
    )
    k: int = Field(5, ge=1, le=50, description="number of similar cases for each study")
    engine: Literal["exact", "hnsw", "ivfpq", "pgvector"] = Field(
        "exact", description="search engine: exact, hnsw, ivfpq or pgvector (docs/retrieval.md)"
    )
    database_url: VectorDatabaseAddress | None = Field(
        None, description="PostgreSQL with pgvector, for engine pgvector; absent: the node's database_url"
    )
    films: Path | None = Field(
        None,
        description="folder of the reference set's films, named by case; absent: the page shows none",
    )
    own_studies: bool = Field(
        False, description="index the studies of this node too, so that readers can search them"
    )


class PriorSettings(_Section):
    """Priors: search for the patient's previous chest film, and comparison with it."""

    source: str | None = Field(
        None, description="name of the destination to ask for the previous film; absent: off"
    )
    days: int = Field(1095, ge=1, description="greatest age of the previous film, in days")
    wait_seconds: Seconds = Field(
        60, description="most seconds that a complete study waits for its previous film"
    )


class SenderSettings(_Section):
    """Delivery of results: timeouts, repetition and confirmation."""

    poll_seconds: Seconds = Field(0.1, description="seconds between two checks for results to send")
    connect_seconds: Seconds = Field(
        10, description="seconds for a destination to accept a connection and an association"
    )
    response_seconds: Seconds = Field(60, description="seconds for a destination to answer a request")
    idle_seconds: Seconds = Field(
        5, description="seconds without work after which an association is released"
    )
    backoff_seconds: Seconds = Field(
        5, description="seconds before the second attempt; doubled before each further one, varied at random"
    )
    backoff_cap_seconds: Seconds = Field(600, description="most seconds between two attempts")
    lease_seconds: Seconds = Field(
        120, description="seconds of silence after which a sender's results are sent by another sender"
    )
    confirm_after_seconds: float = Field(
        2, ge=0, description="least seconds between sending a result and asking for its confirmation"
    )
    commitment_seconds: Seconds = Field(
        600, description="seconds for the answer to a storage commitment request before it is repeated"
    )


class Destination(_Section):
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
        if self.proxy is not None and not (_is_origin(self.proxy) and "@" not in self.proxy):
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


class RoutingRule(_Section):
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


def _is_origin(address: str) -> bool:
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
