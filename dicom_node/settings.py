"""The only reader of the configuration file and the environment, and the only home of defaults.

Environment (``DICOM_NODE_DICOM__PORT``) goes before the TOML file given by ``--config``, and that
before the default written here. An unknown key is an error that names the nearest right one.
"""

from __future__ import annotations

import difflib
import ipaddress
import json
import os
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from dicom_node.errors import ConfigurationError
from dicom_node.store.study import Confirmation

PREFIX = "DICOM_NODE_"
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
    role_claim: str = Field("roles", description="of the ID token: roles or groups; dots lead into claims")
    readers: tuple[str, ...] = Field(("dicom-node-reader",), description="which of them make a reader")
    admins: tuple[str, ...] = Field(("dicom-node-admin",), description="which of them make an admin")
    name_claim: str = Field("preferred_username", description="what a new reader is called by")
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
        if (
            parts.query
            or parts.fragment
            or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or "")))
        ):
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
        if parts.scheme == "http" and (self.token_file or self.user) and not is_loopback(parts.hostname):
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


class Settings(BaseSettings):
    """All settings of a node, frozen.

    Raises
    ------
    pydantic.ValidationError
        From the constructor; :func:`load_settings` turns it into a :class:`ConfigurationError`.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Field(Path("data"), description="spool, database, results and logs live here")
    broker_url: str | None = Field(None, description="redis:// address; absent: serve starts its own Valkey")
    database_url: str | None = Field(
        None, description="SQLAlchemy address; absent: SQLite in the data directory"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["text", "json"] = "text"
    dicom: DicomSettings = DicomSettings()
    web: WebSettings = WebSettings()
    oidc: OidcSettings = OidcSettings()
    study: StudySettings = StudySettings()
    worker: WorkerSettings = WorkerSettings()
    results: ResultSettings = ResultSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    priors: PriorSettings = PriorSettings()
    sender: SenderSettings = SenderSettings()
    destinations: tuple[AnyDestination, ...] = ()
    rules: tuple[Rule, ...] = ()

    def variables(self) -> dict[str, str]:
        """Return the environment variables that :func:`load_settings` reads these settings back from."""
        dumped = self.model_dump(mode="json", exclude_none=True)
        return {
            PREFIX + name.upper(): value if isinstance(value, str) else json.dumps(value)
            for name, value in dumped.items()
        }

    @model_validator(mode="after")
    def _check(self) -> Settings:
        names = [destination.name for destination in self.destinations]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"destinations: the name {twice[0]!r} stands twice; give each its own")
        self._check_rules({*names, SENDER})
        if self.priors.source is not None and self.priors.source not in names:
            raise ValueError(f"priors.source: no destination is named {self.priors.source!r}")
        if not (is_loopback(self.dicom.host) or self.dicom.known_peers or self.dicom.accept_unknown_peers):
            raise ValueError(
                f"dicom.host {self.dicom.host} is reachable from other machines: list the calling AEs in "
                "dicom.known_peers, or set dicom.accept_unknown_peers = true"
            )
        return self

    def _check_rules(self, known: set[str]) -> None:
        for rule in self.rules:
            if unknown := sorted({*rule.destinations} - known):
                raise ValueError(f"rules: {rule.name}: no destination is named {unknown[0]!r}")
        names = [rule.name for rule in self.rules]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"rules: the name {twice[0]!r} stands twice; give each its own")
        if self.rules and sum(rule.fallback for rule in self.rules) != 1:
            raise ValueError(
                "rules: one must have fallback = true, and say where a study goes that no other matches"
            )

    @property
    def login_needed(self) -> bool:
        """Whether the page asks who a reader is."""
        asked = self.oidc.issuer is not None or not is_loopback(self.web.host)
        return asked if self.web.login is None else self.web.login

    @property
    def database(self) -> str:
        """SQLAlchemy address of the index."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'index.sqlite'}"

    @property
    def prior_source(self) -> DicomDestination | DicomwebDestination | None:
        """Destination that is asked for priors; None when none are looked for."""
        return next((each for each in self.destinations if each.name == self.priors.source), None)

    @property
    def vectors_url(self) -> str | None:
        """Address of the PostgreSQL that holds vectors for the engine ``pgvector``."""
        return self.retrieval.database_url or self.database_url

    def index_of(self, bundle_folder: str) -> Path:
        """Folder of the index of reference cases of a bundle, which may not be there.

        Parameters
        ----------
        bundle_folder
            Name and version of the bundle, as its folder is called.
        """
        return self.retrieval.index or self.data_dir / "indexes" / bundle_folder

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Order the sources: arguments, environment, TOML file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def _is_origin(address: str) -> bool:
    parts = urlsplit(address)
    return parts.scheme in {"http", "https"} and address == f"{parts.scheme}://{parts.netloc}" != "http://"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server on `host`."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_settings(config: Path | None = None) -> Settings:
    """Read the settings from the environment and, when given, a TOML file.

    Parameters
    ----------
    config
        Path of the TOML file.

    Returns
    -------
    Settings

    Raises
    ------
    ConfigurationError
        One line a mistake, each naming the key, where it stands and what would be right.
    """
    table = _read_toml(config) if config is not None else {}
    mistakes = [f"{config}: {line}" for line in _unknown_keys([Settings], table)]
    mistakes += _unknown_variables(os.environ)
    if mistakes:
        raise ConfigurationError("\n".join(mistakes))

    class _FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    _FromFile.__name__ = "Settings"
    try:
        return _FromFile()
    except ValidationError as error:
        raise ConfigurationError("\n".join(_describe(error, table, config))) from None
    except SettingsError as error:
        raise ConfigurationError(f"environment: {error}; lists and tables are written as JSON") from None


def _read_toml(config: Path) -> dict[str, Any]:
    try:
        with config.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigurationError(f"{config}: {error.strerror}; give --config a readable TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config}: not TOML: {error}") from None


def _sections_of(annotation: Any) -> tuple[list[type[BaseModel]], bool]:
    """Return the models behind a field's annotation, and whether the field is a list of them."""
    if get_origin(annotation) is tuple:
        return _sections_of(get_args(annotation)[0])[0], True
    if get_origin(annotation) is Annotated:
        return _sections_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for part in get_args(annotation) for model in _sections_of(part)[0]], False
    is_model = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return ([annotation] if is_model else []), False


def _unknown_keys(
    models: Sequence[type[BaseModel]], table: Mapping[str, Any], path: str = ""
) -> Iterator[str]:
    fields = {key: field for model in models for key, field in model.model_fields.items()}
    for key, value in table.items():
        field = fields.get(key)
        if field is None:
            yield f"unknown key {path + key!r}{_nearest(key, fields, path)}"
            continue
        sections, many = _sections_of(field.annotation)
        for entry in value if many and isinstance(value, list) else [value]:
            if sections and isinstance(entry, Mapping):
                yield from _unknown_keys(sections, entry, f"{path}{key}.")


def _variables(model: type[BaseModel] = Settings, prefix: str = PREFIX) -> Iterator[str]:
    for key, field in model.model_fields.items():
        name = f"{prefix}{key.upper()}"
        yield name
        sections, many = _sections_of(field.annotation)
        for section in [] if many else sections:
            yield from _variables(section, f"{name}__")


def _unknown_variables(environment: Mapping[str, str]) -> list[str]:
    known = set(_variables())
    return [
        f"environment: unknown variable {name}{_nearest(name, known)}"
        for name in sorted(environment)
        if name.startswith(PREFIX) and name.upper() not in known
    ]


def _nearest(key: str, known: Mapping[str, Any] | set[str], path: str = "") -> str:
    found = difflib.get_close_matches(key, list(known), n=1, cutoff=0.5)
    return f"; did you mean {path + found[0]!r}?" if found else f"; known here: {', '.join(sorted(known))}"


def _describe(error: ValidationError, table: Mapping[str, Any], config: Path | None) -> Iterator[str]:
    for mistake in error.errors():
        location = [str(part) for part in mistake["loc"]]
        if location[:1] == ["destinations"]:
            del location[2:3]  # the kind
        variable = PREFIX + "__".join(location).upper()
        top = PREFIX + location[0].upper() if location else ""
        if variable in os.environ:
            where = variable
        elif top in os.environ:
            where = f"{top}: {'.'.join(location)}"
        elif location and location[0] in table:
            where = f"{config}: {'.'.join(location)}"
        else:
            where = ".".join(location) or "settings"
        shown = "" if isinstance(mistake["input"], dict | Settings) else f" (got {mistake['input']!r})"
        yield f"{where}: {mistake['msg'].removeprefix('Value error, ')}{shown}"
