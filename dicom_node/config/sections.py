"""The sections of the settings: every key with its default, and what is wrong with a value.

:mod:`dicom_node.config.settings` reads them.
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Annotated, Literal
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

from dicom_node.store.states import Confirmation

SENDER = "sender"
"""Stands in a rule for the destination with the AE title that the films came from."""


def _ae_title(value: str) -> str:
    """Check an AE title: 1 to 16 printable characters, no backslash (PS3.5 table 6.2-1)."""
    title = value.strip(" ")
    if not 1 <= len(title) <= 16 or "\\" in title or not (title.isascii() and title.isprintable()):
        raise ValueError(
            f"AE title {value!r} must be 1 to 16 printable ASCII characters without backslash (PS3.5 6.2)"
        )
    return title


AETitle = Annotated[str, AfterValidator(_ae_title)]
Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Peer(_Section):
    """A calling AE that may open associations."""

    ae_title: AETitle
    host: str | None = Field(None, description="IP address it must come from; any when absent")


class DicomSettings(_Section):
    """What the Storage SCP listens on and accepts."""

    ae_title: AETitle = "DICOM_NODE"
    host: str = Field("127.0.0.1", description="address to listen on")
    port: Port = Field(11112, description="0 takes a free port")
    processes: int = Field(2, ge=1, le=64, description="SCP processes that share the port")
    known_peers: tuple[Peer, ...] = Field(
        (), description="calling AEs that may associate; empty: any from loopback"
    )
    accept_unknown_peers: bool = Field(False, description="take associations from any calling AE and address")
    require_called_ae: bool = Field(True, description="reject associations that call another AE title")
    max_associations: int = Field(32, ge=1, le=400, description="at once, in each SCP process")
    max_pdu_bytes: int = Field(131072, ge=4096, le=1048576)
    max_instance_bytes: int = Field(512 * 2**20, ge=2**20, description="a larger data set is aborted")
    association_seconds: Seconds = Field(10, description="for a peer to complete its A-ASSOCIATE")
    pdu_seconds: Seconds = Field(30, description="for a peer to complete a PDU that it began")
    idle_seconds: Seconds = Field(60, description="an association without traffic is aborted")
    min_free_bytes: int = Field(2 * 2**30, ge=0, description="below this, C-STORE answers A700")
    tls_certificate: Path | None = Field(None, description="PEM file; with it the port speaks TLS alone")
    tls_key: Path | None = Field(None, description="PEM file of its private key, without a password")
    tls_ca: Path | None = Field(
        None, description="PEM file; with it, peers must show a certificate of one of these authorities"
    )

    @model_validator(mode="after")
    def _check_tls(self) -> DicomSettings:
        if (self.tls_certificate is None) != (self.tls_key is None) or (self.tls_ca and not self.tls_key):
            raise ValueError("TLS needs both tls_certificate and tls_key; tls_ca comes on top")
        return self


class WebSettings(_Section):
    """The page."""

    host: str = "127.0.0.1"
    port: Port = Field(8080, description="0 takes a free port")
    login: bool | None = Field(
        None, description="absent: asked for unless host is the loopback and oidc is off"
    )
    https: bool = Field(False, description="readers come by https, through a proxy: cookies are Secure")
    patient: Literal["pseudonym", "name"] = Field(
        "pseudonym", description="pseudonym or name: how the page calls a patient"
    )
    session_hours: float = Field(12, gt=0, description="after which a reader logs in again")
    requests_per_minute: int = Field(3000, ge=1, description="of one address; more are answered 429")
    dicomweb_films: bool = Field(
        True, description="DICOMweb hands out received films too, beside what the node wrote"
    )
    dicomweb_origins: tuple[str, ...] = Field(
        (), description="pages that may read DICOMweb from elsewhere, such as https://viewer.example"
    )
    upload_bytes: int = Field(256 * 2**20, ge=2**20, description="a larger file is refused")

    @field_validator("dicomweb_origins")
    @classmethod
    def _check_origins(cls, origins: tuple[str, ...]) -> tuple[str, ...]:
        for origin in origins:
            if not _is_origin(origin):
                raise ValueError(f"{origin!r} is no origin: write such as https://viewer.example")
        return origins


class OidcSettings(_Section):
    """Readers whom an identity provider vouches for (OpenID Connect)."""

    issuer: str | None = Field(None, description="the provider, as it calls itself; absent: off")
    client_id: str | None = Field(None, description="what the provider calls the page")
    client_secret_file: Path | None = Field(None, description="holds its secret; absent: it has none")
    page_url: str | None = Field(
        None,
        description="how readers call the page; the provider sends them back to PAGE_URL/login/oidc/back",
    )
    scopes: tuple[str, ...] = ("openid", "profile")
    role_claim: str = Field(
        "roles", description="of the ID token, else of UserInfo: roles or groups; dots lead into claims"
    )
    readers: tuple[str, ...] = Field(("dicom-node-reader",), description="which of them make a reader")
    admins: tuple[str, ...] = Field(("dicom-node-admin",), description="which of them make an admin")
    name_claim: str = Field("preferred_username", description="what a new reader is called by")
    logout: bool = Field(
        True, description="who logs out here is sent to the provider's logout too, if it has one"
    )
    button: str = Field("Log in with your organisation", min_length=1, max_length=64)
    tls_ca: Path | None = Field(
        None, description="PEM file of the provider's authorities; the system's when absent"
    )

    @model_validator(mode="after")
    def _check(self) -> OidcSettings:
        if self.issuer is None:
            return self
        if not self.client_id or not self.page_url:
            raise ValueError("issuer needs client_id and page_url beside it")
        parts = urlsplit(self.issuer)
        if parts.query or parts.fragment or not is_confidential(self.issuer):
            raise ValueError("issuer must be an https address, such as https://id.example")
        if not _is_origin(self.page_url):
            raise ValueError("page_url must be such as https://reading.example, without a path")
        if "openid" not in self.scopes:
            raise ValueError("scopes must hold openid")
        return self


class StudySettings(_Section):
    """When a study counts as complete."""

    quiet_seconds: float = Field(5, ge=0, description="after its last image")
    forced_seconds: Seconds = Field(300, description="after its first image, even while more arrive")
    poll_seconds: Seconds = Field(0.1, description="between two looks at the index")
    requeue_seconds: Seconds = Field(300, description="a queued study that nobody began is queued again")


class WorkerSettings(_Section):
    """How studies are analysed."""

    bundle: str = Field("openi-findings", description="name of a shipped bundle, or a folder")
    gate: str = Field(
        "gate",
        description="name of a shipped gate, or a folder; empty: whatever is sent counts as a chest film",
    )
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    threads: int | None = Field(None, ge=1, description="torch threads; all cores when absent")
    lease_seconds: Seconds = Field(
        30, description="a study whose worker is silent for this long is given to another"
    )
    max_attempts: int = Field(3, ge=1, description="a study that ended its worker this often is set aside")
    decode_seconds: Seconds = Field(30, description="for one film")
    decode_bytes: int = Field(4 * 2**30, ge=2**28, description="address space of the decoder process")
    max_pixels: int = Field(
        64_000_000, ge=1, description="rows x columns x frames above which nothing is decoded"
    )


ResultKind = Literal["sr", "sc", "similar", "pdf", "ko", "seg", "pr", "pm"]


class ResultSettings(_Section):
    """What is written for an analysed study."""

    objects: tuple[ResultKind, ...] = Field(
        ("sr", "sc", "similar"), description="sr must be among them; docs/results.md says what each is"
    )
    sr_class: Literal["comprehensive3d", "comprehensive", "enhanced"] = "comprehensive3d"
    saliency_limit: int = Field(
        8, ge=0, description="heat maps of at most so many findings a study, most certain first"
    )
    saliency_columns: int = Field(1024, ge=64, le=2048, description="longer side of each panel, pixels")
    word_limit: int = Field(
        0,
        ge=0,
        description="for a model that reads text: weigh its words for so many findings a study, for the "
        "page; each takes some thirty readings",
    )
    page_methods: tuple[Literal["attention", "ig", "occlusion"], ...] = Field(
        (),
        description="further heat maps for the page: attention, ig, occlusion; the latter two need "
        "dicom-node[explain], and ig holds a report up by seconds for each finding",
    )
    manufacturer: str = "dicom-node"
    station_name: str = Field("DICOM_NODE", max_length=16)

    @model_validator(mode="after")
    def _check(self) -> ResultSettings:
        if "sr" not in self.objects:
            raise ValueError("objects must hold sr: it is what says why a study could not be analysed")
        return self

    @property
    def heat_maps(self) -> int:
        """For how many findings heat maps are drawn: none when nothing would show them."""
        return self.saliency_limit if {"sc", "pdf", "seg", "pr", "pm"} & set(self.objects) else 0


class RetrievalSettings(_Section):
    """Which similar cases of a reference set are found beside each study."""

    enabled: bool = Field(True, description="look for similar cases where there is an index")
    index: Path | None = Field(
        None, description="folder; absent: indexes/NAME-VERSION of the bundle in the data directory"
    )
    k: int = Field(5, ge=1, le=50, description="cases a study")
    engine: Literal["exact", "hnsw", "ivfpq", "pgvector"] = "exact"
    database_url: str | None = Field(
        None, description="PostgreSQL with pgvector, for that engine; absent: database_url"
    )
    films: Path | None = Field(
        None,
        description="folder of the reference set's films, each called by its case; absent: readers see none",
    )
    own_studies: bool = Field(
        False,
        description="keep where each study lies, so that readers can search this node's own for similar ones",
    )


class PriorSettings(_Section):
    """Whether the patient's previous chest film is looked for, and compared with."""

    source: str | None = Field(None, description="name of the destination that is asked; absent: off")
    days: int = Field(1095, ge=1, description="how far back")
    wait_seconds: Seconds = Field(
        60, description="so long a complete study waits for its prior, then it is read without"
    )


class SenderSettings(_Section):
    """How results go back."""

    poll_seconds: Seconds = 0.1
    connect_seconds: Seconds = 10
    response_seconds: Seconds = 60
    idle_seconds: Seconds = Field(5, description="an association without work is released")
    backoff_seconds: Seconds = Field(5, description="before the second try; doubles up to the cap, jittered")
    backoff_cap_seconds: Seconds = 600
    lease_seconds: Seconds = 120
    confirm_after_seconds: float = Field(
        2, ge=0, description="at least, before a destination is asked whether it keeps what it took"
    )
    commitment_seconds: Seconds = Field(
        600, description="for the answer to a request for storage commitment, before it is asked anew"
    )


class Destination(_Section):
    """Where results are sent, whatever it speaks."""

    name: str = Field(min_length=1, max_length=64)
    confirm: Confirmation = Field(
        Confirmation.COMMITMENT,
        description="what counts as kept; commitment is a query where it is not offered",
    )
    results: tuple[ResultKind, ...] | None = Field(
        None, description="of results.objects, what this destination gets; all when absent"
    )
    tls_ca: Path | None = Field(None, description="PEM file of its authorities; the system's when absent")
    tls_certificate: Path | None = Field(None, description="PEM file that the node shows")
    tls_key: Path | None = Field(None, description="PEM file of its private key")

    def wants(self, kind: str) -> bool:
        """Whether it gets results of a kind; a rejection note goes wherever results went."""
        return self.results is None or kind in self.results

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name == SENDER:
            raise ValueError(f"the name {SENDER!r} stands for whoever sent the films; take another")
        return name

    @model_validator(mode="after")
    def _check_certificate(self) -> Destination:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key belong together")
        return self


class DicomDestination(Destination):
    """Takes results by C-STORE."""

    kind: Literal["dicom"] = "dicom"
    ae_title: AETitle
    host: str
    port: Annotated[int, Field(ge=1, le=65535)]
    tls: bool = Field(False, description="speak TLS")

    @property
    def address(self) -> str:
        """How it stands in messages."""
        return f"{self.ae_title}@{self.host}:{self.port}"

    @model_validator(mode="after")
    def _check_tls(self) -> DicomDestination:
        if not self.tls and (self.tls_ca or self.tls_certificate):
            raise ValueError("certificates are given, but tls = true is not")
        return self


class DicomwebDestination(Destination):
    """Takes results by STOW-RS."""

    kind: Literal["dicomweb"]
    url: str = Field(description="root of the service, such as https://pacs.example/dicom-web")
    ae_title: AETitle | None = Field(None, description="of the sender whose results go back here")
    token_file: Path | None = Field(None, description="holds a bearer token; read anew for every request")
    user: str | None = Field(None, description="for basic authentication")
    password_file: Path | None = Field(None, description="holds the password of user")

    @property
    def address(self) -> str:
        """How it stands in messages."""
        return self.url

    @model_validator(mode="after")
    def _check_url(self) -> DicomwebDestination:
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
            raise ValueError("url must be the root of a service, such as https://pacs.example/dicom-web")
        if parts.username or parts.password:
            raise ValueError("url holds credentials: put them in token_file, or in user and password_file")
        if (self.user is None) != (self.password_file is None) or (self.user and self.token_file):
            raise ValueError("give either token_file, or user and password_file, or nothing")
        if (self.token_file or self.user) and not is_confidential(self.url):
            raise ValueError("over http anybody on the way can read the credentials: use https")
        return self


AnyDestination = Annotated[
    Annotated[DicomDestination, Tag("dicom")] | Annotated[DicomwebDestination, Tag("dicomweb")],
    Discriminator(lambda entry: entry.get("kind", "dicom") if isinstance(entry, dict) else entry.kind),
]


class Rule(_Section):
    """Where the results of some studies go.

    A rule matches when every condition that it has is met, and a condition is met when one of its patterns
    (``*`` and ``?`` stand for any) is one of the study's values; an empty pattern is a study without any.
    """

    name: str = Field(min_length=1, max_length=64)
    calling_ae: tuple[str, ...] = Field((), description="who sent the films")
    modality: tuple[str, ...] = Field((), description="such as CR or DX")
    body_part: tuple[str, ...] = Field((), description="Body Part Examined, such as CHEST")
    view: tuple[Literal["frontal", "lateral", ""], ...] = Field((), description="frontal or lateral")
    finding: tuple[str, ...] = Field((), description="keys of labels that were found present")
    fallback: bool = Field(False, description="only for studies that no other rule matches")
    destinations: tuple[str, ...] = Field(description="names; sender stands for whoever sent the films")

    @model_validator(mode="after")
    def _check(self) -> Rule:
        conditions = any((self.calling_ae, self.modality, self.body_part, self.view, self.finding))
        if conditions == self.fallback:
            raise ValueError("a rule has conditions, or fallback = true and none")
        return self


def _is_origin(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in {"http", "https"} and address == f"{parts.scheme}://{parts.netloc}" != "http://"


def is_confidential(address: str) -> bool:
    """Whether nobody on the way to an address can read what is sent: by https, or to this machine."""
    parts = urlsplit(address)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
