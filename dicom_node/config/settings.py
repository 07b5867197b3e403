"""The only reader of the configuration file and the environment.

Environment (``DICOM_NODE_DICOM__PORT``) goes before the TOML file given by ``--config``, and that
before the defaults here and in :mod:`dicom_node.config.sections`. An unknown key is an error that names the
nearest right one.
"""

from __future__ import annotations

import difflib
import json
import os
import tomllib
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import (
    BaseModel,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from dicom_node.config.sections import (
    SENDER,
    AnyDestination,
    DicomDestination,
    DicomSettings,
    DicomwebDestination,
    OidcSettings,
    PriorSettings,
    ResultSettings,
    RetrievalSettings,
    Rule,
    SenderSettings,
    StudySettings,
    WebSettings,
    WorkerSettings,
    is_loopback,
)
from dicom_node.errors import ConfigurationError

PREFIX = "DICOM_NODE_"


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
