"""Settings of a node, read from the environment and the configuration file, and nowhere else.

The environment (``DICOM_NODE_DICOM__PORT``) takes precedence over the TOML file given by ``--config``, and
the file over the defaults here and in :mod:`dicom_node.config.sections`. An unknown key is an error that
names the nearest known one.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from dicom_node.config import mistakes
from dicom_node.config.addresses import BrokerAddress, DatabaseAddress, is_loopback, without_password
from dicom_node.config.audit_trail import AuditTrailSettings
from dicom_node.config.deidentification import DeidentificationSettings
from dicom_node.config.destinations import (
    SENDER_ALIAS,
    AnyDestination,
    DicomDestination,
    DicomwebDestination,
    RoutingRule,
)
from dicom_node.config.private_files import check_private
from dicom_node.config.retention import RetentionSettings
from dicom_node.config.sections import (
    DicomSettings,
    OidcSettings,
    PriorSettings,
    ResultSettings,
    RetrievalSettings,
    SenderSettings,
    StudySettings,
    WorkerSettings,
)
from dicom_node.config.served_models import SHORT_FORM, ModelRole, ServedModel
from dicom_node.config.storage_check import StorageCheckSettings
from dicom_node.config.web import WebSettings
from dicom_node.errors import ConfigurationError

PREFIX = "DICOM_NODE_"
"""Beginning of the names of all environment variables."""


class Settings(BaseSettings):
    """Settings of a node; they cannot be changed.

    Raises
    ------
    pydantic.ValidationError
        By the constructor; :func:`load_settings` raises a :class:`ConfigurationError` instead.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        nested_model_default_partial_update=True,
    )

    data_dir: Path = Field(
        Path("data"),
        description="folder of all that the node keeps: received files, results, database",
    )
    broker_url: BrokerAddress | None = Field(
        None, description="address of a Redis or Valkey server; absent: serve starts its own"
    )
    database_url: DatabaseAddress | None = Field(
        None, description="database, as an SQLAlchemy address; absent: SQLite in data_dir"
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="least severe messages to log: DEBUG, INFO, WARNING or ERROR"
    )
    log_format: Literal["text", "json"] = Field("text", description="log lines: text or json")
    dicom: DicomSettings = DicomSettings()
    web: WebSettings = WebSettings()
    oidc: OidcSettings = OidcSettings()
    study: StudySettings = StudySettings()
    worker: WorkerSettings = WorkerSettings()
    results: ResultSettings = ResultSettings()
    retrieval: RetrievalSettings = RetrievalSettings()
    priors: PriorSettings = PriorSettings()
    sender: SenderSettings = SenderSettings()
    audit_trail: AuditTrailSettings = AuditTrailSettings()
    deidentification: DeidentificationSettings = DeidentificationSettings()
    storage_check: StorageCheckSettings = StorageCheckSettings()
    retention: RetentionSettings = RetentionSettings()
    models: tuple[ServedModel, ...] = ()
    destinations: tuple[AnyDestination, ...] = ()
    rules: tuple[RoutingRule, ...] = ()

    def variables(self) -> dict[str, str]:
        """Return environment variables from which :func:`load_settings` reads the same settings."""
        dumped = self.model_dump(mode="json", exclude_none=True)
        return {
            PREFIX + name.upper(): value if isinstance(value, str) else json.dumps(value)
            for name, value in dumped.items()
        }

    @model_validator(mode="after")
    def _check(self) -> Settings:
        names = [destination.name for destination in self.destinations]
        _check_names("destinations", names)
        _check_names("models", [each.name for each in self.models])
        if self.models and not self.primary_models:
            raise ValueError(
                'models: all are shadows, so nothing would be reported; give one role = "primary"'
            )
        self._check_rules({*names, SENDER_ALIAS})
        if self.priors.source is not None and self.priors.source not in names:
            raise ValueError(f"priors.source: no destination is named {self.priors.source!r}")
        if not (is_loopback(self.dicom.host) or self.dicom.known_peers or self.dicom.accept_unknown_peers):
            raise ValueError(
                f"dicom.host: {self.dicom.host} is reachable from other machines; list the peers in "
                "dicom.known_peers, or set dicom.accept_unknown_peers = true"
            )
        if self.web.login is False and (reason := self._reachable_by):
            raise ValueError(
                f"web.login: without a login every reader is an admin, and others reach the page by "
                f"{reason}; remove login = false"
            )
        return self

    def _check_rules(self, known: set[str]) -> None:
        for number, rule in enumerate(self.rules):
            if unknown := sorted({*rule.destinations} - known):
                raise ValueError(f"rules.{number}.destinations: no destination is named {unknown[0]!r}")
        _check_names("rules", [rule.name for rule in self.rules])
        if self.rules and sum(rule.fallback for rule in self.rules) != 1:
            raise ValueError(
                "rules: exactly one rule must have fallback = true, for studies that no other rule matches"
            )

    @property
    def served_models(self) -> tuple[ServedModel, ...]:
        """Models that read studies: ``models``, or ``worker.bundle`` alone where that is empty."""
        return self.models or (ServedModel(name=SHORT_FORM, bundle=self.worker.bundle),)

    @property
    def primary_models(self) -> tuple[ServedModel, ...]:
        """Those of the models whose results are sent."""
        return tuple(each for each in self.served_models if each.role is ModelRole.PRIMARY)

    @property
    def first_bundle(self) -> str:
        """Bundle of the first primary model that has one; ``worker.bundle`` where all are remote."""
        return next((each.bundle for each in self.primary_models if each.bundle), self.worker.bundle)

    def with_one_model(self, bundle: str | None = None) -> Settings:
        """Return settings with one model for all studies: a bundle, or the first primary model."""
        everything = {"calling_ae": (), "modality": (), "view": (), "min_age": None, "max_age": None}
        served = (
            self.primary_models[0].model_copy(update=everything)
            if bundle is None
            else ServedModel(name=SHORT_FORM, bundle=bundle)
        )
        return self.model_copy(update={"models": (served,)})

    @property
    def login_needed(self) -> bool:
        """True when readers of the page must log in."""
        return bool(self._reachable_by) if self.web.login is None else self.web.login

    @property
    def _reachable_by(self) -> str:
        """Setting by which others than the users of this machine reach the page; empty when there is none."""
        reasons = {
            f"web.host = {self.web.host}": not is_loopback(self.web.host),
            "web.https": self.web.https,
            "oidc.page_url": self.oidc.page_url is not None,
            "oidc.issuer": self.oidc.issuer is not None,
        }
        return next((setting for setting, given in reasons.items() if given), "")

    @property
    def database(self) -> str:
        """Address of the index database, for SQLAlchemy."""
        return self.database_url or f"sqlite:///{self.data_dir.resolve() / 'index.sqlite'}"

    @property
    def prior_source(self) -> DicomDestination | DicomwebDestination | None:
        """Destination that is asked for priors; None when priors are off."""
        return next((each for each in self.destinations if each.name == self.priors.source), None)

    @property
    def vectors_url(self) -> str | None:
        """Address of the PostgreSQL database with the vectors of the engine ``pgvector``."""
        return self.retrieval.database_url or self.database_url

    def index_of(self, bundle_folder: str) -> Path:
        """Return the folder of a bundle's index of reference cases, which need not exist.

        Parameters
        ----------
        bundle_folder
            Name of the bundle's folder: NAME-VERSION.
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
        One line for each mistake, with the key, the file or variable that sets it, and what would be right.
    """
    table = _read_toml(config) if config is not None else {}
    if config is not None and any(address != without_password(address) for address in _texts(table)):
        check_private(config, "--config")
    found = [f"{config}: {sentence}" for sentence in mistakes.unknown_keys([Settings], table)]
    found += mistakes.variable_mistakes(Settings, PREFIX, os.environ)
    if found:
        raise ConfigurationError("\n".join(found))

    class _FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    try:
        return _FromFile()
    except SettingsError as error:
        raise ConfigurationError(f"environment: {error}") from None
    except ValidationError as error:
        lines = [
            f"{_source(location, table, config)}: {sentence}"
            for location, sentence in mistakes.sentences(error, Settings)
        ]
        raise ConfigurationError("\n".join(lines)) from None


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of a table."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _texts(each)


def _read_toml(config: Path) -> dict[str, Any]:
    try:
        with config.open("rb") as stream:
            return tomllib.load(stream)
    except OSError as error:
        raise ConfigurationError(f"{config}: {error.strerror}; give --config a readable TOML file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{config}: not valid TOML: {error}") from None


def _source(location: Sequence[str], table: Mapping[str, Any], config: Path | None) -> str:
    """Return the beginning of a sentence: the variable or file that sets a key, and the key."""
    key = ".".join(location)
    variables = {name.upper(): name for name in os.environ}
    for length in range(len(location), 0, -1):
        name = PREFIX + "__".join(location[:length]).upper()
        if name in variables:
            return variables[name] if length == len(location) else f"{variables[name]}: {key}"
    if location and location[0] in table:
        return f"{config}: {key}"
    return key or "settings"


def _check_names(key: str, names: Sequence[str]) -> None:
    for number, name in enumerate(names):
        if name in names[:number]:
            raise ValueError(f"{key}.{number}.name: {name!r} is also the name of another entry; change one")
