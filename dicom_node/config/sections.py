"""Sections of the settings: every key with its default, its description and the check of its value.

:mod:`dicom_node.config.settings` reads them, and deploy/node.toml lists them. The web page stands in
:mod:`dicom_node.config.web`, and where results go in :mod:`dicom_node.config.destinations`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dicom_node.config.addresses import Host, VectorDatabaseAddress, is_confidential, is_origin


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


class Section(BaseModel):
    """Section of the settings: unknown keys are errors, and nothing changes after the start."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KnownPeer(Section):
    """Peer that may open associations, by its calling AE title."""

    ae_title: AETitle = Field(description="calling AE title")
    host: Host | None = Field(None, description="host name or IP address of the peer; absent: any")


class DicomSettings(Section):
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
        32,
        ge=1,
        le=400,
        description="most associations in each process at the same time; 7 of 8 places for one address",
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
        description="free disk space, in bytes, below which C-STORE is answered A700 (out of resources), "
        "beside what the results of accepted films will need; 0: no reserve at all",
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


class OidcSettings(Section):
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
        description="address of the page for readers, which DICOMweb names too; the provider redirects to "
        "PAGE_URL/login/oidc/back",
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
        if self.page_url is not None and not is_origin(self.page_url):
            raise ValueError("page_url must be an address without a path, such as https://reading.example")
        if self.issuer is None:
            return self
        if not self.client_id or not self.page_url:
            raise ValueError("issuer needs client_id and page_url")
        parts = urlsplit(self.issuer)
        if parts.query or parts.fragment or not is_confidential(self.issuer):
            raise ValueError("issuer must be an https address, such as https://id.example")
        if "openid" not in self.scopes:
            raise ValueError("scopes must contain openid")
        return self


class StudySettings(Section):
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


class WorkerSettings(Section):
    """Worker: the models that read studies, and their limits."""

    bundle: str = Field(
        "openi-findings",
        description="model bundle: name of a shipped one, or a folder; [[models]] take its place",
    )
    gate: str = Field(
        "gate",
        description="gate that refuses pictures other than chest films: name of a shipped one, or a folder; "
        "empty: no gate",
    )
    device: Device = Field("auto", description="processor for the models: auto, cpu, cuda or cuda:N")
    runtime: Literal["auto", "torch", "onnx"] = Field(
        "auto",
        description="library that computes the models: torch, onnx (ONNX Runtime), or auto: torch on a GPU, "
        "else onnx where the bundle has a graph",
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads for the models; absent: one for each core"
    )
    processes: int | None = Field(
        None,
        ge=1,
        le=64,
        description="worker processes, which take studies from one queue; absent: two where the models run "
        "in ONNX Runtime on more than one core, else one",
    )
    loaded_models: int | None = Field(
        None,
        ge=1,
        description="most models in the memory of a worker process, the last used ones; absent: all",
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


class ResultSettings(Section):
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
        928, ge=64, le=2048, description="longer side of each panel of a heat map image, in pixels"
    )
    overview: bool = Field(
        False,
        description="one heat map image for each study, its films with the five strongest findings outlined "
        "and named, in place of one for each finding",
    )
    compression: Literal["jpeg", "jpeg-ls", "rle", "none"] = Field(
        "jpeg",
        description="compression of heat map images: jpeg (JPEG Baseline, a tenth of the others), jpeg-ls "
        "or rle (lossless), none; a destination that does not take it gets them uncompressed",
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


class RetrievalSettings(Section):
    """Similar cases: the search in a reference set, for each study."""

    enabled: bool = Field(True, description="search for similar cases when there is an index")
    index: Path | None = Field(
        None,
        description="folder of the index; absent: indexes/NAME-VERSION of the bundle in data_dir, or else "
        "the one that the package ships",
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


class PriorSettings(Section):
    """Priors: search for the patient's previous chest film, and comparison with it."""

    source: str | None = Field(
        None, description="name of the destination to ask for the previous film; absent: off"
    )
    days: int = Field(1095, ge=1, description="greatest age of the previous film, in days")
    wait_seconds: Seconds = Field(
        60, description="most seconds that a complete study waits for its previous film"
    )


class SenderSettings(Section):
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
