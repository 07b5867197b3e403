"""Section of the settings for the models that read studies: bundles and remote models, primary or shadow."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from dicom_node.config.addresses import is_confidential
from dicom_node.config.sections import Seconds, Section

SHORT_FORM = "worker.bundle"
"""Name of the one model of settings without ``[[models]]``: that of the setting that names it."""


class ModelRole(StrEnum):
    """Role of a model in a node."""

    PRIMARY = "primary"
    """Its results are written and sent."""
    SHADOW = "shadow"
    """Its answers are kept beside those of the primary models, and never leave the node."""


class ServedModel(Section):
    """Model that reads studies: a bundle, or a remote model that answers by HTTP (docs/models-in-a-node.md).

    It reads the studies that meet all of its conditions. The order in the settings is the order in which the
    reading room shows the primary models of a study.
    """

    name: str = Field(
        min_length=1, max_length=64, description="name of the entry, by which it is promoted, and in logs"
    )
    bundle: str | None = Field(None, description="model bundle: name of a shipped one, or a folder")
    url: str | None = Field(
        None,
        description="remote model instead of a bundle: root of its service, such as https://model.example",
    )
    role: ModelRole = Field(
        ModelRole.PRIMARY,
        description="primary: its results are sent; shadow: its answers are kept and never leave the node",
    )
    calling_ae: tuple[str, ...] = Field(
        (), description="AE titles of senders whose studies it reads (* and ? are wildcards); empty: all"
    )
    modality: tuple[str, ...] = Field(
        (), description="Modality (0008,0060) of the films that it reads, such as DX; empty: all"
    )
    view: tuple[Literal["frontal", "lateral", ""], ...] = Field(
        (), description='views of the films that it reads; "": not known; empty: all'
    )
    min_age: float | None = Field(
        None, ge=0, description="least age of the patient in years; absent: any, unknown too"
    )
    max_age: float | None = Field(
        None, ge=0, description="greatest age of the patient in years, below which it reads"
    )
    token_file: Path | None = Field(
        None, description="file that holds the bearer token for url; read again for every request"
    )
    tls_ca: Path | None = Field(
        None, description="PEM file of the authorities of url; absent: those of the system"
    )
    timeout_seconds: Seconds = Field(30, description="most seconds for one answer of url")
    retries: int = Field(2, ge=0, le=10, description="further tries when url does not answer")

    @model_validator(mode="after")
    def _check(self) -> ServedModel:
        if (self.bundle is None) == (self.url is None):
            raise ValueError("give either bundle or url")
        if self.url is None:
            if self.token_file or self.tls_ca:
                raise ValueError("token_file and tls_ca have no effect without url")
        else:
            _check_url(self.url)
        if self.min_age is not None and self.max_age is not None and self.min_age >= self.max_age:
            raise ValueError("min_age must be less than max_age")
        return self


@dataclass(frozen=True, slots=True)
class ModelState:
    """State of a model of the settings, for the reading room.

    Attributes
    ----------
    name, role, where
        Name and role of the entry, and its bundle or address.
    model
        Name and version of the model; empty while it is not known.
    problem
        What it last failed of, as one clause; empty while it reads.
    since
        Time of the last change, in seconds since the epoch.
    """

    name: str
    role: str
    where: str
    model: str = ""
    problem: str = ""
    since: float = 0.0

    @classmethod
    def of(cls, served: ServedModel) -> ModelState:
        """Return the state of a model that was not asked yet."""
        return cls(served.name, served.role.value, served.bundle or served.url or "")


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"url: {error}") from None
    web = parts.scheme in {"http", "https"} and bool(parts.hostname) and port != 0
    if not web or parts.query or parts.fragment or "v1" in parts.path.split("/"):
        raise ValueError(
            "url must be the root of a service, such as https://model.example, or http://127.0.0.1:8000 on "
            "this machine; /v1/model is asked below it"
        )
    if parts.username or parts.password:
        raise ValueError("url holds credentials: put a token in token_file")
    if not is_confidential(url):
        raise ValueError("http would send films unencrypted to another machine: use https")
